import Cgroups
import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LinuxKernel
import Logging
import NIOCore
import Sandbox
import Testing
import Worker

/// Where no sandbox can be had.
struct NoSandboxes: SandboxSource {
  /// What it was that went wrong.
  var step = "joblet-init"

  func take() throws(SetupProblem) -> PreparedSandbox {
    throw SetupProblem(step: step, message: "there is none in this test")
  }
  func discard(_ sandbox: PreparedSandbox) {}
}

/// A node made of temporary directories: a supervisor that finds what an exec before it left there. `sleep` plays
/// joblet-init, the test writes what it would write, and what the kernel would.
final class FakeNode {
  let directory = TemporaryDirectory()
  let job = JobID(node: 1)
  let data: Fifo
  let space: Fifo
  let ring: FakeRing
  private(set) var pid = pid_t()
  var state: JobStateDirectory { JobStateDirectory(root: directory.path + "/jobs", job: job) }

  /// - Parameters:
  ///   - isLive: whether the job was admitted with `ipc.enabled: false`.
  ///   - figures: files of its `pay/`; nil if its cgroup is gone.
  init(isLive: Bool = false, figures: [String: String]? = nil) throws {
    for name in ["jobs", "prepared", "cgroup", "work"] { mkdir("\(directory.path)/\(name)", 0o755) }
    let arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("1000"), nil]
    defer { for argument in arguments { free(argument) } }
    #expect(posix_spawnp(&pid, "sleep", nil, nil, arguments, environ) == 0)
    let state = JobStateDirectory(root: directory.path + "/jobs", job: job)
    let request = JobRequest(command: "true")
    var record = JobRecord(
      id: job, request: request, status: .running, createdAt: .now(), nodeID: "n", owner: "tester")
    record.version = 3
    try state.create(request: request, record: Array(JSONEncoder().encode(record)), isLive: isLive)
    let files = try JobFiles(creating: state, ringSize: 1 << 17, maxRecords: 100_000)
    files.ring.store32(RingLayout.Field.phase, 2)
    files.ring.store32(RingLayout.Field.go, 1)
    try state.saveLaunch(
      LaunchNote(pid: pid, startTime: try ProcessHandle.open(pid: pid).startTime(), firstID: 65_536))
    ring = try FakeRing(opening: state.ring)
    data = try Fifo.open(state.dataFifo)
    space = try Fifo.open(state.spaceFifo)
    try write("cpu memory pids io", to: "cgroup/cgroup.controllers")
    try write("cpu memory pids io", to: "cgroup/cgroup.subtree_control")
    guard let figures else { return }
    for path in ["\(job)", "\(job)/init", "\(job)/pay"] { mkdir("\(directory.path)/cgroup/\(path)", 0o755) }
    for (name, text) in figures { try figure(name, text) }
  }

  deinit { killInit() }

  func killInit() {
    guard pid > 0 else { return }
    kill(pid, SIGKILL)
    pid = 0
  }

  func figure(_ name: String, _ text: String) throws { try write(text, to: "cgroup/\(job)/pay/\(name)") }

  private func write(_ text: String, to file: String) throws {
    let path = "\(directory.path)/\(file)"
    // As a whole: the meter may be reading.
    let new = try FileDescriptor.open(path + ".new", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
    try new.writeAll(Array(text.utf8))
    #expect(rename(path + ".new", path) == 0)
  }

  /// joblet-init commits lines and wakes exec if it sleeps.
  func say(_ lines: [String]) throws {
    ring.write(lines)
    try data.wake()
  }

  func end() throws {
    ring.end(kind: 1, code: 0)
    try data.wake()
  }

  /// Sixteen ranges, from 65,536 on; none is taken. Nothing fills it.
  static func namespaces() throws -> NamespaceStock {
    NamespaceStock(
      ranges: IDRangePool(first: 65_536, count: 1 << 20), filler: try WorkQueue(name: "fill", threads: 1),
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
  }

  /// An exec of this node. Nothing ends an earlier one: make one at a time.
  func supervisor(
    socket: String = "/tmp/there-is-no-such-socket", sandboxes: any SandboxSource = NoSandboxes(),
    namespaces: NamespaceStock? = nil, teardownTimeout: Duration = .seconds(1),
    _ change: (inout WorkerSettings) -> Void = { _ in }
  ) throws -> JobSupervisor {
    var configuration = Configuration()
    configuration.ipc.socket = socket
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    let cgroups = try CgroupRoot(path: directory.path + "/cgroup", enabling: [.cpu, .memory, .io, .pids])
    var settings = WorkerSettings(
      configuration, stateRoot: directory.path + "/jobs", cgroups: cgroups,
      disk: .none("a test has none"), software: "test")
    settings.sampleInterval = .seconds(365 * 86_400)
    settings.linger = .milliseconds(50)
    change(&settings)
    let workspaces = Workspaces(path: directory.path + "/work")
    let (sandbox, filters) = (SandboxSettings(allowedMounts: []), try SeccompFilters(profile: "default"))
    return JobSupervisor(
      loop: try LoopExecutor(name: "test-loop"), settings: settings,
      launcher: try JobLauncher(
        sandboxes: sandboxes, cgroups: cgroups,
        namespaces: try namespaces ?? FakeNode.namespaces(), settings: sandbox, filters: filters,
        workspaces: workspaces, sandboxPlan: try Plan.sandbox(sandbox, filters: filters)),
      teardown: JobTeardown(cgroups: cgroups, workspaces: workspaces, timeout: teardownTimeout),
      admitting: try WorkQueue(name: "admit", threads: 1),
      launching: try WorkQueue(name: "launch", threads: 1), ending: try WorkQueue(name: "end", threads: 1),
      removing: try WorkQueue(name: "remove", threads: 1), sampling: try WorkQueue(name: "sample", threads: 1),
      logger: logger)
  }
}

private let cgroupFiles = ["cpu.stat": "usage_usec 1000000\n", "memory.current": "4096\n", "pids.current": "2\n"]

@Suite(.serialized, .timeLimit(.minutes(2))) struct SupervisorMetricsTests {
  private func samples(_ payload: [UInt8]) throws -> [MetricSample] {
    try payload.split(separator: UInt8(ascii: "\n")).map {
      try JSONDecoder().decode(MetricSample.self, from: Data($0))
    }
  }

  private func ask(_ supervisor: JobSupervisor, _ job: JobID, after: UInt64, wait: Int64 = 20_000) async throws -> (
    [MetricSample], OutputState
  ) {
    let (frames, state) = await supervisor.metricOutput(
      OutputRequest(job: job, after: after, waitMilliseconds: wait))
    for frame in frames { #expect(frame.header.type == .metric && frame.header.flags == .encoded) }
    return (try frames.flatMap { try samples(Array($0.payload.readableBytesView)) }, state)
  }

  /// What the exec before could not get acknowledged, the samples of this one and the last one, then the end, then the
  /// record: no number twice, none left out.
  @Test func anAdoptedJobsSamplesGoOnWhereTheyWere() async throws {
    let node = try FakeNode(figures: cgroupFiles)
    var before = MetricSeries()
    for second in 1...3 { try node.state.saveMetrics(before.add(measurement(Double(second), cpu: 0)).change) }
    let persist = FakePersist()
    let supervisor = try node.supervisor(socket: persist.path) { $0.sampleInterval = .milliseconds(200) }
    same(try await supervisor.adopt(), 1)
    await supervisor.connect()
    try persist.greet()
    #expect(try persist.next().0.type == .record)
    var received: [MetricSample] = []
    while received.count < 4 {
      let (header, payload) = try persist.next()
      let some = try samples(payload)
      #expect(header.type == .metric && some.map(\.seq) == Array(header.seq..<(header.seq + UInt64(header.count))))
      received += some
    }
    #expect(received.map(\.seq) == Array(1...UInt64(received.count)))
    #expect(received.prefix(3).map(\.ts) == (1...3).map { measurement(Double($0)).time })
    let sample = received[3]
    #expect(sample.cpuUsec == 1_000_000 && sample.memoryBytes == 4096 && sample.pids == 2)
    #expect(sample.cpuPercent != nil, "the time since the sample before is known across the restart")
    #expect(sample.memoryPeakBytes == nil && sample.ioReadBytes == nil && sample.psiCPU == nil)
    // The last one shows what was true at the end.
    try node.figure("cpu.stat", "usage_usec 7000000\n")
    try node.end()
    var frame = try persist.next()
    while frame.0.type == .metric {
      received += try samples(frame.1)
      frame = try persist.next()
    }
    let seq = UInt64(received.count)
    #expect(received.map(\.seq) == Array(1...seq))
    #expect(received.last?.cpuUsec == 7_000_000)
    #expect(frame.0.type == .end)
    let record = try persist.next()
    #expect(record.0.type == .record && record.0.seq == 4)
    #expect(try JSONDecoder().decode(JobRecord.self, from: Data(record.1)).usage?.cpuUsec == 7_000_000)
    // And all of it stands in the file, for the exec after this one.
    let file = try node.state.loadMetrics()
    #expect(file.lastSeq == seq)
    node.killInit()
  }

  @Test func followersWaitForTheNextSampleAndAreToldTheEnd() async throws {
    let node = try FakeNode(figures: cgroupFiles)
    let supervisor = try node.supervisor { $0.sampleInterval = .milliseconds(300) }
    _ = try await supervisor.adopt()
    let (first, state) = try await ask(supervisor, node.job, after: 0)
    // One, or more on a slow machine.
    var position = UInt64(first.count)
    #expect(position >= 1 && first.map(\.seq) == Array(1..<(position + 1)) && state.state == .more)
    let nothing = try await ask(supervisor, node.job, after: 100, wait: 0)
    #expect(nothing.0.isEmpty && nothing.1.state == .more)
    let beforeEnd = position
    try node.end()
    while true {
      let (next, state) = try await ask(supervisor, node.job, after: position)
      if state.state == .ended {
        #expect(state.record?.status == .completed)
        break
      }
      #expect(next.map(\.seq) == Array((position + 1)..<(position + 1 + UInt64(next.count))))
      position += UInt64(next.count)
    }
    #expect(position > beforeEnd, "there is a last sample")
    let unknown = try await ask(supervisor, JobID(node: 2), after: 0)
    #expect(unknown.1.state == .unknown)
    node.killInit()
  }

  @Test func aDamagedFileOfSamplesCostsTheSamplesAndNotTheJob() async throws {
    let node = try FakeNode(figures: cgroupFiles)
    try node.state.saveMetrics(.append(Array("nonsense\n".utf8)))
    let persist = FakePersist()
    let supervisor = try node.supervisor(socket: persist.path) { $0.sampleInterval = .milliseconds(20) }
    _ = try await supervisor.adopt()
    await supervisor.connect()
    try persist.greet()
    #expect(try persist.next().0.type == .record)
    try node.end()
    #expect(try persist.next().0.type == .end)
    #expect(try persist.next().0.type == .record)
    node.killInit()
  }

  @Test func persistsRefusalIsPassedOn() async throws {
    let node = try FakeNode()
    let persist = FakePersist()
    let supervisor = try node.supervisor(socket: persist.path)
    _ = try await supervisor.adopt()
    await supervisor.connect()
    await supervisor.open()
    try persist.greet()
    _ = try persist.next()
    let caller = Caller(name: "c", role: .developer, requestID: "r")
    func refusal() async -> Problem? {
      // Never admitted in any case: the command is empty.
      do { _ = try await supervisor.run(JobRequest(command: ""), caller: caller) } catch { return error as? Problem }
      return nil
    }
    #expect(await refusal()?.kind != .unavailable)
    let condition = StoreCondition(acceptsJobs: false, reason: "only 4 MiB are free; make room")
    try persist.send(FrameHeader(.condition), Array(JSONEncoder().encode(condition)))
    var problem = await refusal()
    while problem?.kind != .unavailable { problem = await refusal() }
    #expect(problem?.detail == "only 4 MiB are free; make room" && problem?.retryAfter == 30)
    #expect(await supervisor.statusSentence.contains("no new jobs: only 4 MiB are free"))
    // A running job goes on.
    try node.say(["one"])
    #expect(try persist.next().0.type == .log)
    try persist.send(FrameHeader(.condition), Array(JSONEncoder().encode(StoreCondition.good)))
    while await refusal()?.kind == .unavailable {}
    #expect(await supervisor.statusSentence.hasSuffix("persist connected"))
    node.killInit()
  }
}

/// The test plays the kernel: it says when a job's processes stand still.
@Suite(.serialized, .timeLimit(.minutes(2))) struct PauseTests {
  private static let files = ["cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 0\n"]

  private func freezer(_ node: FakeNode) throws -> String {
    let file = try FileDescriptor.open("\(node.directory.path)/cgroup/\(node.job)/pay/cgroup.freeze", O_RDONLY)
    return String(decoding: try file.readAll().prefix(1), as: UTF8.self)
  }

  private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(1)) }
  }

  @Test func aJobStandsStillWhenTheKernelSaysSo() async throws {
    let node = try FakeNode(figures: Self.files)
    let supervisor = try node.supervisor { $0.cleanupTimeout = .seconds(60) }
    _ = try await supervisor.adopt()
    let job = node.job
    async let paused = supervisor.pause(job)
    try await until { try freezer(node) == "1" }
    #expect(try await supervisor.status(job).status == .running, "not every process stands still yet")
    try node.figure("cgroup.events", "populated 1\nfrozen 1\n")
    #expect(try await paused.status == .paused)
    #expect(try await supervisor.pause(job).status == .paused, "twice is no error")
    #expect(try node.state.loadRecord().status == .paused, "a restarted exec knows")
    try node.figure("cgroup.events", "populated 1\nfrozen 0\n")
    #expect(try await supervisor.resume(job).status == .running)
    #expect(try freezer(node) == "0")
    #expect(try await supervisor.resume(job).status == .running)
    try node.end()
    try await until { try await supervisor.status(job).status.isEnded }
    for call in [supervisor.pause, supervisor.resume] {
      let problem = await #expect(throws: Problem.self) { try await call(job) }
      #expect(problem?.kind == .conflict && problem?.detail.contains("COMPLETED") == true)
      let unknown = await #expect(throws: Problem.self) { try await call(JobID(node: 2)) }
      #expect(unknown?.kind == .notFound)
    }
    node.killInit()
  }

  @Test func whatCanNotBeFrozenInTimeGoesOn() async throws {
    let node = try FakeNode(figures: Self.files)
    let supervisor = try node.supervisor { $0.cleanupTimeout = .milliseconds(50) }
    _ = try await supervisor.adopt()
    let problem = await #expect(throws: Problem.self) { try await supervisor.pause(node.job) }
    #expect(problem?.kind == .unavailable && problem?.detail.contains("goes on") == true)
    try await until { try freezer(node) == "0" }
    #expect(try await supervisor.status(node.job).status == .running)
    node.killInit()
  }

  /// SIGTERM waits for the thaw.
  @Test func aStopThaws() async throws {
    let node = try FakeNode(
      figures: ["cgroup.freeze": "1\n", "cgroup.events": "populated 1\nfrozen 1\n", "cgroup.kill": ""])
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    try await until { try await supervisor.status(node.job).status == .paused }
    _ = try await supervisor.stop(
      StopRequest(job: node.job, caller: Caller(name: "c", role: .admin, requestID: "r"), graceMilliseconds: 60_000))
    try await until { try freezer(node) == "0" }
    let problem = await #expect(throws: Problem.self) { try await supervisor.pause(node.job) }
    #expect(problem?.kind == .conflict)
    node.killInit()
  }

  /// The exec before died between a change of the freezer and that of the record.
  @Test(arguments: [("1\n", true, JobStatus.running, JobStatus.paused), ("0\n", false, .paused, .running)])
  func aRestartGoesOnFromTheKernelsWord(asked: String, isFrozen: Bool, before: JobStatus, after: JobStatus) async throws
  {
    let node = try FakeNode(
      figures: ["cgroup.freeze": asked, "cgroup.events": "populated 1\nfrozen \(isFrozen ? 1 : 0)\n"])
    var record = try node.state.loadRecord()
    record.status = before
    try node.state.saveRecord(Array(JSONEncoder().encode(record)))
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    try await until { try await supervisor.status(node.job).status == after }
    #expect(try await supervisor.status(node.job).version == record.version + 1)
    #expect(try freezer(node) == (isFrozen ? "1" : "0"))
    node.killInit()
  }
}

