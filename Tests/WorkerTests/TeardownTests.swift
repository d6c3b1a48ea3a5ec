import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Testing
import Worker

@Suite(.serialized, .timeLimit(.minutes(2))) struct TeardownTests {
  private func workspaces(_ node: FakeNode) -> Workspaces { Workspaces(path: node.directory.path + "/work") }

  private func teardown(_ node: FakeNode, timeout: Duration) throws -> JobTeardown {
    JobTeardown(
      cgroups: try CgroupRoot(path: node.directory.path + "/cgroup", enabling: [.cpu, .memory, .io, .pids]),
      workspaces: workspaces(node), timeout: timeout)
  }

  private func make(_ workspace: JobID, _ node: FakeNode) throws -> String {
    try workspaces(node).make(workspace, uid: getuid(), gid: getgid())
    let path = "\(node.directory.path)/work/\(workspace)"
    #expect(mkdir("\(path)/work/left", 0o755) == 0)
    return path
  }

  private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  private func until(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await Task.sleep(for: .milliseconds(1)) }
  }

  /// A process that no signal ends (here: that got none) must not keep the thread, nor lose what it uses.
  @Test func aProcessThatDoesNotEndIsNotWaitedForForEver() throws {
    let node = try FakeNode()
    let workspace = try make(node.job, node)
    let teardown = try teardown(node, timeout: .milliseconds(50))
    let process = InitProcess(try ProcessHandle.open(pid: node.pid))
    let error = #expect(throws: Errno.self) {
      try teardown.remove(node.job, cgroup: "\(node.job)", process: process)
    }
    #expect(error?.code == EBUSY)
    #expect(exists(workspace))
    node.killInit()
    let patient = try self.teardown(node, timeout: .seconds(60))
    try patient.remove(node.job, cgroup: "\(node.job)", process: process)
    #expect(!exists(workspace))
    // Once more, as after a later step that failed: it is reaped already.
    try patient.remove(node.job, cgroup: "\(node.job)", process: process)
  }

  /// The job failed before its sandbox's workspace became its own, or after.
  @Test(arguments: [false, true]) func theSandboxsOwnWorkspaceGoesToo(isRenamed: Bool) throws {
    let node = try FakeNode()
    let sandbox = JobID(node: 0)
    let neighbour = try make(JobID(node: 0), node)
    let workspace = try make(isRenamed ? node.job : sandbox, node)
    try teardown(node, timeout: .seconds(1)).remove(
      node.job, cgroup: "\(sandbox)", process: nil, keep: isRenamed ? .seconds(1000) : .zero)
    #expect(exists(workspace) == isRenamed, "the job's own is kept")
    #expect(exists(neighbour))
  }

  /// Its owner deletes a job that has ended and whose processes have not: the workspace is theirs until they have.
  @Test func aDeletedJobsWorkspaceGoesWithItsLastProcess() async throws {
    let node = try FakeNode()
    let workspace = try make(node.job, node)
    let kept = JobID(node: 1)
    let other = try make(kept, node)
    let supervisor = try node.supervisor {
      $0.cleanupTimeout = .milliseconds(50)
      $0.keepWorkspace = .seconds(1000)
    }
    _ = try await supervisor.adopt()
    try node.end()
    try await until { try await supervisor.status(node.job).status.isEnded }
    try await supervisor.delete(node.job)
    // Removals have one thread here: when this one is done, all that was asked for before it is.
    await #expect(throws: Problem.self) { try await supervisor.delete(kept) }
    try await until { !exists(other) }
    #expect(exists(workspace))
    #expect(exists(node.state.path))
    node.killInit()
    try await until { !exists(workspace) && !exists(node.state.path) }
    await #expect(throws: Problem.self) { try await supervisor.status(node.job) }
  }
}
