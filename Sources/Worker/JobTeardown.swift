import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Logging

/// What the kernel knew of a job when its payload was gone.
struct KernelFacts: Sendable {
  var memoryEvents: MemoryEvents?
  /// The last look at what it used.
  var measurement: Measurement?
  /// What could not be read; the record then lacks it.
  var problems: [String] = []
}

/// Reads what is left of a job, then removes it. Everything here blocks: it runs on threads kept for it, off the start path.
package struct JobTeardown: Sendable {
  let cgroups: CgroupRoot
  let workspaces: Workspaces
  let timeout: Duration

  package init(cgroups: CgroupRoot, workspaces: Workspaces, timeout: Duration) {
    self.cgroups = cgroups
    self.workspaces = workspaces
    self.timeout = timeout
  }

  /// Why the job ended and what it used: before the cgroup goes, for afterwards nobody knows.
  /// - Parameter process: its joblet-init; nil if it is gone.
  func collect(_ job: JobID, process: InitProcess?) -> KernelFacts {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    var facts = KernelFacts()
    guard cgroup.directory.exists else { return facts }
    do { facts.memoryEvents = try cgroup.memoryEvents() } catch { facts.problems.append("\(error)") }
    let measurement = JobMeter(cgroups: cgroups).measure(job, process: process)
    facts.problems += measurement.problems
    if !measurement.isEmpty { facts.measurement = measurement }
    return facts
  }

  /// Kills the payload and all it started; joblet-init stays and reports.
  func killPayload(_ job: JobID) throws {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    if cgroup.payLeaf.exists { try cgroup.killPayload() }
  }

  /// Asks for the payload's processes to stand still, or to go on.
  func freeze(_ job: JobID, _ isFrozen: Bool) throws { try pay(job).freeze(isFrozen) }

  /// True when they all stand still.
  func isFrozen(_ job: JobID) throws -> Bool { try pay(job).isFrozen() }

  /// What was asked for last.
  func isAskedToFreeze(_ job: JobID) throws(Errno) -> Bool { try pay(job).isAskedToFreeze() }

  private func pay(_ job: JobID) -> CgroupDirectory { JobCgroup(root: cgroups, name: "\(job)").payLeaf }

  /// Kills the whole job, joblet-init too.
  func kill(_ job: JobID) throws {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    if cgroup.directory.exists { try cgroup.killAll() }
  }

  /// Kills what lives, reaps joblet-init, removes the cgroup and, now or after `keep`, the workspace. May be called again
  /// until it succeeds; the job's host IDs may be given to another one only then. (The files of a workspace that is kept
  /// are owned by the IDs inside the job, which mean the same for every job.)
  func remove(_ job: JobID, process: InitProcess?, keep: Duration = .zero) throws {
    try kill(job)
    if let process { try reap(process) }
    try removeCgroup(job)
    try workspaces.remove(job, after: keep)
  }

  private func reap(_ process: InitProcess) throws(Errno) {
    do {
      _ = try process.handle.wait()
    } catch {
      // Not our child: it belonged to an exec that is gone, and whoever inherited it reaps it.
      guard error.code == ECHILD else { throw error }
    }
  }

  private func removeCgroup(_ job: JobID) throws {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    let deadline = ContinuousClock.now + timeout
    var pause: UInt32 = 500
    while try !cgroup.removeOnce() {
      guard ContinuousClock.now < deadline else {
        throw Errno(EBUSY, "rmdir", "\(cgroup.directory.path): its processes do not end")
      }
      usleep(pause)
      pause = min(pause * 2, 50_000)
    }
  }

  /// Removes workspaces that were kept long enough, or that a crash left behind.
  /// - Parameters:
  ///   - known: the jobs there were at `moment`. A job that came later made its directory later, so it is not due.
  ///   - moment: Unix seconds.
  func sweep(known: Set<JobID>, at moment: Int, logger: Logger) {
    do {
      for job in try workspaces.due(before: moment) where !known.contains(job) {
        // A clock that was set back could make a new job's directory look old; its cgroup tells that it lives.
        guard !JobCgroup(root: cgroups, name: "\(job)").directory.exists else { continue }
        try workspaces.remove(job, after: .zero)
      }
    } catch {
      logger.error("old workspaces could not be removed", metadata: ["error": "\(error)"])
    }
  }
}
