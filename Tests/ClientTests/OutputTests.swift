import ArgumentParser
import FoundationEssentials
import Glibc
import HTTPClient
import JobletClient
import JobletModel
import RnxCommands
import Testing

@Suite struct OutputTests {
  static func end(_ status: JobStatus, _ reason: JobReason? = nil, code: Int? = nil, signal: Int? = nil) -> JobEnd {
    var record = JobClientFixture.record
    record.status = status
    record.reason = reason
    record.exitCode = code
    record.signal = signal
    return JobEnd(record)
  }

  static let ends: [(JobEnd, Int32)] = [
    (end(.completed, code: 0), 0),
    (end(.failed, .exitCode, code: 3), 3),
    (end(.failed, .exitCode, code: 255), 255),
    (end(.failed, .signal, signal: 11), 139),
    (end(.failed, .oomKilled, signal: 9), 137),
    (end(.failed, .timeout, signal: 15), 124),
    (end(.failed, .timeout, code: 0), 124),
    (end(.failed, .setupFailed, code: 127), 127),
    (end(.failed, .setupFailed, code: 126), 126),
    (end(.failed, .setupFailed), 125),
    (end(.stopped, signal: 15), 143),
    (end(.stopped, code: 4), 4),
    (end(.stopped), 125),
    (end(.canceled), 125),
    (end(.failed, .initLost), 125),
    (end(.failed, .nodeLost), 125),
    (end(.failed, .nodeRestarted), 125),
  ]

  @Test(arguments: ends)
  func `the exit code is the job's`(end: JobEnd, code: Int32) {
    #expect(ExitCodes.code(for: end) == code)
    let saysItAll = end.reason == .exitCode || end.status == .completed
    #expect((ExitCodes.explanation(end) == nil) == saysItAll)
  }

  /// What is said of a killed job by a node that answers so.
  private func lastWords(
    _ status: String, _ body: String, _ end: JobEnd = OutputTests.end(.failed, .oomKilled, signal: 9)
  ) async throws -> String {
    let server = TestServer { _, _, connection in
      connection.reply(status, ["Content-Type: application/json"], body)
    }
    defer { server.stop() }
    let client = try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
    let job = JobClientFixture.record.id
    return await JobRun.lastWords(end, "it was killed", of: job, client)
  }

  @Test func `why a job ended is told in the node's words, and without them if it has none to give`() async throws {
    var record = JobClientFixture.record
    record.message = "over 64 MiB"
    #expect(try await lastWords("200 OK", JobletClientTests.json(record)) == "the job failed: over 64 MiB")
    record.message = nil
    #expect(try await lastWords("200 OK", JobletClientTests.json(record)) == "it was killed")
    // What our own words end with is not said twice.
    record.message = "was killed"
    #expect(try await lastWords("200 OK", JobletClientTests.json(record)) == "it was killed")
    record.message = "exec failed: ENOENT"
    let missing = try await lastWords(
      "200 OK", JobletClientTests.json(record), Self.end(.failed, .setupFailed, code: 127))
    #expect(missing.hasPrefix("it was killed: exec failed: ENOENT; the job sees no file of yours"))
    // A node that restarts just now does not hide how the job ended.
    let words = try await lastWords("503 Service Unavailable", "exec is away")
    #expect(words == "it was killed (the node could not be asked for more: exec is away)")
  }

  static func line(_ seq: UInt64, _ text: String, _ stream: LogStream = .stdout, partial: Bool = false) -> LogLine {
    let field = partial ? ",\"partial\":true" : ""
    let json =
      "{\"seq\":\(seq),\"ts\":\"2026-11-21T20:15:55.123456789Z\",\"stream\":\"\(stream.name)\"\(field),\"line\":\"\(text)\"}"
    return LogLine(json: Array(json.utf8))!
  }

  @Test func `one is one, and nothing is many`() {
    #expect((0...2).map { Words.count($0, "day") } == ["0 days", "1 day", "2 days"])
  }

