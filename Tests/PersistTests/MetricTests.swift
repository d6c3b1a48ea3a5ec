import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

@Suite(.serialized) struct MetricTests {
  let job = Bench.job

  static func line(_ seq: UInt64) -> String {
    var sample = MetricSample(seq: seq, ts: Timestamp(nanoseconds: Int64(seq) * 1_000_000_000))
    sample.memoryBytes = Int64(seq) * 4096
    sample.cpuPercent = Double(seq) / 2
    return sample.line
  }

  static func frame(_ job: JobID, _ range: ClosedRange<UInt64>) -> [UInt8] {
    let header = FrameHeader(.metric, job: job, seq: range.lowerBound, count: UInt32(range.count))
    return Writer.frame(header, range.flatMap { Array(line($0).utf8) })
  }

  static func text(_ range: ClosedRange<UInt64>) -> [UInt8] { range.flatMap { Array(line($0).utf8) } }

  @Test func samplesAreAcknowledgedSealedAndGivenBackAsTheyCame() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output([Array("a line with the same number".utf8)])
    try writer.send(job, output.chunks)
    for seq in stride(from: 1, to: 1000, by: 3) as StrideTo<UInt64> {
      try writer.send(raw: Self.frame(job, seq...(seq + 2)))
    }
    try writer.awaitAck(.metric, job, 999)
    #expect(try await bench.metrics(MetricQuery(job: job, throughSeq: 999)) == Self.text(1...999))
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()

    let again = try Bench(bench.scratch)
    #expect(try await again.metrics(MetricQuery(job: job)) == Self.text(1...999))
    #expect(try await again.metrics(MetricQuery(job: job, after: 990, limit: 3)) == Self.text(991...993))
    // The counter goes on from the file's.
    let writer2 = try again.writer()
    try writer2.send(raw: Self.frame(job, 995...1002))
    try writer2.awaitAck(.metric, job, 1002)
    #expect(try await again.metrics(MetricQuery(job: job, after: 998)) == Self.text(999...1002))
    try await again.close()
  }

  @Test func samplesComeBackFromTheLogAndGoWithTheirJob() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(raw: Self.frame(job, 1...40))
    try writer.send(raw: Self.frame(job, 30...60))
    try writer.awaitAck(.metric, job, 60)
    await bench.crash()
    let again = try Bench(bench.scratch)
    #expect(try await again.metrics(MetricQuery(job: job)) == Self.text(1...60))
    let query = try await again.query()
    #expect(try await query.request(Frame(FrameHeader(.deleteJobData, job: job))).header.type == .done)
    await query.close()
    #expect(try await again.metrics(MetricQuery(job: job)).isEmpty)
    await again.crash()
    let last = try Bench(bench.scratch)
    #expect(try await last.metrics(MetricQuery(job: job)).isEmpty)
    try await last.close()
  }

  @Test func aGapIsRefusedOnceAndReportedWhenItIsFinal() async throws {
    let bench = try Bench()
    let first = try bench.writer()
    first.offer(raw: Self.frame(job, 1...5) + Self.frame(job, 8...9))
    #expect(try first.awaitClose().map(\.seq).max() == 5)
    #expect(bench.journal.has("sample 6 was expected"))
    let second = try bench.writer()
    try second.send(raw: Self.frame(job, 8...9))
    try second.awaitAck(.metric, job, 9)
    #expect(bench.journal.has("samples 6 to 7 are lost"))
    #expect(try await bench.metrics(MetricQuery(job: job)) == Self.text(1...5) + Self.text(8...9))
    try await bench.close()
  }

  @Test func whoIsToldOfSamplesThatAreNotHereIsToldSo() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(raw: Self.frame(job, 1...5))
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job, .completed))
    try writer.awaitAck(.record, job, 1)
    // The job has ended: what is not there will never be.
    #expect(try await bench.metrics(MetricQuery(job: job, throughSeq: 50)) == Self.text(1...5))
    try await bench.close()
  }

  /// Payloads that are not the samples their header says, and what the journal says of them.
  static let nonsense: [(seq: UInt64, count: UInt32, payload: String, journal: String)] = [
    (1, 2, line(1), "has 1"),
    (1, 1, line(1) + line(2), "more than"),
    (1, 1, line(2), "number 2"),
    (1, 1, "{}\n", "is no line"),
    (1, 1, String(line(1).dropLast()), "is no line"),
    (1, 1, "{\"seq\":1,\"ts\":\"2026-11-22T99:99:99.000000000Z\"}\n", "RFC 3339"),
    (0, 1, line(1), "impossible"),
    (1, 0, "", "impossible"),
    (.max, 2, line(1), "impossible"),
    (1, 1, "{\"seq\":99999999999999999999,\"ts\":\"1970-01-01T00:00:01.000000000Z\"}\n", "is no line"),
  ]

  @Test(arguments: nonsense.indices) func refusesNonsense(index: Int) async throws {
    let bench = try Bench()
    let (seq, count, payload, journal) = Self.nonsense[index]
    let writer = try bench.writer()
    writer.offer(raw: Writer.frame(FrameHeader(.metric, job: job, seq: seq, count: count), Array(payload.utf8)))
    #expect(try writer.awaitClose().isEmpty)
    #expect(bench.journal.has(journal), "\(bench.journal.all)")
    try await bench.close()
  }
}
