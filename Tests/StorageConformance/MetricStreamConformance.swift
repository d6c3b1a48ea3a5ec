import JobletModel
import LogStore
import Testing

/// Metrics as the third stream of a job: whole JSON lines in, the same bytes out, beside the logs and never among them.
@Suite struct MetricStreamConformance {
  static let job = LogStoreConformance.job

  static func sample(_ seq: UInt64) -> MetricSample {
    var sample = MetricSample(seq: seq, ts: Timestamp(nanoseconds: 1_700_000_000_000_000_000 + Int64(seq) * 1_000_000))
    sample.cpuPercent = Double(seq) / 4
    sample.memoryBytes = Int64(seq) << 20
    return sample
  }

  static func chunk(_ seqs: ClosedRange<UInt64>) throws -> LogChunk {
    let lines = seqs.map { sample($0).line }.joined()
    return try Array(lines.utf8).withUnsafeBytes {
      LogChunk(try StoredChunkInfo(metrics: $0, firstSeq: seqs.lowerBound, count: UInt32(seqs.count)), copying: $0)
    }
  }

  static func read(_ pages: any LogPages) throws -> [UInt8] {
    var all: [UInt8] = []
    while true {
      switch try pages.next() {
      case .page: all += Array(try #require(try pages.load()))
      case .working: continue
      case .end: return all
      }
    }
  }

  @Test(arguments: Backend.allCases) func givesTheLinesByteForByte(backend: Backend) throws {
    try backend.withStore { store in
      #expect(try store.lastSeq(Self.job, .metrics) == 0)
      try store.append([Self.chunk(1...5), Self.chunk(6...6)], job: Self.job, stream: .metrics)
      try store.sync(Self.job)
      try store.append([Self.chunk(7...9)], job: Self.job, stream: .metrics)
      let expected = (1...9 as ClosedRange<UInt64>).flatMap { Array(Self.sample($0).line.utf8) }
      #expect(try Self.read(store.pages(Self.job, .metrics, LogRange(), .ascending)) == expected)
      #expect(try store.lastSeq(Self.job, .metrics) == 9)
      #expect(try store.lastSeq(Self.job, .stdout) == 0)
      #expect(try store.contains(Self.job))
      store.forget(Self.job)
      #expect(try store.lastSeq(Self.job, .metrics) == 9)
      #expect(try store.delete(Self.job))
      #expect(try !store.contains(Self.job))
      #expect(try store.lastSeq(Self.job, .metrics) == 0)
    }
  }

  @Test func waitingSamplesArePages() throws {
    let pages = ChunkPages([try Self.chunk(1...3), try Self.chunk(4...4)], range: LogRange())
    #expect(try Self.read(pages) == (1...4 as ClosedRange<UInt64>).flatMap { Array(Self.sample($0).line.utf8) })
    let info = LogPageInfo(summary: [try Self.chunk(1...3), try Self.chunk(4...4)])
    #expect(info.earliest == Self.sample(1).ts && info.latest == Self.sample(4).ts && info.count == 4)
  }

  @Test(arguments: [
    "", "{}\n", "{\"seq\":1}\n", "{\"seq\":2,\"ts\":\"2026-11-21T20:15:55.123456789Z\"}\n",
    "{\"seq\":1,\"ts\":\"2026-13-21T20:15:55.123456789Z\"}\n", "{\"seq\":1,\"ts\":\"2026-11-21T20:15:55.123456789Z\"}",
    "{\"seq\":1,\"ts\":\"2026-11-21T20:15:55.123456789Z\"}\n{\"seq\":2,\"ts\":\"2026-11-21T20:15:55.123456789Z\"}\n",
    "{\"seq\":1,\"xs\":\"2026-11-21T20:15:55.123456789Z\"}\n", "{\"seq\":1,\"ts\":\"2026-11-21T20:15:55.123456789Z\"\n",
    "{\"seq\":99999999999999999999,\"ts\":\"2026-11-21T20:15:55.123456789Z\"}\n",
  ])
  func refusesWhatIsNoMetricLine(text: String) {
    #expect(throws: MetricLinesFault.self) {
      try Array(text.utf8).withUnsafeBytes { _ = try StoredChunkInfo(metrics: $0, firstSeq: 1, count: 1) }
    }
  }
}
