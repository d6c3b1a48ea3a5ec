import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

@Suite(.serialized) struct SweeperTests {
  static let day: Int64 = 86_400_000_000_000

  /// A job's ID made so many days ago.
  static func job(_ daysAgo: Int64, _ number: UInt64 = 0) -> JobID {
    JobID(now: Timestamp(nanoseconds: Timestamp.now().nanoseconds - daysAgo * day), node: 1, random: number)
  }

  /// Writes a job that ended so many days ago (nil: it runs), and waits until all of it is acknowledged.
  static func write(_ job: JobID, _ output: Output, ended daysAgo: Int64?, to writer: Writer) throws {
    try writer.send(job, output.chunks)
    var record = RecoveryTests.record(job, daysAgo == nil ? .running : .completed)
    if let daysAgo {
      let end = Timestamp(nanoseconds: Timestamp.now().nanoseconds - daysAgo * day)
      (record.createdAt, record.endedAt) = (end, end)
      try writer.end(job, output.last)
    }
    try writer.send(.record, job: job, seq: 1, json: record)
    try writer.awaitAck(.record, job, 1)
  }

  /// Sweeps through the query socket, as the command does.
  static func sweep(_ bench: Bench, _ request: SweepRequest) async throws -> (jobs: [SweptJob], totals: SweepTotals) {
    let connection = try await bench.query()
    try await connection.send(Frame(FrameHeader(.sweep), json: request))
    var jobs: [SweptJob] = []
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done {
        await connection.close()
        return (jobs, try frame.decode())
      }
      #expect(frame.header.type == .sweep)
      jobs += try frame.decode([SweptJob].self)
    }
  }

  @Test func whatIsTooOldGoesAndStaysGone() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 41, chunks: 40)
    let (old, young, running, silent) = (Self.job(10), Self.job(2), Self.job(20), Self.job(11))
    try Self.write(old, output, ended: 9, to: writer)
    try Self.write(young, output, ended: 1, to: writer)
    try Self.write(running, output, ended: nil, to: writer)
    var nothing = Output([])
    nothing.chunks = []
    nothing.json = []
    try Self.write(silent, nothing, ended: 9, to: writer)  // it printed nothing: a record alone

    let plan = try await Self.sweep(bench, SweepRequest(dryRun: true, days: 7))
    let there = try await bench.ask(LogQuery(job: old)).lines
    #expect(there == output.all)  // a dry run removes nothing
    let done = try await Self.sweep(bench, SweepRequest(dryRun: false, days: 7))
    for sweep in [plan, done] {
      #expect(Set(sweep.jobs.map(\.job)) == [old, silent])
      #expect(sweep.jobs.allSatisfy { $0.reason == .age })
      #expect(sweep.totals.removedJobs == 2 && sweep.totals.failedJobs == 0)
      #expect(sweep.totals.bounds.days == 7)
    }
    #expect(try await Self.sweep(bench, SweepRequest(dryRun: true, days: 7)).jobs.isEmpty)
    #expect(try await bench.ask(LogQuery(job: old)).lines.isEmpty)
    let query = try await bench.query()
    for job in [old, silent] {
      await #expect(throws: Problem.self) { try await query.request(Frame(FrameHeader(.getRecord, job: job))) }
    }
    await query.close()
    // Neither a sender that is late nor a replay brings it back.
    try writer.send(old, output.chunks)
    try writer.awaitAck(.log, old, output.last)
    await bench.crash()
    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: old)).lines.isEmpty)
    #expect(try await again.ask(LogQuery(job: young)).lines == output.all)
    #expect(try await again.ask(LogQuery(job: running)).lines == output.all)
    try await again.close()
  }

  @Test func theOldestGoUntilAllFits() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let jobs = (1...6).map { Self.job(Int64($0)) }  // the last began first
    let output = Output((0..<2000).map { Array("line \($0) \($0 &* 2_654_435_761)".utf8) })
    for (index, job) in jobs.enumerated() { try Self.write(job, output, ended: Int64(index + 1), to: writer) }
    try bench.engine.checkpoint()
    try await bench.untilSealed(UInt64(jobs.count) * output.last)
    let all = try await Self.sweep(bench, SweepRequest(dryRun: true, maxBytes: 1)).totals
    #expect(all.removedJobs == jobs.count && all.removedBytes > 10_000)
    let bound = all.removedBytes / Int64(jobs.count) * 4 + 100
    let swept = try await Self.sweep(bench, SweepRequest(dryRun: false, maxBytes: bound))
    #expect(swept.jobs.map(\.job) == [jobs[5], jobs[4]])
    #expect(swept.totals.keptBytes <= bound && swept.totals.keptJobs == 4)
    for (index, job) in jobs.enumerated() {
      #expect(FileManager.default.fileExists(atPath: bench.scratch.file(job, "stdout")) == (index < 4))
    }
    try await bench.close()
  }

  @Test func aJobTooLargeGoesOnceItHasEnded() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output((0..<3000).map { Array("line \($0) \($0 &* 2_654_435_761)".utf8) })
    let (running, small) = (Self.job(0, 1), Self.job(0, 2))
    try Self.write(running, output, ended: nil, to: writer)
    try Self.write(small, Output([Array("hi".utf8)]), ended: 0, to: writer)
    var request = SweepRequest(dryRun: false, maxBytesPerJob: 4096)
    #expect(try await Self.sweep(bench, request).jobs.isEmpty)
    try writer.end(running, output.last)
    var record = RecoveryTests.record(running, .completed)
    record.version = 2
    try writer.send(.record, job: running, seq: 2, json: record)
    try writer.awaitAck(.record, running, 2)
    try await bench.untilSealed(output.last + 1)
    let swept = try await Self.sweep(bench, request)
    #expect(swept.jobs.map(\.job) == [running] && swept.jobs.map(\.reason) == [.jobBytes])
    request.dryRun = true
    #expect(try await Self.sweep(bench, request).totals.keptJobs == 1)
    try await bench.close()
  }

  @Test func strangersAndHandsUpsetNothing() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 42, chunks: 30)
    let (first, second) = (Self.job(30, 1), Self.job(30, 2))
    try Self.write(first, output, ended: 30, to: writer)
    try Self.write(second, output, ended: 30, to: writer)
    try await bench.untilSealed(2 * output.last)
    let logs = bench.scratch.path + "/logs"
    // Directories that are no jobs, a file and a link with a job's name; and a job that someone removed by hand.
    try FileManager.default.createDirectory(atPath: logs + "/lost+found", withIntermediateDirectories: false)
    try bench.scratch.write([1], to: logs + "/\(Self.job(99, 3))")
    try FileManager.default.createSymbolicLink(
      atPath: logs + "/\(Self.job(99, 4))", withDestinationPath: bench.scratch.path)
    #expect(try await Self.sweep(bench, SweepRequest(dryRun: true, days: 7)).totals.removedJobs == 2)
    try FileManager.default.removeItem(atPath: logs + "/\(first)")
    let swept = try await Self.sweep(bench, SweepRequest(dryRun: false, days: 7))
    #expect(Set(swept.jobs.map(\.job)) == [first, second] && swept.totals.failedJobs == 0)
    let left = Set(try FileManager.default.contentsOfDirectory(atPath: logs))
    #expect(left.count == 3 && left.contains("lost+found"))
    #expect(FileManager.default.fileExists(atPath: bench.scratch.path + "/persist/wal"))
    try await bench.close()
  }

  @Test func aJobWithoutARecordStaysWhileItMayRun() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 43, chunks: 10)
    let job = Self.job(40)
    try writer.send(job, output.chunks)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    try await bench.untilSealed(output.last)
    try bench.engine.checkpoint()
    #expect(try await Self.sweep(bench, SweepRequest(dryRun: true, maxBytes: 1)).jobs.isEmpty)
    // Nothing was written of it for two days: it has ended, whatever became of its record.
    for stream in ["stdout", "stderr"] {
      var times = [timespec(), timespec()]
      for index in times.indices { times[index].tv_sec = time(nil) - 2 * 86_400 }
      utimensat(AT_FDCWD, bench.scratch.file(job, stream), &times, 0)
    }
    #expect(try await Self.sweep(bench, SweepRequest(dryRun: false, maxBytes: 1)).jobs.map(\.job) == [job])
    try await bench.close()
  }

  @Test(arguments: [
    SweepRequest(dryRun: true, days: -1), SweepRequest(dryRun: true, days: .max),
    SweepRequest(dryRun: false, maxBytesPerJob: -1), SweepRequest(dryRun: false, maxBytes: .min),
  ])
  func refusesBoundsThatMakeNoSense(request: SweepRequest) async throws {
    let bench = try Bench()
    await #expect(throws: Problem.self) { try await Self.sweep(bench, request) }
    #expect(try await Self.sweep(bench, SweepRequest(dryRun: true)).jobs.isEmpty)
    try await bench.close()
  }

  @Test func pingTellsSinceWhenDataIsKept() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let connection = try await bench.query()
    func oldest() async throws -> Timestamp? {
      try await connection.request(Frame(FrameHeader(.ping))).decode(PingReply.self).oldest
    }
    #expect(try await oldest() == nil)
    let (old, young) = (Self.job(10), Self.job(2))
    func began(_ job: JobID) -> Timestamp { Timestamp(nanoseconds: Int64(job.high >> 16) * 1_000_000) }
    try Self.write(young, Output(seed: 44, chunks: 3), ended: 1, to: writer)
    #expect(try await oldest() == began(young))
    try Self.write(old, Output(seed: 45, chunks: 3), ended: 9, to: writer)
    try await bench.untilSealed(Output(seed: 44, chunks: 3).last + Output(seed: 45, chunks: 3).last)
    _ = try await Self.sweep(bench, SweepRequest(dryRun: true, days: 30))
    #expect(try await oldest() == began(old))
    _ = try await Self.sweep(bench, SweepRequest(dryRun: false, days: 7))
    #expect(try await oldest() == began(young))
    await connection.close()
    try await bench.close()
  }
}

extension Bench {
  /// Waits until so many lines and samples are in files.
  func untilSealed(_ lines: UInt64) async throws {
    let deadline = ContinuousClock.now + .seconds(20)
    while try Exposition(engine.statistics()).value("joblet_persist_sealed_lines_total") < Double(lines) {
      try #require(ContinuousClock.now < deadline, "not sealed in 20 s")
      await Task.yield()
    }
  }
}
