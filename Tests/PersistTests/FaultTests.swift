import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import LogStore
import Persist
import StateStore
import Synchronization
import Testing

/// A disk that fails when it is told to.
final class FailingDisk: Sendable {
  struct Rule: Sendable {
    var call: DiskFaults.Call
    /// Part of the paths that it holds for.
    var path: String
    var errno: Int32
    var written = 0
    /// How many calls fail; .max for all.
    var times = Int.max
    var isOn: @Sendable () -> Bool
  }
  private struct State {
    var rules: [Rule] = []
    var hits = 0
  }
  private let state = Mutex(State())

  func fail(
    _ call: DiskFaults.Call, _ path: String, _ errno: Int32, written: Int = 0, times: Int = .max,
    while isOn: @escaping @Sendable () -> Bool = { true }
  ) {
    state.withLock {
      $0.rules.append(Rule(call: call, path: path, errno: errno, written: written, times: times, isOn: isOn))
    }
  }

  func recover() { state.withLock { $0.rules = [] } }
  var hits: Int { state.withLock { $0.hits } }

  var faults: DiskFaults {
    DiskFaults { [self] call, path in
      state.withLock { state in
        for index in state.rules.indices {
          let rule = state.rules[index]
          guard rule.call == call, rule.times > 0, path.contains(rule.path), rule.isOn() else { continue }
          if rule.times != .max { state.rules[index].times -= 1 }
          state.hits += 1
          return DiskFaults.Refusal(errno: rule.errno, written: rule.written)
        }
        return nil
      }
    }
  }
}

/// Waits for something that happens soon, without a fixed sleep being what makes a test pass.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
  for _ in 0..<2000 {
    if try await condition() { return }
    try await Task.sleep(for: .milliseconds(10))
  }
  Issue.record("it did not happen in 20 s: \(what)")
}

@Suite(.serialized) struct FaultTests {
  let job = Bench.job
  let other = JobID(high: 0x77, low: 0x77)

  /// A log that is synced, sealed and cleaned up as fast as tests like it.
  static func quick(_ policy: Configuration.Persist.WAL.Fsync = .interval) -> Configuration.Persist.WAL {
    var wal = Configuration().persist.wal
    wal.fsync = policy
    wal.fsyncInterval = .milliseconds(5)
    return wal
  }

