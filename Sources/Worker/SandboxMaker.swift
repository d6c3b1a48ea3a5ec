import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Logging
import Sandbox

/// joblet-init of one job, as a class because a job shares it between threads.
package final class InitProcess: Sendable {
  package let handle: ProcessHandle
  package init(_ handle: consuming ProcessHandle) { self.handle = handle }
}

/// A sandbox that waits for a job, or is about to: everything a job needs but the job. It holds nothing of any.
package final class PreparedSandbox: Sendable {
  /// Of its cgroup, workspace and state directory. Not the ID of the job that will have it, but as unique.
  package let name: JobID
  let directory: JobStateDirectory
  let files: JobFiles
  package let process: InitProcess
  package let firstID: UInt32
  /// For the job's own plan; empty and not sealed. joblet-init holds it too.
  let jobPlan: FileDescriptor
  let hostNames: Namespace

  init(
    name: JobID, directory: JobStateDirectory, files: JobFiles, process: InitProcess, firstID: UInt32,
    jobPlan: consuming FileDescriptor, hostNames: consuming Namespace
  ) {
    self.name = name
    self.directory = directory
    self.files = files
    self.process = process
    self.firstID = firstID
    self.jobPlan = jobPlan
    self.hostNames = hostNames
  }

  /// How far its joblet-init is; nil if it is gone, or its ring says what can't be.
  func phase() throws(Errno) -> RingPhase? {
    guard try process.handle.isAlive() else { return nil }
    return RingPhase(rawValue: files.ring.load32(RingLayout.Field.phase))
  }
}

