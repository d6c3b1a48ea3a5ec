import Cgroups
import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Sandbox

/// joblet-init of one job, as a class because a job shares it between threads.
package final class InitProcess: Sendable {
  package let handle: ProcessHandle
  init(_ handle: consuming ProcessHandle) { self.handle = handle }
}

/// A job whose joblet-init was cloned.
struct LaunchedJob: Sendable {
  var process: InitProcess
  var files: JobFiles
  var firstID: UInt32
  var plan: Plan
}

/// What every launch needs, made once at start. Everything here blocks: it runs on threads kept for it.
package struct JobLauncher: Sendable {
  let spawner: SharedSpawner
  let cgroups: CgroupRoot
  let namespaces: NamespaceStock
  let settings: SandboxSettings
  let filters: SeccompFilters
  let workspaces: Workspaces
  let ringSize: Int
  let maxRecords: Int

  package init(
    spawner: SharedSpawner, cgroups: CgroupRoot, namespaces: NamespaceStock, settings: SandboxSettings,
    filters: SeccompFilters, workspaces: Workspaces, ringSize: Int, maxRecords: Int
  ) {
    self.spawner = spawner
    self.cgroups = cgroups
    self.namespaces = namespaces
    self.settings = settings
    self.filters = filters
    self.workspaces = workspaces
    self.ringSize = ringSize
    self.maxRecords = maxRecords
  }

  package final class SharedSpawner: Sendable {
    let spawner: InitSpawner
    package init(_ spawner: consuming InitSpawner) { self.spawner = spawner }
  }

  /// What a job is made from.
  struct Order: Sendable {
    var job: JobID
    /// With the real values of its secrets.
    var request: JobRequest
    /// Those of the request in the kernel's units.
    var limits: CgroupLimits
    var timeout: Duration?
    var directory: JobStateDirectory
    /// Made at admission; nil for a job that waited in the queue.
    var files: JobFiles?
  }

  /// Makes everything the job needs, in the order of its cost if it fails, and clones joblet-init last.
  ///
  /// A failure gives back what was made, except the workspace and the cgroup's directories, which the teardown removes as
  /// for any job.
  func launch(_ order: Order) throws(SetupProblem) -> LaunchedJob {
    let files = try step("ring") {
      try order.files ?? JobFiles(creating: order.directory, ringSize: ringSize, maxRecords: maxRecords)
    }
    let namespace = try namespaces.take()
    do {
      let plan = try makePlan(order)
      let cgroup = JobCgroup(root: cgroups, name: "\(order.job)")
      try step("cgroup") { try cgroup.create(root: cgroups, limits: order.limits) }
      try step("workspace") { try workspaces.make(order.job, uid: settings.runAs.uid, gid: settings.runAs.gid) }
      let process = try step("joblet-init") { try spawn(plan, cgroup, files, namespace) }
      try step("launch note") { try writeDown(process, namespace.firstID, order.directory) }
      return LaunchedJob(process: process, files: files, firstID: namespace.firstID, plan: plan)
    } catch {
      // Nothing with these IDs was started: a payload waits for the go, which never comes, and the workspace is empty.
      namespaces.giveBack(namespace.firstID)
      throw error
    }
  }

  private func makePlan(_ order: Order) throws(SetupProblem) -> Plan {
    do {
      return try Plan(
        request: order.request, id: order.job, timeout: order.timeout,
        workspace: "\(workspaces.path)/\(order.job)/work",
        settings: settings, filters: filters)
    } catch {
      throw SetupProblem(step: "plan", message: "\(error)")
    }
  }

  private func spawn(
    _ plan: Plan, _ cgroup: JobCgroup, _ files: JobFiles, _ namespace: JobNamespace
  ) throws -> InitProcess {
    let memory = try FileDescriptor.sealedMemory(named: "joblet-plan", plan.encoded())
    let pay = try cgroup.payLeaf.open()
    let payKill = try cgroup.openPayKill()
    let initLeaf = try cgroup.initLeaf.open()
    return InitProcess(
      try spawner.spawner.spawn(
        InitDescriptors(
          plan: memory.raw, ring: files.ring.descriptor, dataFifo: files.data.descriptor.raw,
          spaceFifo: files.space.descriptor.raw, userNamespace: namespace.namespace.descriptor.raw,
          payCgroup: pay.raw, payKill: payKill.raw),
        cgroup: initLeaf.raw))
  }

  /// A process that can't be found again after a restart must not live.
  private func writeDown(_ process: InitProcess, _ firstID: UInt32, _ directory: JobStateDirectory) throws {
    do {
      try directory.saveLaunch(
        LaunchNote(pid: process.handle.pid, startTime: try process.handle.startTime(), firstID: firstID))
    } catch {
      try process.handle.send(signal: SIGKILL)
      _ = try process.handle.wait()
      throw error
    }
  }

  private func step<T>(_ name: String, _ body: () throws -> T) throws(SetupProblem) -> T {
    do {
      return try body()
    } catch {
      throw SetupProblem(step: name, message: "\(error)")
    }
  }
}