  @Test func aLogThatCanNotBeSyncedIsGivenUpAndNothingInItAcknowledged() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(.always), logDisk: disk)
    let output = Output(seed: 31, chunks: 60)
    // The members can't be written either, so that nothing of the segment can become safe.
    disk.fail(.sync, ".wal", EIO, times: 1)
    disk.fail(.write, "/logs/", EIO)
    let first = try bench.writer()
    first.offer(job, output.chunks)
    #expect(try first.awaitClose().filter { $0.type == .ack }.isEmpty)
    #expect(bench.journal.has("was given up"))
    // Sent anew, still nothing is promised: memory alone is no safe place.
    let second = Task.detached { try bench.deliver(Bench.job, output) }
    try await eventually("a seal failed") { bench.journal.has("can't seal lines") }
    // The log takes nothing while it is so, of no job.
    let bystander = Task.detached { [other] in try bench.deliver(other, output) }

    disk.recover()
    try await second.value
    try await bystander.value
    for job in [job, other] { #expect(try await bench.ask(LogQuery(job: job)).lines == output.all) }
    await bench.crash()
    let again = try Bench(bench.scratch)
    for job in [job, other] { #expect(try await again.ask(LogQuery(job: job)).lines == output.all) }
    try await again.close()
  }

  @Test func underIntervalAFailedSyncLosesNothing() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    let output = Output(seed: 32, chunks: 200)
    let writer = try bench.writer()
    try writer.send(job, Array(output.chunks[..<100]))
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.awaitAck(.log, job, output.chunks[99].info.lastSeq)
    try writer.awaitAck(.record, job, 1)
    disk.fail(.sync, ".wal", EIO, times: 1)
    try writer.send(job, Array(output.chunks[100..<150]))
    try await eventually("the segment is given up") { bench.journal.has("was given up") }
    // Lines and record of that segment are in their files and in the store now; the log goes on.
    try writer.send(job, Array(output.chunks[150...]))
    try writer.awaitAck(.log, job, output.last)
    #expect(bench.records.get(job)?.version == 1)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    await bench.crash()
    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  @Test func aMemberThatCanNotBeSyncedEndsTheDaemonAndTheLogBringsItBack() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    let output = Output(seed: 33, chunks: 300)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    disk.fail(.sync, ".log.gz", EIO)
    try writer.end(job, output.last)
    let failure = await bench.ended()
    #expect("\(failure.map { "\($0)" } ?? "it went on")".contains("fdatasync"))
    await bench.crash()
    // What the kernel may have dropped: the log has it.
    for stream in ["stdout", "stderr"] {
      let bytes = bench.scratch.bytes(bench.scratch.file(job, stream))
      if !bytes.isEmpty {
        try bench.scratch.write(Array(bytes.prefix(bytes.count / 2)), to: bench.scratch.file(job, stream))
      }
    }
    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  @Test(arguments: [ENOSPC, EDQUOT, EROFS, EACCES]) func aDiskThatTakesNoMembersMakesWritersWait(errno: Int32)
    async throws
  {
    let disk = FailingDisk()
    var wal = Self.quick()
    wal.maxUnsealed = 1 << 20
    let bench = try Bench(wal: wal, logDisk: disk)
    // In the middle of a member, or at the door.
    if errno == EACCES { disk.fail(.open, "/logs/", errno) } else { disk.fail(.write, ".log.gz", errno, written: 100) }
    let output = Output(seed: 34, chunks: 3000)
    let sending = Task.detached { try bench.deliver(Bench.job, output) }
    try await eventually("its files are in trouble") {
      bench.journal.has("can't seal lines") || bench.journal.has("can't be read")
    }
    disk.recover()
    try await sending.value
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
    // Nothing half written stands between the members.
    let again = try Bench(bench.scratch)
    let (lines, gaps) = try await again.ask(LogQuery(job: job))
    #expect(gaps.isEmpty && lines == output.all)
    try await again.close()
  }

  @Test func aDiskThatTakesNoLogMakesWritersWait() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    let output = Output(seed: 35, chunks: 200)
    let writer = try bench.writer()
    try writer.send(job, Array(output.chunks[..<100]))
    try writer.awaitAck(.log, job, output.chunks[99].info.lastSeq)
    // In the middle of a batch, and then for new segments.
    disk.fail(.write, ".wal", ENOSPC, written: 50)
    disk.fail(.allocate, ".wal", ENOSPC)
    let sending = Task.detached { try bench.deliver(Bench.job, output) }
    try await eventually("it waits") { bench.journal.has("can't grow") }
    // Reading goes on, and so does deleting, out of the reserve.
    #expect(output.all.starts(with: try await bench.ask(LogQuery(job: job)).lines))
    disk.recover()
    try await sending.value
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    await bench.crash()
    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  @Test func oneJobThatCanNotBeStoredStopsNoOther() async throws {
    let disk = FailingDisk()
    var wal = Self.quick()
    wal.maxUnsealed = 1 << 20
    let bench = try Bench(wal: wal, logDisk: disk)
    disk.fail(.open, "/\(job)/", EACCES)
    let (bad, good) = (Output(seed: 36, chunks: 600), Output(seed: 37, chunks: 3000))
    #expect(bad.all.count > 1 << 20)
    let writer = try bench.writer()
    // Of one connection, as exec has it: what is turned away of one job must not stop what comes behind it.
    try writer.send(job, bad.chunks)
    try writer.end(job, bad.last)
    try writer.send(.record, job: job, seq: 2, json: RecoveryTests.record(job, version: 2, .completed))
    try writer.send(other, good.chunks)
    try writer.awaitAck(.log, other, good.last)
    #expect(try await bench.ask(LogQuery(job: other)).lines == good.all)
    #expect(bench.engine.load.unsealed < 2 << 20)
    // Nobody is told of an end whose lines are not here.
    #expect(bench.records.get(job) == nil)

    disk.recover()
    // The connection is ended; the writer sends anew what was not acknowledged.
    let acks = try writer.awaitClose()
    #expect(bench.journal.has("can be stored again"))
    let acknowledged = acks.filter { $0.job == job && $0.stream == AckKind.log.rawValue }.map(\.seq).max() ?? 0
    let again = try bench.writer()
    try again.send(job, bad.chunks.filter { $0.info.lastSeq > acknowledged })
    try again.end(job, bad.last)
    try again.send(.record, job: job, seq: 2, json: RecoveryTests.record(job, version: 2, .completed))
    try again.awaitAck(.record, job, 2)
    #expect(try await bench.ask(LogQuery(job: job)).lines == bad.all)
    try await bench.close()
  }

  @Test func aJobWhoseFilesCanNotBeReadStopsNoOther() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    disk.fail(.open, "/\(job)", EACCES)
    let output = Output(seed: 38, chunks: 50)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.end(job, output.last)
    try writer.send(other, output.chunks)
    try writer.awaitAck(.log, other, output.last)
    disk.recover()
    #expect(try writer.awaitClose().allSatisfy { $0.job == other })
    let again = try bench.writer()
    try again.send(job, output.chunks)
    try again.end(job, output.last)
    try again.awaitAck(.end, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func deletingAJobThatIsTurnedAwayFreesItsWriter() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    disk.fail(.open, "/\(job)/", EACCES)
    disk.fail(.open, "/\(job)", EACCES)
    let output = Output(seed: 39, chunks: 20)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try await eventually("it is turned away") { bench.journal.has("can't be read") }
    disk.recover()
    let query = try await bench.query()
    _ = try? await query.request(Frame(FrameHeader(.deleteJobData, job: job)))
    await query.close()
    _ = try writer.awaitClose()
    try await bench.close()
  }

  @Test func aReplayThatCanNotMakeRoomFailsAndSaysWhy() async throws {
    var wal = Self.quick()
    wal.maxUnsealed = 8 << 20
    let output = Output(seed: 40, chunks: 1500)
    let bench = try Bench(wal: wal, logDisk: nil)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    await bench.crash()
    for stream in ["stdout", "stderr"] { unlink(bench.scratch.file(job, stream)) }

    let disk = FailingDisk()
    disk.fail(.write, ".log.gz", ENOSPC)
    wal.maxUnsealed = 1 << 20
    #expect {
      _ = try Bench(bench.scratch, wal: wal, logDisk: disk, replayPatience: 2)
    } throws: { error in
      "\(error)".contains("can't be replayed") && "\(error)".contains("No space left")
    }
    // With room again it goes on from where it was.
    let again = try Bench(bench.scratch, wal: wal)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  @Test func aReplayWaitsForRoomThatComes() async throws {
    var wal = Self.quick()
    let output = Output(seed: 41, chunks: 1500)
    let bench = try Bench(wal: wal)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    await bench.crash()
    for stream in ["stdout", "stderr"] { unlink(bench.scratch.file(job, stream)) }
    let disk = FailingDisk()
    disk.fail(.write, ".log.gz", ENOSPC, times: 3)
    wal.maxUnsealed = 1 << 20
    let again = try Bench(bench.scratch, wal: wal, logDisk: disk)
    #expect(disk.hits == 3)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  /// What may stand where a log file should.
  enum Obstacle: String, CaseIterable, Sendable {
    case directory, link, garbage, pipe, jobIsAFile

    func put(at file: String, job: String) {
      switch self {
      case .directory: mkdir(file, 0o755)
      case .link: symlink("/etc/hostname", file)
      case .pipe: mkfifo(file, 0o644)
      case .garbage, .jobIsAFile:
        if self == .jobIsAFile { rmdir(job) }
        let path = self == .jobIsAFile ? job : file
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o644)
        let text = Array("this is nothing of ours, and no gzip either\n".utf8)
        _ = write(descriptor, text, text.count)
        close(descriptor)
      }
    }
  }

  @Test(arguments: Obstacle.allCases) func aFileReplacedBySomethingElseStopsNothing(obstacle: Obstacle) async throws {
    let output = Output((1...200).map { Array("line \($0)".utf8) })
    let bench = try Bench()
    let writer = try bench.writer()
    for job in [job, other] { try writer.send(job, output.chunks) }
    try writer.awaitAck(.log, other, output.last)
    await bench.crash()
    let directory = bench.scratch.path + "/logs/\(job)"
    unlink(bench.scratch.file(job, "stdout"))
    mkdir(bench.scratch.path + "/logs", 0o755)
    mkdir(directory, 0o755)
    obstacle.put(at: bench.scratch.file(job, "stdout"), job: directory)

    // At a start: everything is in the log.
    let again = try Bench(bench.scratch, wal: Self.quick())
    #expect(again.journal.has("was moved to"), "\(again.journal.all)")
    for job in [job, other] { #expect(try await again.ask(LogQuery(job: job)).lines == output.all) }
    try await again.close()

    // And while it runs, between two seals.
    let third = try Bench(bench.scratch, wal: Self.quick())
    var more = Output([])
    more.chunks = []
    more.append(
      LogChunkInfo(stream: .stdout, firstSeq: 201, count: 1, timestamp: Timestamp(nanoseconds: 1), isPartial: false),
      [Array("one more".utf8)])
    let second = try third.writer()
    try second.send(job, more.chunks)
    try second.awaitAck(.log, job, 201)
    unlink(bench.scratch.file(job, "stdout"))
    if obstacle != .jobIsAFile { obstacle.put(at: bench.scratch.file(job, "stdout"), job: directory) }
    try second.end(job, 201)
    try second.awaitAck(.end, job, 201)
    try await third.close()
    let last = try Bench(bench.scratch)
    let (lines, _) = try await last.ask(LogQuery(job: job))
    #expect(lines == more.all)
    #expect(try await last.ask(LogQuery(job: other)).lines == output.all)
    try await last.close()
  }

  @Test func deletingWorksOnAFullDisk() async throws {
    let disk = FailingDisk()
    let bench = try Bench(wal: Self.quick(), logDisk: disk)
    let output = Output(seed: 43, chunks: 50)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    let reserve = bench.scratch.path + "/persist/wal/reserve"
    let isReserved: @Sendable () -> Bool = {
      var status = stat()
      return stat(reserve, &status) == 0 && status.st_size > 0
    }
    #expect(isReserved())
    // The active segment is torn, so that a new one is needed; there is no room for it but what is kept in reserve.
    disk.fail(.write, ".wal", ENOSPC, times: 1)
    disk.fail(.allocate, ".wal", ENOSPC, while: isReserved)
    disk.fail(.allocate, "/reserve", ENOSPC)
    try writer.send(other, output.chunks)
    try await eventually("the log is full") { disk.hits >= 1 }
    let query = try await bench.query()
    #expect(try await query.request(Frame(FrameHeader(.deleteJobData, job: job))).header.type == .done)
    await query.close()
    try writer.awaitAck(.log, other, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines.isEmpty)
    #expect(try await bench.ask(LogQuery(job: other)).lines == output.all)
    try await bench.close()
  }

  @Test func linesThatCanNotBeStoredDoNotHoldTheLog() async throws {
    let disk = FailingDisk()
    var wal = Self.quick()
    wal.maxSize = 8 << 20
    let bench = try Bench(wal: wal, logDisk: disk)
    disk.fail(.open, "/\(job)/", EACCES)
    let (bad, good) = (Output(seed: 44, chunks: 40), Output(seed: 45, chunks: 2500))
    let writer = try bench.writer()
    try writer.send(job, bad.chunks)
    try writer.send(raw: MetricTests.frame(job, 1...20))
    try writer.awaitAck(.metric, job, 20)
    try writer.end(job, bad.last)
    try writer.awaitAck(.end, job, bad.last)
    let first = try #require(bench.scratch.segments.first)
    // Several times the log's bound of another job.
    try await Task.detached { [other] in
      for number in 0..<4 as Range<UInt64> { try bench.deliver(JobID(high: 0x44, low: number), good) }
      try bench.deliver(other, good)
    }.value
    #expect(!bench.scratch.segments.contains(first))
    #expect(bench.journal.has("were written to the log's end"))
    #expect(try await bench.ask(LogQuery(job: other)).lines == good.all)
    await bench.crash()

    // Still so after a start, and stored at last when it can be.
    let again = try Bench(bench.scratch, wal: wal, logDisk: disk)
    try await Task.detached { try again.deliver(JobID(high: 0x45, low: 1), good) }.value
    disk.recover()
    try await eventually("its lines can be read") { (try? await again.ask(LogQuery(job: job)).lines) == bad.all }
    #expect(try await again.metrics(MetricQuery(job: job)) == MetricTests.text(1...20))
    await again.crash()
    let last = try Bench(bench.scratch)
    #expect(try await last.ask(LogQuery(job: job)).lines == bad.all)
    #expect(try await last.metrics(MetricQuery(job: job)) == MetricTests.text(1...20))
    #expect(try await last.ask(LogQuery(job: other)).lines == good.all)
    try await last.close()
  }
}
