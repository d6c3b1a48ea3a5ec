import JobletModel
import JobletWire
import StateStore
import Testing

/// Records on disk, behind the real engine.
@Suite(.serialized) struct RecordRestartTests {
  private func store(_ scratch: Scratch) throws -> SQLiteStateStore {
    try SQLiteStateStore(path: scratch.path + "/persist/state.db")
  }

  private static func id(_ number: UInt64) -> JobID { JobID(high: (0x0193_0000_0000 + number) << 16 | 0x7000, low: 1) }

  /// Every record there is, as the query socket gives them.
  private func listed(_ bench: Bench, _ query: RecordQuery) async throws -> [JobRecord] {
    let connection = try await bench.query()
    var query = query
    var found: [JobRecord] = []
    while true {
      try await connection.send(Frame(FrameHeader(.listRecords), json: query))
      var frame = try await connection.reply()
      while frame.header.type == .record {
        let record: JobRecord = try frame.decode()
        #expect(record.id == frame.header.job && record.version == frame.header.seq)
        found.append(record)
        frame = try await connection.reply()
      }
      guard let next = try frame.decode(RecordsEnd.self).next else { break }
      query.before = next
    }
    await connection.close()
    return found
  }

  @Test(arguments: [false, true]) func recordsOutliveTheDaemon(isKilled: Bool) async throws {
    let scratch = Scratch()
    var all: [JobRecord] = []
    // Three lives, each with more jobs; the last version of each record is what stays.
    for life in 0..<3 as Range<UInt64> {
      let records = try store(scratch)
      let bench = try Bench(scratch, store: records)
      #expect(try await listed(bench, RecordQuery(limit: 1000)) == all.reversed())
      let writer = try bench.writer()
      for number in life * 100..<life * 100 + 100 {
        for (version, status) in [(1, JobStatus.running), (2, number % 2 == 0 ? .completed : .failed)]
          as [(UInt64, JobStatus)]
        {
          let record = RecoveryTests.record(Self.id(number), version: version, status)
          try writer.send(.record, job: record.id, seq: version, json: record)
          if version == 2 { all.append(record) }
        }
      }
      try writer.awaitAck(.record, Self.id(life * 100 + 99), 2)
      if isKilled { await bench.crash() } else { try await bench.close() }
      try records.close()
    }
    let records = try store(scratch)
    let bench = try Bench(scratch, store: records)
    #expect(try await listed(bench, RecordQuery(limit: 1000)) == all.reversed())
    #expect(
      try await listed(bench, RecordQuery(statuses: [.failed], text: "true", limit: 7))
        == all.reversed().filter { $0.status == .failed })
    try await bench.close()
    try records.close()
  }

  @Test func whatWasDeletedStaysDeleted() async throws {
    let scratch = Scratch()
    let records = try store(scratch)
    let bench = try Bench(scratch, store: records)
    let writer = try bench.writer()
    for number in 0..<3 as Range<UInt64> {
      let record = RecoveryTests.record(Self.id(number), .completed)
      try writer.send(.record, job: record.id, seq: 1, json: record)
    }
    try writer.awaitAck(.record, Self.id(2), 1)
    let connection = try await bench.query()
    _ = try await connection.request(Frame(FrameHeader(.deleteJobData, job: Self.id(1))))
    await connection.close()
    await bench.crash()
    try records.close()
    let later = try store(scratch)
    let again = try Bench(scratch, store: later)
    #expect(try await listed(again, RecordQuery()).map(\.id) == [Self.id(2), Self.id(0)])
    try await again.close()
    try later.close()
  }
}
