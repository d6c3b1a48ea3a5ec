import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

/// The commands of joblet-persist on directories of their own.
@Suite(.serialized) struct CommandTests {
  let job = Bench.job

  static func configuration(_ scratch: Scratch) -> Configuration {
    var configuration = Configuration()
    configuration.persist.storage.baseDir = scratch.path
    configuration.persist.storage.local.logs.directory = scratch.path + "/logs"
    configuration.persist.storage.local.metrics.directory = scratch.path + "/metrics"
    configuration.persist.server.querySocket = scratch.path + "/nobody.sock"
    configuration.state.backend = .local
    return configuration
  }

  /// Runs a command with its output in a file. Answers the status and the output.
  static func output(
    _ scratch: Scratch, _ body: (CommandOutput) async throws -> CommandStatus
  ) async throws -> (status: CommandStatus, bytes: [UInt8]) {
    let path = scratch.path + "/output"
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    try #require(file >= 0)
    defer { close(file) }
    let output = CommandOutput(file)
    let status = try await body(output)
    try output.flush()
    return (status, scratch.bytes(path))
  }

  static func cat(_ scratch: Scratch, _ query: LogQuery, text: Bool = false) async throws -> (
    status: CommandStatus, bytes: [UInt8]
  ) {
    try await output(scratch) { try CatCommand(query: .logs(query), text: text).run(configuration(scratch), $0) }
  }

  /// A directory as a kill left it: much of it in files, the rest in the log alone.
  func killed(_ output: Output) async throws -> Scratch {
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    await bench.crash()
    return bench.scratch
  }

  @Test func catGivesWhatFilesAndLogHave() async throws {
    let output = Output(seed: 71, chunks: 1500)
    let scratch = try await killed(output)
    #expect(try await Self.cat(scratch, LogQuery(job: job)) == (.good, output.all))
    #expect(try await Self.cat(scratch, LogQuery(job: job, tail: 3)).bytes == output.json.suffix(3).flatMap(\.line))
    let part = output.json.filter { $0.seq > 500 && $0.seq <= 600 }.flatMap(\.line)
    #expect(try await Self.cat(scratch, LogQuery(job: job, after: 500, limit: 100)).bytes == part)
    let text = try await Self.cat(scratch, LogQuery(job: job), text: true).bytes
    #expect(
      text
        == output.json.flatMap { line -> [UInt8] in
          var out: [UInt8] = []
          LogLine(json: line.line)?.appendText(to: &out)
          return out
        })
    // Nothing was changed or repaired: the next start finds it as it was.
    let bench = try Bench(scratch)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
    #expect(try await Self.cat(scratch, LogQuery(job: job)) == (.good, output.all))
  }

  @Test func catSaysWhatIsNotThere() async throws {
    let scratch = try await killed(Output(seed: 72, chunks: 5))
    let (status, bytes) = try await Self.cat(scratch, LogQuery(job: JobID(high: 4, low: 4)))
    #expect(status == .fault && bytes.isEmpty)
    await #expect(throws: Problem.self) { try await Self.cat(scratch, LogQuery(job: job, regex: "(")) }
    await #expect(throws: (any Error).self) { try await Self.cat(Scratch(), LogQuery(job: job)) }
  }

  @Test func catGivesNothingOfADeletedJob() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(job, Output(seed: 73, chunks: 30).chunks)
    try writer.send(raw: Writer.frame(FrameHeader(.delete, job: job)))
    try writer.awaitAck(.delete, job, 0)
    await bench.crash()
    #expect(try await Self.cat(bench.scratch, LogQuery(job: job)).status == .fault)
  }

  @Test func catSkipsADamagedMemberAndSaysSo() async throws {
    let output = Output((0..<30_000).map { Array("line \($0) \($0 &* 2_654_435_761)".utf8) })
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    try await bench.close()
    var bytes = bench.scratch.bytes(bench.scratch.file(job, "stdout"))
    bytes[bytes.count / 2] ^= 0xFF
    try bench.scratch.write(bytes, to: bench.scratch.file(job, "stdout"))
    let (status, given) = try await Self.cat(bench.scratch, LogQuery(job: job))
    #expect(status == .fault)
    #expect(given.count > output.all.count / 4 && given.count < output.all.count)
    let known = Set(output.json.map(\.line))
    #expect(given.split(separator: 0x0A).allSatisfy { known.contains(Array($0) + [0x0A]) })
  }

  func sweep(_ configuration: Configuration, _ scratch: Scratch, dryRun: Bool, days: Int?, json: Bool = false)
    async throws -> (status: CommandStatus, text: String)
  {
    let command = SweepCommand(dryRun: dryRun, days: days, maxBytesPerJob: nil, maxBytes: nil, json: json)
    let (status, bytes) = try await Self.output(scratch) { try await command.run(configuration, $0) }
    return (status, String(decoding: bytes, as: UTF8.self))
  }

  @Test func sweepWorksBesideTheDaemonAndWithoutIt() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let (old, young) = (SweeperTests.job(10), SweeperTests.job(1))
    let output = Output(seed: 74, chunks: 30)
    for (job, age) in [(old, 9), (young, 1)] as [(JobID, Int64)] {
      try SweeperTests.write(job, output, ended: age, to: writer)
    }
    var configuration = Self.configuration(bench.scratch)
    configuration.persist.server.querySocket = bench.scratch.path + "/query.sock"
    let shown = try await sweep(configuration, bench.scratch, dryRun: true, days: 7)
    #expect(shown.status == .good)
    #expect(shown.text.contains("\(old)") && !shown.text.contains("\(young)"))
    #expect(shown.text.contains("would remove 1 jobs") && shown.text.contains("age: days"))
    let unbounded = try await sweep(configuration, bench.scratch, dryRun: true, days: nil)
    #expect(unbounded.text.contains("sets no bound"))
    await bench.crash()

    // No daemon: the command takes its place, records and all.
    configuration.persist.server.querySocket = bench.scratch.path + "/nobody.sock"
    let json = try await sweep(configuration, bench.scratch, dryRun: true, days: 7, json: true)
    let lines = json.text.split(separator: "\n")
    #expect(try JSONDecoder().decode(SweptJob.self, from: Data(lines[0].utf8)).job == old)
    #expect(try JSONDecoder().decode(SweepTotals.self, from: Data(lines[1].utf8)).removedJobs == 1)
    let done = try await sweep(configuration, bench.scratch, dryRun: false, days: 7)
    #expect(done.text.contains("removed 1 jobs"))
    #expect(!FileManager.default.fileExists(atPath: bench.scratch.path + "/logs/\(old)"))
    #expect(try await Self.cat(bench.scratch, LogQuery(job: young)).bytes == output.all)
    #expect(try await sweep(configuration, bench.scratch, dryRun: true, days: 7).text.contains("would remove 0 jobs"))
  }

  @Test func sweepLeavesADirectoryThatIsInUseAlone() async throws {
    let bench = try Bench()
    let configuration = Self.configuration(bench.scratch)  // its socket is not the daemon's
    await #expect(throws: PersistError.self) {
      try await sweep(configuration, bench.scratch, dryRun: false, days: 1)
    }
    try await bench.close()
  }
}