/// `ipc.enabled: false`.
@Suite(.serialized, .timeLimit(.minutes(2))) struct LiveOnlyTests {
  private func output(_ supervisor: JobSupervisor, _ job: JobID, after: UInt64, wait: Int64 = 20_000) async throws -> (
    String, OutputState
  ) {
    let (frames, state) = try await supervisor.output(
      OutputRequest(job: job, after: after, maxBytes: 4 << 20, waitMilliseconds: wait))
    return (frames.map { String(buffer: $0.payload) }.joined(), state)
  }

  /// A job writes many times its ring with nobody there, and never waits.
  @Test func aJobNeverWaitsForWantOfPersist() async throws {
    let node = try FakeNode(isLive: true)
    let supervisor = try node.supervisor { $0.isStoring = false }
    same(try await supervisor.adopt(), 1)
    await supervisor.connect()
    #expect(await supervisor.statusSentence.contains("ipc.enabled: false"))
    let line = String(repeating: "x", count: 999)
    for round in 1...8 {
      var count = 0
      while node.ring.space >= 1040 {
        node.ring.write([line])
        count += 1
      }
      #expect(count > 100)
      try node.data.wake()
      // Nobody follows; the ring is given back all the same.
      while node.ring.space < node.ring.ring.dataSize { try await Task.sleep(for: .milliseconds(1)) }
      #expect(node.ring.ring.load64(RingLayout.Field.ackedSeq) == node.ring.seq - 1, "round \(round)")
    }
    let last = node.ring.seq - 1
    // Who comes now reads what is not overwritten yet, and is told where that begins; nothing is said to be stored.
    let (none, state) = try await output(supervisor, node.job, after: 0)
    #expect(none == "" && state.state == .behind && state.acknowledged == nil)
    let oldest = try #require(state.oldest)
    #expect(oldest > last - 140 && oldest <= last + 1)
    // Who wants the newest lines asks behind all of them, and is told where that is.
    let (nothing, end) = try await output(supervisor, node.job, after: .max / 2, wait: 0)
    #expect(nothing == "" && end.state == .more && end.last == last)
    if oldest <= last {
      let (text, _) = try await output(supervisor, node.job, after: oldest - 1)
      #expect(text == String(repeating: line + "\n", count: Int(last - oldest + 1)))
    }
    node.killInit()
  }

  @Test func whoFollowsSeesEverythingAndTheEnd() async throws {
    let node = try FakeNode(isLive: true)
    let supervisor = try node.supervisor { $0.isStoring = false }
    _ = try await supervisor.adopt()
    await supervisor.connect()
    var seen = ""
    for round in 1...200 {
      try node.say(["line \(round)"])
      let (text, state) = try await output(supervisor, node.job, after: UInt64(round - 1))
      #expect(state.state == .more)
      seen += text
    }
    #expect(seen == (1...200).map { "line \($0)\n" }.joined())
    // The last words and the end in one go, while the follower waits.
    let job = node.job
    async let rest = output(supervisor, job, after: 200)
    node.ring.write(["last"])
    try node.end()
    node.killInit()
    #expect(try await rest.0 == "last\n")
    let (none, state) = try await output(supervisor, node.job, after: 201)
    #expect(none == "" && state.state == .ended && state.record?.status == .completed)
    #expect(state.record?.lastSeq == 201)
    // Then its ring is gone, and with it the lines; what happened to the job is still known.
    while access(node.state.path, F_OK) == 0 { try await Task.sleep(for: .milliseconds(1)) }
    let late = try await output(supervisor, node.job, after: 0)
    #expect(late.1.state == .behind && late.1.oldest == 202 && late.1.acknowledged == nil)
    #expect(try await output(supervisor, node.job, after: 201).1.state == .ended)
    let (_, metrics) = await supervisor.metricOutput(OutputRequest(job: node.job, after: 0))
    #expect(metrics.state == .ended, "without a cgroup there was nothing to sample")
    #expect(try await supervisor.status(node.job).status == .completed)
    try await supervisor.delete(node.job)
    await #expect(throws: Problem.self) { try await supervisor.status(node.job) }
  }

  /// Switched off while jobs run: what they were promised is kept, and they still tell persist.
  @Test func aJobFromBeforeKeepsItsPromise() async throws {
    let node = try FakeNode(isLive: false)
    let persist = FakePersist()
    let supervisor = try node.supervisor(socket: persist.path) { $0.isStoring = false }
    _ = try await supervisor.adopt()
    await supervisor.connect()
    try persist.greet()
    #expect(try persist.next().0.type == .record)
    try node.say(["kept"])
    #expect(String(decoding: try persist.next().1, as: UTF8.self) == "kept\n")
    #expect(node.ring.ring.load64(RingLayout.Field.ackedSeq) == 0)
    #expect(await supervisor.statusSentence.contains("1 jobs from before wait"))
    node.killInit()
  }

  /// Switched on while a live job runs: its first lines are nowhere, so it stays as it was.
  @Test func aLiveJobStaysLive() async throws {
    let node = try FakeNode(isLive: true)
    let persist = FakePersist()
    let supervisor = try node.supervisor(socket: persist.path)
    _ = try await supervisor.adopt()
    await supervisor.connect()
    #expect(await supervisor.statusSentence.contains("persist"))
    try node.say(["one"])
    let (text, _) = try await output(supervisor, node.job, after: 0)
    #expect(text == "one\n")
    #expect(node.ring.ring.load64(RingLayout.Field.ackedSeq) == 1)
    node.killInit()
  }

  @Test func theLastThousandEndsAreRemembered() {
    var ended = EndedJobs(capacity: 3)
    let jobs = (1...5).map { JobID(high: 1, low: UInt64($0)) }
    for job in jobs {
      var record = JobRecord(
        id: job, request: JobRequest(command: "true"), status: .completed, createdAt: .now(), nodeID: "n", owner: "o")
      record.lastSeq = 4
      ended.add(EndedJob(record: record, lastSample: 2, isLive: true))
    }
    #expect(Set(ended.ids) == Set(jobs.suffix(3)))
    #expect(ended[jobs[0]] == nil)
    let job = ended[jobs[4]]
    #expect(job?.output(after: 3) == OutputState(.behind, oldest: 5, acknowledged: nil))
    #expect(job?.output(after: 4).state == .ended)
    #expect(job?.samples(after: 1) == OutputState(.behind, oldest: 3, acknowledged: nil))
    #expect(job?.samples(after: 2).state == .ended)
    holds(ended.remove(jobs[4]))
    holds(!ended.remove(jobs[4]))
  }
}
