import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Sandbox

/// The mount namespace that every sandbox's is a copy of: a root with the allowed mounts, `/dev` and `/etc`, and nothing else of
/// the host. Made once when exec starts.
///
/// clone(2) copies every mount of the caller's namespace, under a lock of the whole host, only for pivot_root(2) to throw the
/// copies away; a copy of the template has a dozen mounts, whatever the host has. What is mounted on the host below an allowed
/// mount later is not in it: that takes a restart of exec.
package final class MountTemplate: Sendable {
  let namespace: Namespace

  private init(_ namespace: consuming Namespace) { self.namespace = namespace }

  /// Has a joblet-init build it, takes its namespace and ends it. Blocks for some milliseconds.
  /// - Parameter root: where sandboxes have their state directories.
  /// - Throws: ``SetupProblem`` naming the step that failed.
  package static func make(
    _ settings: SandboxSettings, spawner: JobLauncher.SharedSpawner, cgroups: CgroupRoot, root: String
  ) throws -> MountTemplate {
    let plan = try Plan.template(settings)
    let name = JobID(node: 0)
    let directory = JobStateDirectory(root: root, job: name)
    try directory.createForSandbox()
    defer { directory.remove() }
    let files = try JobFiles(
      creating: directory, ringSize: RingLayout.dataSizeRange.lowerBound, maxRecords: 1)
    let cgroup = JobCgroup(root: cgroups, name: "\(name)")
    try cgroup.create(root: cgroups)
    defer {
      do { while try !cgroup.removeOnce() { usleep(1000) } } catch {
        // The next start finds it, and removes it.
      }
    }
    let memory = try FileDescriptor.sealedMemory(named: "joblet-template", plan.encoded())
    let leaf = try cgroup.initLeaf.open()
    let process = try spawner.spawner.spawn(
      InitDescriptors(
        plan: memory.raw, ring: files.ring.descriptor, dataFifo: files.data.descriptor.raw,
        spaceFifo: files.space.descriptor.raw),
      cgroup: leaf.raw)
    let result = Result { try waitUntilBuilt(process, files, plan) }
    // Before it ends: a namespace lives as long as a process or a descriptor holds it.
    let namespace = result.flatMap { _ in Result { MountTemplate(try Namespace.open(.mount, of: process.pid)) } }
    try process.send(signal: SIGKILL)
    _ = try process.wait()
    return try namespace.get()
  }

  private static func waitUntilBuilt(_ process: borrowing ProcessHandle, _ files: JobFiles, _ plan: Plan) throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
      files.ring.store32(RingLayout.Field.execWaiting, 1)
      switch RingPhase(rawValue: files.ring.load32(RingLayout.Field.phase)) {
      case .ready: return
      case .new: break
      default:
        throw SetupProblem(
          SetupFailure(
            setupStep: files.ring.load32(RingLayout.Field.setupStep),
            setupErrno: Int32(bitPattern: files.ring.load32(RingLayout.Field.setupErrno))),
          plans: [plan], command: "")
      }
      guard try process.isAlive() else {
        throw SetupProblem(step: "template", message: "joblet-init ended without a word")
      }
      guard ContinuousClock.now < deadline else {
        throw SetupProblem(step: "template", message: "joblet-init has not built the jobs' root within 30 s")
      }
      var polls = [
        pollfd(fd: files.data.descriptor.raw, events: Int16(POLLIN), revents: 0),
        pollfd(fd: process.descriptor.raw, events: Int16(POLLIN), revents: 0),
      ]
      try Kernel.call("poll") { poll(&polls, 2, 1000) }
      try files.data.drain()
    }
  }
}
