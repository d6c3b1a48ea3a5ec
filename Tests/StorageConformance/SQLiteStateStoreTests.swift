import FoundationEssentials
import Glibc
import JobletModel
import StateStore
import Testing

/// A folder of its own for a test, gone afterwards.
func withStateFolder(_ body: (String) throws -> Void) throws {
  var template = Array("/tmp/joblet-state-XXXXXX".utf8CString)
  let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

/// What SQLite's file brings with it.
@Suite struct SQLiteStateStoreTests {
  private static func bytes(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: path)))
  }

  private static func write(_ bytes: some Sequence<UInt8>, _ path: String) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  @Test func keepsRecordsOverARestart() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let first = try SQLiteStateStore(path: path)
      try first.put((0..<50).map { stateRecord($0) })
      #expect(try first.delete(stateRecord(7).id))
      try first.close()
      var status = stat()
      #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o640)
      #expect(access(path + "-wal", F_OK) != 0, "everything is in the one file")
      let second = try SQLiteStateStore(path: path)
      let query = RecordQuery(text: "TRUE")
      #expect(
        try second.list(query).records.map(\.id) == (0..<50).reversed().filter { $0 != 7 }.map { stateRecord($0).id })
      try second.close()
    }
  }

  /// What a crash of the process leaves: the files as they are at any moment.
  @Test func losesNothingInACrash() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let store = try SQLiteStateStore(path: path)
      for round in 0..<20 as Range<UInt64> {
        // The first batches are large enough for SQLite's log to be moved in between.
        try store.put((0..<(round < 5 ? 900 : 3)).map { stateRecord(round * 1000 + $0) })
        if round % 4 == 0 { try store.sync() }
        let copy = "\(folder)/copy-\(round).db"
        for end in ["", "-wal"] where access(path + end, F_OK) == 0 {
          try FileManager.default.copyItem(atPath: path + end, toPath: copy + end)
        }
        let survivor = try SQLiteStateStore(path: copy)
        #expect(try survivor.get(stateRecord(round * 1000 + 2).id) != nil)
        #expect(
          try allPages(survivor, RecordQuery(text: "true", limit: 1000)).count == min(Int(round) + 1, 5) * 900 + max(
            0, Int(round) - 4) * 3)
        try survivor.close()
      }
      try store.close()
    }
  }

  /// What a power cut leaves of SQLite's log: some first part of it. Every batch is there or not, and none before a batch
  /// that is there is missing.
  @Test func aTornLogKeepsWholeBatches() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let store = try SQLiteStateStore(path: path)
      for batch in 0..<12 as Range<UInt64> { try store.put((0..<5).map { stateRecord(batch * 10 + $0) }) }
      let (database, log) = (try Self.bytes(path), try Self.bytes(path + "-wal"))
      try store.close()
      var random = SeededNumbers(5)
      for _ in 0..<60 {
        let copy = folder + "/torn.db"
        for end in ["", "-wal", "-shm"] { unlink(copy + end) }
        try Self.write(database, copy)
        var torn = Array(log.prefix(Int.random(in: 0...log.count, using: &random)))
        if Bool.random(using: &random), !torn.isEmpty {
          torn[Int.random(in: 0..<torn.count, using: &random)] ^= 0x55
        }
        try Self.write(torn, copy + "-wal")
        let survivor = try SQLiteStateStore(path: copy)
        let ids = try survivor.list(RecordQuery(limit: 1000)).records.map(\.id)
        #expect(ids.count % 5 == 0)
        let all = (0..<12 as Range<UInt64>).flatMap { batch in (0..<5).map { stateRecord(batch * 10 + $0).id } }
        #expect(ids.reversed() == Array(all.prefix(ids.count)))
        #expect(try survivor.list(RecordQuery(text: "true", limit: 1000)).records.map(\.id) == ids)
        try survivor.close()
      }
    }
  }

  @Test func refusesALaterVersionAndLeavesItAlone() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let store = try SQLiteStateStore(path: path)
      try store.put([stateRecord(1)])
      try store.close()
      var changed = try Self.bytes(path)
      changed[63] = 99  // the last byte of user_version in the file's header
      try Self.write(changed, path)
      let error = #expect(throws: StateStoreError.self) { try SQLiteStateStore(path: path) }
      #expect(error == .newerSchema(path: path, found: 99, known: 1))
      #expect(try Self.bytes(path) == changed)
    }
  }

  @Test func refusesAnotherProgramsDatabase() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      try SQLiteStateStore(path: path).close()
      var changed = try Self.bytes(path)
      changed[68] ^= 1  // application_id
      try Self.write(changed, path)
      let error = #expect(throws: StateStoreError.self) { try SQLiteStateStore(path: path) }
      guard case .foreign = error else { Issue.record("\(String(describing: error))"); return }
      #expect(try Self.bytes(path) == changed)
    }
  }

  @Test(arguments: ["garbage", "short", "cut", "link", "folder"])
  func saysWhatIsWrongWithTheFile(kind: String) throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let sound = folder + "/sound.db"
      let store = try SQLiteStateStore(path: sound)
      try store.put((0..<500).map { stateRecord($0) })
      try store.close()
      switch kind {
      case "garbage":
        var random = SeededNumbers(1)
        try Self.write((0..<8192).map { _ in UInt8.random(in: 0...255, using: &random) }, path)
      case "short": try Self.write("SQLite format 3\0".utf8, path)
      case "cut": try Self.write(Self.bytes(sound).dropLast(20_000), path)
      case "link": symlink(sound, path)
      default: mkdir(path, 0o700)
      }
      let error = try #require(#expect(throws: StateStoreError.self) { try SQLiteStateStore(path: path) })
      #expect(!error.isPassing || kind == "folder")
      #expect("\(error)".contains(path) && (kind == "folder" || "\(error)".contains("move")), "\(error)")
    }
  }

  /// Damage in the middle: every call works or says what is wrong, and none traps.
  @Test func damageIsToldNotSuffered() throws {
    try withStateFolder { folder in
      let path = folder + "/state.db"
      let store = try SQLiteStateStore(path: path)
      try store.put((0..<300).map { stateRecord($0, $0 % 2 == 0 ? .failed : .running) })
      try store.close()
      let sound = try Self.bytes(path)
      var random = SeededNumbers(77)
      var told = 0
      for _ in 0..<200 {
        let copy = folder + "/damaged.db"
        for end in ["", "-wal", "-shm"] { unlink(copy + end) }
        var bytes = sound
        for _ in 0..<Int.random(in: 1...20, using: &random) {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        try Self.write(bytes, copy)
        do {
          let damaged = try SQLiteStateStore(path: copy)
          defer { try? damaged.close() }
          for query in [
            RecordQuery(), RecordQuery(statuses: [.failed]), RecordQuery(text: "true"), RecordQuery(text: "e"),
          ] {
            _ = try damaged.list(query)
          }
          try damaged.put([stateRecord(1000), stateRecord(5, .stopped, version: 2)])
          _ = try damaged.delete(stateRecord(9).id)
          try damaged.sync()
        } catch let error as StateStoreError {
          told += 1
          #expect("\(error)".contains(copy))
        }
      }
      #expect(told > 20)
    }
  }

  @Test func aDatabaseThatIsInUseElsewhereIsWaitedFor() throws {
    try withStateFolder { folder in
      // Two stores of one file, as a shell on the database would be: neither loses what the other put.
      let (first, second) = (
        try SQLiteStateStore(path: folder + "/state.db"), try SQLiteStateStore(path: folder + "/state.db")
      )
      for number in 0..<20 as Range<UInt64> {
        try (number % 2 == 0 ? first : second).put([stateRecord(number)])
      }
      #expect(try first.list(RecordQuery()).records.count == 20)
      try first.close()
      #expect(try second.list(RecordQuery()).records.count == 20)
      try second.close()
    }
  }
}