/// What every sandbox is made from, made once at start.
package struct SandboxMaker: Sendable {
  let spawner: JobLauncher.SharedSpawner
  let template: MountTemplate
  let plan: SandboxPlan
  let cgroups: CgroupRoot
  let namespaces: NamespaceStock
  let workspaces: Workspaces
  let teardown: JobTeardown
  let settings: SandboxSettings
  let ringSize: Int
  let maxRecords: Int
  /// Where sandboxes without a job have their state directories; on the file system of the jobs'.
  let root: String
  /// Makes the cgroup that jobs live in again, if it is gone.
  let restoreRoot: @Sendable () throws -> Void
  let logger: Logger

  package init(
    spawner: JobLauncher.SharedSpawner, template: MountTemplate, plan: SandboxPlan, cgroups: CgroupRoot,
    namespaces: NamespaceStock, workspaces: Workspaces, teardown: JobTeardown, settings: SandboxSettings,
    ringSize: Int, maxRecords: Int, root: String, logger: Logger, restoreRoot: @escaping @Sendable () throws -> Void
  ) {
    self.spawner = spawner
    self.template = template
    self.plan = plan
    self.cgroups = cgroups
    self.namespaces = namespaces
    self.workspaces = workspaces
    self.teardown = teardown
    self.settings = settings
    self.ringSize = ringSize
    self.maxRecords = maxRecords
    self.root = root
    self.logger = logger
    self.restoreRoot = restoreRoot
  }

  /// The same plan for all sandboxes, in memory that nobody can change.
  package final class SandboxPlan: Sendable {
    let plan: Plan
    let memory: FileDescriptor

    package init(_ plan: Plan) throws(Errno) {
      self.plan = plan
      memory = try .sealedMemory(named: "joblet-sandbox", plan.encoded())
    }
  }

  /// Makes one, in the order of its cost if it fails, with joblet-init last. Blocks for a millisecond or two; joblet-init is not
  /// ready by then. A failure leaves nothing behind, or what it leaves keeps its IDs.
  /// - Returns: nil if every range of IDs is in use; nothing was made then.
  package func make() throws(SetupProblem) -> PreparedSandbox? {
    guard let namespace = try namespaces.take() else { return nil }
    let name = JobID(node: 0)
    let directory = JobStateDirectory(root: root, job: name)
    do {
      try step("state directory") { try directory.createForSandbox() }
      let files = try step("ring") {
        try checkRoom()
        return try JobFiles(creating: directory, ringSize: ringSize, maxRecords: maxRecords)
      }
      let cgroup = try step("cgroup") { try makeCgroup("\(name)") }
      try step("workspace") { try workspaces.make(name, uid: settings.runAs.uid, gid: settings.runAs.gid) }
      return try step("joblet-init") { try spawn(name, cgroup, files, namespace, directory) }
    } catch {
      undo(name, directory, namespace.firstID)
      throw error
    }
  }

  /// Rings stand on the tmpfs that the whole host keeps its run-time state on: they leave an eighth of it to others.
  private func checkRoom() throws {
    var status = statvfs()
    try Kernel.call("statvfs", root) { statvfs(root, &status) }
    guard status.f_blocks > 0,
      UInt64(status.f_bavail) * UInt64(status.f_frsize) >= UInt64(ringSize) + UInt64(status.f_blocks)
        * UInt64(status.f_frsize) / 8
    else { throw Errno(ENOSPC, "statvfs", "\(root): an eighth of it is kept free") }
  }

  private func makeCgroup(_ name: String) throws -> JobCgroup {
    let cgroup = JobCgroup(root: cgroups, name: name)
    do {
      try cgroup.create(root: cgroups)
    } catch CgroupError.kernel(let error) where error.code == ENOENT {
      // A scope whose last process ended is removed by systemd, and it is nobody's fault but the killer's.
      try restoreRoot()
      try cgroup.create(root: cgroups)
    }
    return cgroup
  }

  private func spawn(
    _ name: JobID, _ cgroup: JobCgroup, _ files: JobFiles, _ namespace: JobNamespace, _ directory: JobStateDirectory
  ) throws -> PreparedSandbox {
    let jobPlan = try FileDescriptor.memory(named: "joblet-job")
    let userNamespace = namespace.namespace.descriptor.raw
    let work = try DetachedMount.workspace(workspaces.inner(name), userNamespace: userNamespace)
    let facts = try DetachedMount.readOnly(directory.facts)
    let pay = try cgroup.payLeaf.open()
    let payKill = try cgroup.openPayKill()
    let initLeaf = try cgroup.initLeaf.open()
    let process = InitProcess(
      try spawner.spawner.spawn(
        InitDescriptors(
          plan: plan.memory.raw, ring: files.ring.descriptor, dataFifo: files.data.descriptor.raw,
          spaceFifo: files.space.descriptor.raw, userNamespace: userNamespace, payCgroup: pay.raw,
          payKill: payKill.raw, jobPlan: jobPlan.raw, workspace: work.descriptor.raw, facts: facts.descriptor.raw),
        cgroup: initLeaf.raw, mounts: template.namespace.descriptor.raw))
    do {
      let hostNames = try Namespace.open(.hostName, of: process.handle.pid)
      // A process that can't be found again after a restart must not live.
      try directory.saveLaunch(
        LaunchNote(
          pid: process.handle.pid, startTime: try process.handle.startTime(), firstID: namespace.firstID,
          cgroup: "\(name)"))
      return PreparedSandbox(
        name: name, directory: directory, files: files, process: process, firstID: namespace.firstID, jobPlan: jobPlan,
        hostNames: hostNames)
    } catch {
      // Reaped here, for nobody else knows of it. One that does not end is still in its cgroup, so `undo` can't remove that.
      do { try teardown.end(process, cgroup: "\(name)") } catch {
        logger.error(
          "the joblet-init of a sandbox that failed does not end",
          metadata: ["sandbox": "\(name)", "error": "\(error)"])
      }
      throw error
    }
  }

  /// Removes what a failure left, and only then gives its IDs back: another job with the IDs of a process that lives could be
  /// signalled and traced by it. What can't be removed now is found by its state directory at the next start.
  private func undo(_ name: JobID, _ directory: JobStateDirectory, _ firstID: UInt32) {
    do {
      try teardown.remove(name, cgroup: "\(name)", process: nil)
      directory.remove()
      namespaces.giveBack(firstID)
    } catch {
      logger.error(
        "what a sandbox that failed had could not be removed, and keeps its IDs; the next start of joblet-exec tries again",
        metadata: ["sandbox": "\(name)", "first_id": "\(firstID)", "error": "\(error)"])
    }
  }

  private func step<T>(_ name: String, _ body: () throws -> T) throws(SetupProblem) -> T {
    do {
      return try body()
    } catch let problem as SetupProblem {
      throw problem
    } catch {
      throw SetupProblem(step: name, message: "\(error)")
    }
  }
}
