import Dispatch
import FoundationEssentials
import JobletModel
import StateStore
import Synchronization
import Testing

/// The stores of records that must behave alike.
enum StateBackend: String, CaseIterable, Sendable {
  case memory, sqlite

  /// - Parameter pageTime: nil for the store's own.
  func withStore(pageTime: Duration? = nil, _ body: (any StateStore) throws -> Void) throws {
    switch self {
    case .memory:
      try body(pageTime.map { MemoryStateStore(pageTime: $0) } ?? MemoryStateStore())
    case .sqlite:
      try withStateFolder { folder in
        let path = folder + "/state.db"
        let store = try pageTime.map { try SQLiteStateStore(path: path, pageTime: $0) } ?? SQLiteStateStore(path: path)
        try body(store)
        try store.close()
      }
    }
  }
}

/// A record made at millisecond `number` of some day.
func stateRecord(_ number: UInt64, _ status: JobStatus = .running, version: UInt64 = 1) -> JobRecord {
  let request = JobRequest(command: "true")
  let id = JobID(high: 0x0193_0000_0000_7000 + number << 16, low: 0x8000_0000_0000_0000)
  var record = JobRecord(
    id: id, request: request, status: status, createdAt: Timestamp(nanoseconds: Int64(number)), nodeID: "n",
    owner: "o")
  record.version = version
  return record
}

/// Every record that a query gives, page by page.
func allPages(_ store: any StateStore, _ query: RecordQuery) throws -> [JobRecord] {
  var query = query
  var found: [JobRecord] = []
  while true {
    let page = try store.list(query)
    #expect(page.records.count <= query.limit)
    found += page.records
    guard let next = page.next else { return found }
    #expect(query.before.map { next < $0 } ?? true, "every page gets on")
    query.before = next
  }
}

@Suite struct StateStoreConformance {
  @Test(arguments: StateBackend.allCases) func keepsTheNewestVersion(backend: StateBackend) throws {
    try backend.withStore { store in
      let id = stateRecord(1).id
      try store.put([stateRecord(1, version: 2)])
      try store.put([stateRecord(1, .failed, version: 1)])
      try store.put([stateRecord(1, .failed, version: 2)])
      #expect(try store.get(id) == stateRecord(1, version: 2))
      try store.put([stateRecord(1, .completed, version: 3), stateRecord(1, .paused, version: 1)])
      #expect(try store.get(id) == stateRecord(1, .completed, version: 3))
      #expect(try store.list(RecordQuery(statuses: [.running])).records.isEmpty, "no trace of the older version")
      #expect(try store.get(stateRecord(2).id) == nil)
      try store.sync()
      #expect(try store.delete(id))
      #expect(try !store.delete(id))
      #expect(try store.get(id) == nil)
      try store.put([])
    }
  }

  @Test(arguments: StateBackend.allCases) func keepsEveryField(backend: StateBackend) throws {
    var request = JobRequest(command: "sh")
    request.name = "näme"
    request.args = ["-c", "echo \"a\nb\"\t\\ \u{1}"]
    request.env = ["A": "1", "Ü": "é"]
    request.labels = ["team": "a/b"]
    var record = JobRecord(
      id: JobID(node: 7), request: request, status: .failed, createdAt: .now(), nodeID: "node", owner: "admin")
    record.version = 9
    record.exitCode = 3
    record.signal = 9
    record.reason = .oomKilled
    record.message = "out of memory"
    record.startedAt = .now()
    record.endedAt = .now()
    record.lastSeq = .max
    record.usage = JobUsage(cpuUsec: 1, memoryPeakBytes: .max)
    try backend.withStore { store in
      try store.put([record])
      #expect(try store.get(record.id) == record)
      #expect(try store.list(RecordQuery()).records == [record])
      let stored = try #require(try store.page(RecordQuery()).records.first)
      #expect(stored.id == record.id && stored.version == 9)
      #expect(try JSONDecoder().decode(JobRecord.self, from: stored.json) == record)
      let text = String(decoding: stored.json, as: UTF8.self)
      #expect(text.hasPrefix("{\"args\":") && text.contains("a/b"), "the form the API gives: \(text)")
    }
  }

  @Test(arguments: StateBackend.allCases) func listsNewestFirstInPages(backend: StateBackend) throws {
    try backend.withStore { store in
      var random = SeededNumbers(3)
      for number in Array(0..<200 as Range<UInt64>).shuffled(using: &random) {
        try store.put([stateRecord(number, number % 3 == 0 ? .failed : .running)])
      }
      let wanted = (0..<200 as Range<UInt64>).reversed().filter { $0 % 3 == 0 }.map { stateRecord($0).id }
      #expect(try allPages(store, RecordQuery(statuses: [.failed], limit: 7)).map(\.id) == wanted)
      #expect(try store.list(RecordQuery(statuses: [.failed], limit: 67)).next == nil, "the last page says so")
      #expect(try store.list(RecordQuery(statuses: [.failed], limit: 66)).next == wanted[65])
    }
  }

