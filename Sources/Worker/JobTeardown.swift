import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Logging

/// What the kernel knew of a job when its payload was gone.
struct KernelFacts: Sendable {
  var oomKills: Int64?
  var usage = CgroupUsage()
  /// What could not be read; the record then lacks it.
  var problems: [String] = []
}

/// Reads what is left of a job, then removes it. Everything here blocks: it runs on threads kept for it, off the start path.
struct JobTeardown: Sendable {
  let cgroups: CgroupRoot
  let workspaces: String
  let timeout: Duration

  /// Why the job ended and what it used: before the cgroup goes, for afterwards nobody knows.
  func collect(_ job: JobID) -> KernelFacts {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    var facts = KernelFacts()
    guard cgroup.directory.exists else { return facts }
    do { facts.oomKills = try cgroup.oomKills() } catch { facts.problems.append("\(error)") }
    do { facts.usage = try cgroup.usage() } catch { facts.problems.append("\(error)") }
    return facts
  }

  /// Kills the payload and all it started; joblet-init stays and reports.
  func killPayload(_ job: JobID) throws {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    if cgroup.payLeaf.exists { try cgroup.killPayload() }
  }

  /// Kills the whole job, joblet-init too.
  func kill(_ job: JobID) throws {
    let cgroup = JobCgroup(root: cgroups, name: "\(job)")
    if cgroup.directory.exists { try cgroup.killAll() }
  }

  /// Kills what lives, reaps joblet-init, removes the cgroup and the workspace. May be called again until it succeeds; the
  /// job's host IDs may be given to another one only then.
  func remove(_ job: JobID, process: InitProcess?) throws {
    try kill(job)
    if let process { try reap(process) }
    try removeCgroup(job)
    try TreeRemover.remove("\(job)", in: workspaces)
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
}