  @Test func `a reader that left ends it quietly, a full disk does not`() {
    #expect(Terminal.error(0) == nil)
    #expect((Terminal.error(EPIPE) as? ExitCode)?.rawValue == 141)
    #expect((Terminal.error(ENOSPC) as? Failure)?.why == "No space left on device")
  }

  @Test func `streams stay apart, in order, byte for byte`() {
    var batch = PrintBatch()
    batch.append(Self.line(1, "a"))
    batch.append(Self.line(2, "b", partial: true))
    batch.append(Self.line(3, "c"))
    batch.append(Self.line(4, "e", .stderr))
    batch.append(Self.line(5, "d"))
    let runs = batch.take()
    #expect(runs.map(\.stream) == [.stdout, .stderr, .stdout])
    #expect(runs.map { String(decoding: $0.bytes, as: UTF8.self) } == ["a\nbc\n", "e\n", "d\n"])
    #expect(batch.take().isEmpty)
  }

  @Test func `a time stands before a line, not inside one`() {
    var batch = PrintBatch(timestamps: true)
    for line in [
      Self.line(1, "a", partial: true), Self.line(2, "x", .stderr), Self.line(3, "b"), Self.line(4, "c"),
    ] { batch.append(line) }
    let time = "2026-11-21T20:15:55.123456789Z "
    #expect(
      batch.take().map { String(decoding: $0.bytes, as: UTF8.self) } == ["\(time)a", "\(time)x\n", "b\n\(time)c\n"])
  }

  @Test func `JSON lines are the encoder's own`() {
    var batch = PrintBatch(json: true)
    batch.append(Self.line(1, "a\\\"b", .stderr))
    #expect(
      batch.take().map { String(decoding: $0.bytes, as: UTF8.self) } == [
        "{\"seq\":1,\"ts\":\"2026-11-21T20:15:55.123456789Z\",\"stream\":\"stderr\",\"line\":\"a\\\"b\"}\n"
      ])
  }

  @Test(arguments: [60, 80, 100, 200])
  func `a table fits the terminal`(width: Int) {
    let now = Timestamp(nanoseconds: 1_700_000_100_000_000_000)
    let jobs = (0..<20).map { number in
      var job = JobClientFixture.record
      job.id = JobID(now: now, node: 1, random: UInt64(number) &* 0x9E37_79B9_7F4A_7C15)
      job.args = ["-c", String(repeating: "long argument ", count: number)]
      return job
    }
    let lines = JobTable.lines(jobs, width: width, now: now)
    #expect(lines.count == 21)
    #expect(lines.allSatisfy { $0.count <= width }, "\(lines.map(\.count))")
    let ids = Set(lines.dropFirst().map { $0.prefix { $0 != " " } })
    #expect(ids.count == 20)
    for (line, job) in zip(lines.dropFirst(), jobs) {
      #expect(job.id.description.hasPrefix(line.prefix { $0 != " " }))
    }
  }

  @Test func `a table that goes to a file is not cut`() {
    var job = JobClientFixture.record
    job.args = [String(repeating: "x", count: 500)]
    let lines = JobTable.lines([job], width: nil, now: .now())
    #expect(lines[1].contains(job.id.description) && lines[1].hasSuffix(job.args[0]))
  }

  @Test func `a job's words can't steer the terminal`() {
    var job = JobClientFixture.record
    job.args = ["\u{1B}]0;title\u{7}", "a\nb\u{9B}31m"]
    job.message = "\u{1B}[2J"
    let text = (JobTable.lines([job], width: nil, now: .now()) + JobSheet.lines(job, now: .now())).joined()
    #expect(!text.unicodeScalars.contains { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) })
  }

  @Test func `a sheet tells what is known and nothing else`() {
    var job = JobClientFixture.record
    job.name = "build"
    job.secretEnv = ["TOKEN": JobRecord.maskedSecret]
    job.status = .failed
    job.reason = .exitCode
    job.exitCode = 3
    job.startedAt = Timestamp(nanoseconds: job.createdAt.nanoseconds + 2_000_000)
    job.endedAt = Timestamp(nanoseconds: job.createdAt.nanoseconds + 3_502_000_000)
    job.usage = JobUsage(cpuUsec: 1500, memoryPeakBytes: 3 << 20)
    let lines = JobSheet.lines(job, now: job.createdAt)
    #expect(lines.contains("Status:  FAILED: exit code 3, after 3.5s"))
    #expect(lines.contains("Secret:  TOKEN=***"))
    #expect(lines.contains("Used:    1ms of CPU time, 3 MiB of memory at most"))
    #expect(!lines.contains { $0.hasPrefix("Limits") || $0.hasPrefix("Time-out") || $0.hasPrefix("Message") })
  }

  @Test(
    arguments: [
      (.oomKilled, "for reaching its memory limit of 48 MiB", "FAILED: for reaching its memory limit of 48 MiB"),
      (.setupFailed, "pivot_root: x (EPERM)", "FAILED: it could not be started: pivot_root: x (EPERM)"),
      (.seccompViolation, "it made reboot", "FAILED: it made reboot"), (.timeout, nil, "FAILED: its time-out fired"),
      (.signal, "ended by signal 9", "FAILED: ended by SIGKILL"),
      (.signal, "the node ran out of memory", "FAILED: the node ran out of memory"),
    ] as [(JobReason, String?, String)])
  func `the state says in a sentence why it ended`(reason: JobReason, message: String?, said: String) {
    var job = JobClientFixture.record
    job.status = .failed
    job.reason = reason
    job.message = message
    job.signal = reason == .signal ? 9 : nil
    let lines = JobSheet.lines(job, now: job.createdAt)
    let status = lines.first { $0.hasPrefix("Status:") } ?? "none"
    #expect(status.contains(said), "\(status)")
    #expect(
      !lines.contains { $0.hasPrefix("Message") && $0.contains(message ?? "-") && status.contains(message ?? "-") })
  }

  @Test func `the limits are shown as applied`() {
    var job = JobClientFixture.record
    job.limits = Limits(cpuPercent: 50, cpuWeight: 7, cpuCores: "0-1", memoryHighMB: 5, ioBps: 1 << 20)
    #expect(
      JobSheet.lines(job, now: job.createdAt).contains {
        $0.hasSuffix("50 % of a core, a weight of 7, CPUs 0-1, slowed down from 5 MiB, 1 MiB/s of disk I/O each way")
      })
  }

  @Test func `beginnings of IDs`() throws {
    let one = JobID("019a1234-5678-7abc-8def-001122334455")!
    let two = JobID("019a1234-5678-7abc-8def-001122334466")!
    #expect(try JobLookup.choose([one], "019a") == one)
    #expect(throws: Failure.self) { try JobLookup.choose([], "019a") }
    let failure = #expect(throws: Failure.self) { try JobLookup.choose([one, two], "019a") }
    #expect(failure?.why.contains(one.description) == true && failure?.why.contains(two.description) == true)
    #expect(JobLookup.isPrefix("019a") && JobLookup.isPrefix("019a1234-5"))
    for text in ["", "019", "xyzw", "019a/../", "019a1234-5678-7abc-8def-0011223344556"] {
      #expect(!JobLookup.isPrefix(text))
    }
  }

  static let times: [(Int64, String)] = [
    (0, "0ms"), (850, "850ms"), (1500, "1.5s"), (59_000, "59s"), (200_000, "3m20s"), (18_000_000, "5h"),
    (345_600_000, "4d"),
  ]

  @Test(arguments: times)
  func spans(milliseconds: Int64, text: String) { #expect(Words.span(milliseconds * 1_000_000) == text) }
}

enum JobClientFixture {
  static let record = JobRecord(
    id: JobID("019a1234-5678-7abc-8def-001122334455")!, request: JobRequest(command: "sh"), status: .running,
    createdAt: Timestamp(nanoseconds: 1_700_000_000_000_000_000), nodeID: "n1", owner: "joblet-admin")
}