  /// Every kind of query against the one definition of what matches, on records that lie as awkwardly as they can: many in
  /// one millisecond, created at times that their IDs do not tell, changed and deleted in between.
  @Test(arguments: StateBackend.allCases, [nil, Duration.zero])
  func everyQueryGivesWhatMatches(backend: StateBackend, pageTime: Duration?) throws {
    try backend.withStore(pageTime: pageTime) { store in
      var random = SeededNumbers(41)
      var model: [JobID: JobRecord] = [:]
      for _ in 0..<60 {
        var batch: [JobRecord] = []
        for _ in 0..<Int.random(in: 1...20, using: &random) {
          let record = Self.randomRecord(&random)
          batch.append(record)
          if (model[record.id]?.version ?? 0) < record.version { model[record.id] = record }
        }
        try store.put(batch)
        if let gone = model.keys.sorted().randomElement(using: &random) {
          #expect(try store.delete(gone))
          model[gone] = nil
        }
      }
      for _ in 0..<400 {
        let query = Self.randomQuery(&random, among: model)
        let wanted = model.values.filter { query.matches($0) }.sorted { $0.id > $1.id }
        #expect(try allPages(store, query) == wanted, "\(query)")
      }
    }
  }

  private static let words = [
    "python3", "PYTHON", "train.py", "naïve", "ÄÖÜ", "\"quoted\"", "a'b", "日本語テスト", "100%", "back\\slash", "x_y", "ab",
    "OR", "AND NOT", "*", "(", "job", "-", "\u{0}nul",
  ]

  private static func randomRecord(_ random: inout SeededNumbers) -> JobRecord {
    func word() -> String { words.randomElement(using: &random) ?? "" }
    var request = JobRequest(command: word())
    request.args = (0..<Int.random(in: 0...3, using: &random)).map { _ in word() }
    if Bool.random(using: &random) { request.name = word() }
    if Bool.random(using: &random) { request.labels = ["team": word(), word(): "1"] }
    // Few enough for the same ID to come again, with another version, and for neighbours in one bucket.
    let id = JobID(
      high: (0x0193_0000_0000 + UInt64.random(in: 0..<40, using: &random)) << 16 | 0x7000
        | UInt64.random(in: 0..<64, using: &random) << 4,
      low: 0x8000_0000_0000_0000 + UInt64.random(in: 0..<4, using: &random))
    let made = Int64(id.high >> 16) * 1_000_000
    var record = JobRecord(
      id: id, request: request, status: JobStatus.allCases.randomElement(using: &random) ?? .queued,
      createdAt: Timestamp(nanoseconds: made + Int64.random(in: -5_000_000...5_000_000, using: &random)), nodeID: "n",
      owner: ["alice", "Bob"].randomElement(using: &random) ?? "")
    record.version = UInt64.random(in: 1...5, using: &random)
    return record
  }

  private static func randomQuery(_ random: inout SeededNumbers, among model: [JobID: JobRecord]) -> RecordQuery {
    var query = RecordQuery(limit: Int.random(in: 1...40, using: &random))
    let some = model.keys.sorted().randomElement(using: &random)
    if Bool.random(using: &random) {
      query.statuses = (0..<Int.random(in: 0...4, using: &random)).compactMap { _ in
        JobStatus.allCases.randomElement(using: &random)
      }
    }
    if Int.random(in: 0..<3, using: &random) == 0, let some { query.before = some }
    let times = model.values.map(\.createdAt).sorted()
    if Int.random(in: 0..<3, using: &random) == 0 { query.since = times.randomElement(using: &random) }
    if Int.random(in: 0..<3, using: &random) == 0 { query.until = times.randomElement(using: &random) }
    if Int.random(in: 0..<20, using: &random) == 0 { query.until = Timestamp(nanoseconds: .min) }
    if Int.random(in: 0..<20, using: &random) == 0 { query.since = Timestamp(nanoseconds: .max) }
    switch Int.random(in: 0..<4, using: &random) {
    case 0: query.text = words.randomElement(using: &random)
    case 1: query.text = some.map { String($0.description.suffix(Int.random(in: 1...36, using: &random))) }
    case 2:
      // Any part of a record's own text, in the other case.
      if let text = some.flatMap({ model[$0]?.searchText }) {
        let start = Int.random(in: 0..<text.count, using: &random)
        let part = String(text.dropFirst(start).prefix(Int.random(in: 1...40, using: &random)))
        query.text = String(part.map { $0.isASCII && $0.isLowercase ? Character($0.uppercased()) : $0 })
      }
    default: break
    }
    return query
  }

  @Test(arguments: StateBackend.allCases) func isReadWhileItIsWritten(backend: StateBackend) throws {
    // Each batch gives ten records a common version: no reader may see a batch in part, or go back in time.
    try backend.withStore { store in
      let newestFirst = (1...10 as ClosedRange<UInt64>).reversed().map { stateRecord($0).id }
      try store.put((1...10).map { stateRecord($0, version: 1) })
      let faults = Mutex<[String]>([])
      DispatchQueue.concurrentPerform(iterations: 4) { thread in
        do {
          if thread == 0 {
            for version in 2...300 as ClosedRange<UInt64> {
              try store.put((1...10).map { stateRecord($0, version: version) })
            }
            return
          }
          var last: UInt64 = 0
          while last < 300 {
            let records = try store.list(RecordQuery(text: thread == 1 ? "true" : nil)).records
            let versions = Set(records.map(\.version))
            guard records.map(\.id) == newestFirst, versions.count == 1, let version = versions.first, version >= last
            else { return faults.withLock { $0.append("\(versions) after \(last)") } }
            last = version
          }
        } catch {
          faults.withLock { $0.append("\(error)") }
        }
      }
      #expect(faults.withLock { $0 } == [])
    }
  }

  @Test func makesRoomAmongTheEnded() throws {
    let store = MemoryStateStore(capacity: 3)
    for (number, status) in [(1, JobStatus.running), (2, .failed), (3, .completed), (4, .running)] {
      store.put([stateRecord(UInt64(number), status)])
    }
    #expect(store.list(RecordQuery()).records.map(\.createdAt.nanoseconds) == [4, 3, 1])
  }
}
