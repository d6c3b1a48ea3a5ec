import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LinuxKernel
import Synchronization
import Testing
import Worker

/// What an exec finds of the one before: time-outs, host IDs, and jobs that can't be read.
@Suite(.serialized, .timeLimit(.minutes(2))) struct RestartTests {
  private static let range: UInt32 = 65_536
  private static let files = [
    "cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 1\n", "cgroup.kill": "",
  ]

  private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(1)) }
  }

  private func read(_ path: String) throws -> String {
    String(decoding: try FileDescriptor.open(path, O_RDONLY).readAll(), as: UTF8.self)
  }

  private func write(_ text: String, _ path: String) throws {
    try FileDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600).writeAll(Array(text.utf8))
  }

  private func isKilled(_ node: FakeNode) throws -> Bool {
    try read("\(node.directory.path)/cgroup/\(node.job)/pay/cgroup.kill").hasPrefix("1")
  }

  private func startedAt(_ node: FakeNode, _ time: Timestamp) throws {
    var record = try node.state.loadRecord()
    record.startedAt = time
    try node.state.saveRecord(Array(JSONEncoder().encode(record)))
  }

  /// A kill that was due is done when this returns: both go through the same queue, and a timer without a delay comes first.
  private func settle(_ supervisor: JobSupervisor, _ node: FakeNode) async throws {
    #expect(try await supervisor.pause(node.job).status == .paused)
  }

  // MARK: Time-outs

  /// The clock was set forward by a day, or the claim came long before the go.
  @Test(arguments: [-1, 0, JobMeter.clock() - 1_000_000_000, .max])
  func aTimeoutIsNotCountedByTheRecord(executedAt: Int64) async throws {
    let node = try FakeNode(figures: Self.files)
    try startedAt(node, Timestamp(nanoseconds: Timestamp.now().nanoseconds - 86_400_000_000_000))
    node.ring.ring.store64(RingLayout.Field.traceExec, UInt64(bitPattern: executedAt))
    let supervisor = try node.supervisor { $0.defaultTimeout = .seconds(3600) }
    _ = try await supervisor.adopt()
    try await settle(supervisor, node)
    #expect(try !isKilled(node))
    node.killInit()
  }

  /// The clock was set back, but the job ran out of its time long ago.
  @Test func aTimeoutIsCountedByTheRing() async throws {
    let node = try FakeNode(figures: Self.files)
    try startedAt(node, .now())
    node.ring.ring.store64(RingLayout.Field.traceExec, 1)
    let supervisor = try node.supervisor {
      $0.defaultTimeout = .milliseconds(1)
      $0.stopGrace = .zero
    }
    _ = try await supervisor.adopt()
    try await until { try isKilled(node) }
    node.killInit()
  }

  /// As after a launch that had to wait: nothing is counted before the command runs.
  @Test func aTimeoutBeginsWithTheCommand() async throws {
    let node = try FakeNode(figures: Self.files)
    try startedAt(node, Timestamp(nanoseconds: 1))
    node.ring.ring.store32(RingLayout.Field.phase, RingPhase.ready.rawValue)
    let supervisor = try node.supervisor {
      $0.defaultTimeout = .milliseconds(1)
      $0.stopGrace = .zero
    }
    _ = try await supervisor.adopt()
    try await settle(supervisor, node)
    #expect(try !isKilled(node))
    node.ring.ring.store64(RingLayout.Field.traceExec, UInt64(JobMeter.clock()))
    node.ring.ring.store32(RingLayout.Field.phase, RingPhase.running.rawValue)
    try node.data.wake()
    try await until { try isKilled(node) }
    node.killInit()
  }

  @Test func timesThatCanNotBeAreNone() throws {
    let fake = try FakeRing()
    let consumer = try RingConsumer(ring: fake.ring)
    for (time, age) in [(0, nil), (-5, nil), (101, nil), (100, .zero), (40, .nanoseconds(60))] as [(Int64, Duration?)] {
      fake.ring.store64(RingLayout.Field.traceExec, UInt64(bitPattern: time))
      #expect(consumer.timeSinceExec(at: 100) == age)
    }
  }

  /// What the record says while the job runs is the claim's time; what it says at the end is the ring's.
  @Test(arguments: [true, false]) func theEndTellsWhenTheCommandStarted(isReported: Bool) async throws {
    let node = try FakeNode(figures: Self.files)
    try startedAt(node, Timestamp(nanoseconds: 1))
    node.ring.ring.store64(RingLayout.Field.startedAt, 1_500_000_000)
    let supervisor = try node.supervisor()
    _ = try await supervisor.adopt()
    if isReported { try node.end() } else { node.killInit() }
    try await until { try await supervisor.status(node.job).status.isEnded }
    let record = try await supervisor.status(node.job)
    #expect(record.status == (isReported ? .completed : .failed))
    #expect(record.startedAt == Timestamp(nanoseconds: 1_500_000_000))
    node.killInit()
  }

  /// It has its go, and its command never comes to its exec.
  @Test func aSetupIsWatchedAfterARestart() async throws {
    let node = try FakeNode(figures: Self.files)
    node.ring.ring.store32(RingLayout.Field.phase, RingPhase.ready.rawValue)
    let supervisor = try node.supervisor { $0.cleanupTimeout = .milliseconds(50) }
    _ = try await supervisor.adopt()
    try await until { try await supervisor.status(node.job).status.isEnded }
    let record = try await supervisor.status(node.job)
    #expect(record.reason == .setupFailed && record.message?.hasPrefix("exec: it was not done within") == true)
    node.killInit()
  }

  // MARK: Host IDs

  private func isFree(_ namespaces: NamespaceStock) -> Bool {
    guard namespaces.adopt(Self.range) else { return false }
    namespaces.giveBack(Self.range)
    return true
  }

  /// persist is away, so the state directory stays; its IDs are another's from now on.
  @Test func theNoteOfAJobThatIsRemovedClaimsNoIDs() async throws {
    let node = try FakeNode()
    let namespaces = try FakeNode.namespaces()
    let supervisor = try node.supervisor(namespaces: namespaces)
    _ = try await supervisor.adopt()
    #expect(!isFree(namespaces))
    node.killInit()
    try node.end()
    try await until { isFree(namespaces) }
    #expect(try node.state.loadLaunch() == nil)
    #expect(access(node.state.ring, F_OK) == 0)
    // The exec after this one has nothing to do with them.
    let later = try FakeNode.namespaces()
    let next = try node.supervisor(namespaces: later)
    same(try await next.adopt(), 1)
    #expect(isFree(later))
    #expect(try await next.status(node.job).status.isEnded)
  }

  /// Two notes with one range, as an earlier version could leave them: it is the one's that lives, and the other's end does not
  /// give it back.
  @Test(arguments: [JobStatus.completed, .initializing]) func onlyWhoHasIDsGivesThemBack(_ other: JobStatus)
    async throws
  {
    let node = try FakeNode()
    // Before the one that lives, by their names.
    let first = JobID(high: 1, low: 1)
    let state = JobStateDirectory(root: node.directory.path + "/jobs", job: first)
    var record = try node.state.loadRecord()
    record.id = first
    record.status = other
    let request = JobRequest(command: "true")
    try state.create(request: request, record: Array(JSONEncoder().encode(record)))
    try state.saveLaunch(LaunchNote(pid: 1 << 30, startTime: 1, firstID: Self.range))
    let namespaces = try FakeNode.namespaces()
    let supervisor = try node.supervisor(namespaces: namespaces)
    same(try await supervisor.adopt(), 2)
    // What the queue of removals does after the other's removal.
    let kept = JobID(high: 2, low: 2)
    let workspace = "\(node.directory.path)/work/\(kept)"
    for part in ["", "/work"] { mkdir(workspace + part, 0o700) }
    await #expect(throws: Problem.self) { try await supervisor.delete(kept) }
    try await until { access(workspace, F_OK) != 0 }
    #expect(try state.loadLaunch() == nil && node.state.loadLaunch() != nil)
    #expect(!isFree(namespaces))
    node.killInit()
  }

  // MARK: Jobs that can't be read

  /// Its cgroup has its sandbox's name, and what lives there has its IDs and works on its workspace.
  @Test func aBrokenJobIsEndedBeforeAnythingOfItIsRemoved() async throws {
    let node = try FakeNode()
    let sandbox = JobID(node: 0)
    var note = try #require(try node.state.loadLaunch())
    note.cgroup = "\(sandbox)"
    try node.state.saveLaunch(note)
    try node.state.saveRecord(Array("nonsense".utf8))
    let cgroup = "\(node.directory.path)/cgroup/\(sandbox)"
    for part in ["", "/init", "/pay"] { mkdir(cgroup + part, 0o755) }
    try write("populated 1\nfrozen 0\n", cgroup + "/cgroup.events")
    try write("", cgroup + "/cgroup.kill")
    let workspace = "\(node.directory.path)/work/\(node.job)"
    for part in ["", "/work"] { mkdir(workspace + part, 0o700) }
    let namespaces = try FakeNode.namespaces()
    let supervisor = try node.supervisor(namespaces: namespaces, teardownTimeout: .seconds(60))
    let isDone = Mutex(false)
    let adoption = Task {
      let count = try await supervisor.adopt()
      isDone.withLock { $0 = true }
      return count
    }
    try await until { try read(cgroup + "/cgroup.kill").hasPrefix("1") }
    #expect(!isFree(namespaces))
    #expect(access(workspace, F_OK) == 0 && access(node.state.path, F_OK) == 0)
    #expect(!isDone.withLock { $0 })
    // The kernel: all of it has ended.
    #expect(rename(cgroup, "\(node.directory.path)/gone") == 0)
    same(try await adoption.value, 0)
    try await until { isFree(namespaces) }
    #expect(access(workspace, F_OK) != 0 && access(node.state.path, F_OK) != 0)
    node.killInit()
  }

  /// What can't be ended keeps what it has.
  @Test func aBrokenJobThatLivesOnKeepsItsIDs() async throws {
    let node = try FakeNode(figures: [:])
    try node.state.saveRecord(Array("nonsense".utf8))
    let cgroup = "\(node.directory.path)/cgroup/\(node.job)"
    try write("populated 1\nfrozen 0\n", cgroup + "/cgroup.events")
    try write("", cgroup + "/cgroup.kill")
    let workspace = "\(node.directory.path)/work/\(node.job)"
    for part in ["", "/work"] { mkdir(workspace + part, 0o700) }
    let namespaces = try FakeNode.namespaces()
    let supervisor = try node.supervisor(namespaces: namespaces)
    same(try await supervisor.adopt(), 0)  // not before a second has passed
    #expect(!isFree(namespaces))
    #expect(access(workspace, F_OK) == 0)
    #expect(try node.state.loadLaunch()?.firstID == Self.range)
    node.killInit()
  }
}
