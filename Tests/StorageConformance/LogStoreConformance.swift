import FoundationEssentials
import Glibc
import JobletModel
import LocalStore
import LogStore
import Testing

/// The backends that must behave alike.
enum Backend: String, CaseIterable, Sendable {
  case memory, local

  func withStore(_ body: (any LogStore) throws -> Void) throws {
    switch self {
    case .memory: try body(MemoryLogStore())
    case .local:
      var template = Array("/tmp/joblet-store-XXXXXX".utf8CString)
      let directory = String(cString: mkdtemp(&template))
      defer { try? FileManager.default.removeItem(atPath: directory) }
      try body(try LocalLogStore(logs: directory + "/logs", metrics: directory + "/metrics"))
    }
  }
}

@Suite struct LogStoreConformance {
  static let job = JobID(high: 0x0193_0000_0000_7000, low: 0x8000_0000_0000_0001)

  /// Appends chunks as sealing does: some of each stream at a time, synced now and then.
  static func fill(_ store: any LogStore, _ chunks: [LogChunk], _ random: inout SeededNumbers) throws {
    var rest = chunks[...]
    while !rest.isEmpty {
      let some = rest.prefix(Int.random(in: 1...12, using: &random))
      rest = rest.dropFirst(some.count)
      for stream in StoredStream.logs {
        let part = some.filter { $0.info.stream == stream }
        if !part.isEmpty { try store.append(part, job: job, stream: stream) }
      }
      if Bool.random(using: &random) { try store.sync(job) }
    }
  }

  /// Everything a query gives, with the lines of `waiting` still in memory.
  static func ask(_ store: any LogStore, _ waiting: [LogChunk], _ query: LogQuery, batch: Int = 4096) throws -> [UInt8]
  {
    let scanner = try LogScanner(query, batchSize: batch) { stream, range, order in
      [
        try store.pages(job, stream, range, order),
        ChunkPages(
          waiting.filter { $0.info.stream == stream }, range: range, order: order, pageSize: 2000),
      ]
    }
    var answer: [UInt8] = []
    while true {
      switch try scanner.next() {
      case .lines(_, _, let bytes): answer += Array(bytes)
      case .gap(let first, let last): Issue.record("gap \(first)...\(last)")
      case .working: continue
      case .end: return answer
      }
    }
  }

  @Test(arguments: Backend.allCases, [1, 2, 3] as [UInt64])
  func answersEveryQueryAsTheSlowWayDoes(backend: Backend, seed: UInt64) throws {
    let sample = Sample(seed: seed, chunks: 120)
    var random = SeededNumbers(seed &* 77)
    try backend.withStore { store in
      // The end waits in memory, and some of it is in the store as well: as if a seal ran between the two looks.
      let sealed = sample.chunks.count * 2 / 3
      try Self.fill(store, Array(sample.chunks[..<sealed]), &random)
      let waiting = Array(sample.chunks[(sealed - 10)...])
      #expect(try Self.ask(store, waiting, LogQuery(job: Self.job)) == sample.lines.flatMap(\.json))
      for _ in 0..<400 {
        let query = sample.query(Self.job, &random)
        let answer = try Self.ask(store, waiting, query, batch: Int.random(in: 1...9000, using: &random))
        #expect(answer == sample.answer(query), "\(query)")
      }
    }
  }

  @Test(arguments: Backend.allCases) func knowsItsLastLines(backend: Backend) throws {
    let sample = Sample(seed: 9, chunks: 30)
    var random = SeededNumbers(5)
    try backend.withStore { store in
      #expect(try !store.contains(Self.job))
      #expect(try store.lastSeq(Self.job, .stdout) == 0)
      try Self.fill(store, sample.chunks, &random)
      try store.sync(Self.job)
      for stream in StoredStream.logs {
        let last = sample.lines.last { StoredStream($0.stream) == stream }?.seq
        #expect(try store.lastSeq(Self.job, stream) == last)
        store.forget(Self.job)
        #expect(try store.lastSeq(Self.job, stream) == last)
      }
      #expect(try store.contains(Self.job))
    }
  }

  @Test(arguments: Backend.allCases) func deletesForGood(backend: Backend) throws {
    let sample = Sample(seed: 4, chunks: 10)
    var random = SeededNumbers(6)
    try backend.withStore { store in
      try Self.fill(store, sample.chunks, &random)
      #expect(try store.delete(Self.job))
      #expect(try !store.delete(Self.job))
      #expect(try !store.contains(Self.job))
      #expect(try Self.ask(store, [], LogQuery(job: Self.job)).isEmpty)
      #expect(try store.lastSeq(Self.job, .stdout) == 0)
    }
  }

  @Test(arguments: Backend.allCases) func doesNotMixJobs(backend: Backend) throws {
    let sample = Sample(seed: 8, chunks: 10)
    try backend.withStore { store in
      let stdout = sample.chunks.filter { $0.info.stream == .stdout }
      try store.append(stdout, job: JobID(high: 1, low: 2), stream: .stdout)
      #expect(try Self.ask(store, [], LogQuery(job: Self.job)).isEmpty)
    }
  }

  @Test func refusesNonsense() {
    for query in [
      LogQuery(job: Self.job, tail: -1), LogQuery(job: Self.job, limit: -5), LogQuery(job: Self.job, offset: -1),
      LogQuery(job: Self.job, tail: 1_000_001),
    ] {
      #expect(throws: Problem.self) { try query.checkedStreams() }
    }
    var wrong = LogQuery(job: Self.job)
    wrong.stream = "stdin"
    #expect(throws: Problem.self) { try wrong.checkedStreams() }
  }
}
