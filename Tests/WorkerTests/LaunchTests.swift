import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LinuxKernel
import Synchronization
import Testing
import Worker

/// Where a launch waits until the test lets go of it.
private final class HeldSandboxes: SandboxSource {
  private let asked = AsyncStream<Void>.makeStream()
  private let held = Mutex(true)

  func take() throws(SetupProblem) -> PreparedSandbox {
    asked.continuation.yield()
    while held.withLock({ $0 }) { usleep(1000) }
    throw SetupProblem(step: "joblet-init", message: "there is none in this test")
  }
  func discard(_ sandbox: PreparedSandbox) {}
  func isAsked() async { for await _ in asked.stream { return } }
  func letGo() { held.withLock { $0 = false } }
}

/// What becomes of jobs whose start fails, or was cut off by the end of an exec.
@Suite(.serialized, .timeLimit(.minutes(2))) struct LaunchTests {
  private let caller = Caller(name: "c", role: .developer, requestID: "r")

  private func wait(_ supervisor: JobSupervisor, _ job: JobID, until isDone: (JobRecord) -> Bool) async throws
    -> JobRecord
  {
    while true {
      let record = try await supervisor.status(job)
      if isDone(record) { return record }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Whatever was written of it: without the go the command certainly did not run, and it starts anew.
  @Test(arguments: [JobStatus.initializing, .running], [RingPhase.new, .ready])
  func aStartWithoutItsGoIsDoneAgain(_ status: JobStatus, _ phase: RingPhase) async throws {
    let node = try FakeNode()
    node.ring.ring.store32(RingLayout.Field.go, 0)
    node.ring.ring.store32(RingLayout.Field.phase, phase.rawValue)
    var record = try node.state.loadRecord()
    record.status = status
    record.startedAt = status == .running ? .now() : nil
    try node.state.saveRecord(Array(JSONEncoder().encode(record)))
    // Killed before the workspace had the job's name.
    let sandbox = JobID(node: 0)
    mkdir("\(node.directory.path)/work/\(sandbox)", 0o700)
    mkdir("\(node.directory.path)/work/\(sandbox)/work", 0o700)
    var note = try #require(try node.state.loadLaunch())
    note.cgroup = "\(sandbox)"
    try node.state.saveLaunch(note)

    let supervisor = try node.supervisor()
    same(try await supervisor.adopt(), 1)
    let queued = try await supervisor.status(node.job)
    #expect(queued.status == .queued && queued.startedAt == nil && queued.version > record.version)
    #expect(try node.state.loadLaunch() == nil)
    #expect(access(node.state.ring, F_OK) != 0)
    #expect(access("\(node.directory.path)/work/\(sandbox)", F_OK) != 0)
    // It starts when exec is open: here to no avail, and says why.
    await supervisor.open()
    let failed = try await wait(supervisor, node.job) { $0.status.isEnded }
    #expect(failed.reason == .setupFailed && failed.message?.contains("there is none in this test") == true)
  }

  @Test func aSandboxThatCanNotBeHadFailsTheJobWithTheReason() async throws {
    let node = try FakeNode()
    node.killInit()
    let supervisor = try node.supervisor()
    await supervisor.open()
    let request = JobRequest(command: "true", secretEnv: ["KEY": "hush"])
    let record = try await supervisor.run(request, caller: caller)
    let ended = try await wait(supervisor, record.id) { $0.status.isEnded }
    #expect(ended.reason == .setupFailed && ended.message == "joblet-init: there is none in this test")
    let state = JobStateDirectory(root: node.directory.path + "/jobs", job: record.id)
    #expect(access("\(state.path)/secret", F_OK) != 0)
  }

  @Test func withoutRoomForItsOutputAJobIsRefused() async throws {
    let node = try FakeNode()
    node.killInit()
    let supervisor = try node.supervisor(sandboxes: NoSandboxes(step: "ring"))
    await supervisor.open()
    let error = await #expect(throws: Problem.self) {
      try await supervisor.run(JobRequest(command: "true"), caller: caller)
    }
    #expect(error?.kind == .unavailable && error?.detail.contains("no room") == true)
    #expect(try JobStateDirectory.jobs(root: node.directory.path + "/jobs") == [node.job])
  }

  /// A launch that waits holds up no other job's admission.
  @Test func aJobThatHasToWaitIsAdmittedBesideALaunchThatHangs() async throws {
    let node = try FakeNode()
    node.killInit()
    let sandboxes = HeldSandboxes()
    let supervisor = try node.supervisor(sandboxes: sandboxes) { $0.maxRunning = 1 }
    await supervisor.open()
    let caller = caller
    async let first = supervisor.run(JobRequest(command: "true"), caller: caller)
    defer { sandboxes.letGo() }
    await sandboxes.isAsked()
    let second = try await supervisor.run(JobRequest(command: "true"), caller: caller)
    #expect(second.status == .queued)
    let state = JobStateDirectory(root: node.directory.path + "/jobs", job: second.id)
    #expect(try state.loadRecord().status == .queued)
    sandboxes.letGo()
    for job in [try await first.id, second.id] {
      let ended = try await wait(supervisor, job) { $0.status.isEnded }
      #expect(ended.reason == .setupFailed)
    }
  }

  /// What waited for a job when exec ended goes; what became a job's meanwhile does not.
  @Test func leftoversGoAndClaimedOnesStay() async throws {
    let node = try FakeNode()
    let left = JobStateDirectory(root: node.directory.path + "/prepared", job: JobID(node: 0))
    try left.createForSandbox()
    let name = JobID(node: 0)
    let claimed = JobStateDirectory(root: node.directory.path + "/prepared", job: name)
    try claimed.createForSandbox()
    var note = try #require(try node.state.loadLaunch())
    note.cgroup = "\(name)"
    try node.state.saveLaunch(note)
    for part in ["", "/init", "/pay"] { mkdir("\(node.directory.path)/cgroup/\(name)\(part)", 0o755) }
    let supervisor = try node.supervisor()
    same(try await supervisor.adopt(), 1)
    #expect(access(left.path, F_OK) != 0 && access(claimed.path, F_OK) != 0)
    #expect(access("\(node.directory.path)/cgroup/\(name)/pay", F_OK) == 0)
    #expect(try await supervisor.status(node.job).status == .running)
  }
}
