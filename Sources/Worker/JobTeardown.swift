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
  /// - Parameters:
  ///   - name: its cgroup.
  ///   - process: its joblet-init; nil if it is gone.
  func collect(cgroup name: String, process: InitProcess?) -> KernelFacts {
    let cgroup = JobCgroup(root: cgroups, name: name)
    var facts = KernelFacts()
    guard cgroup.directory.exists else { return facts }
    do { facts.memoryEvents = try cgroup.memoryEvents() } catch { facts.problems.append("\(error)") }
    let measurement = JobMeter(cgroups: cgroups).measure(cgroup: name, process: process)
    facts.problems += measurement.problems
    if !measurement.isEmpty { facts.measurement = measurement }
    return facts
  }

  /// Kills the payload and all it started; joblet-init stays and reports.
  func killPayload(cgroup name: String) throws {
    let cgroup = JobCgroup(root: cgroups, name: name)
    if cgroup.payLeaf.exists { try cgroup.killPayload() }
  }

  /// Asks for the payload's processes to stand still, or to go on.
  func freeze(cgroup name: String, _ isFrozen: Bool) throws { try pay(name).freeze(isFrozen) }

  /// True when they all stand still.
  func isFrozen(cgroup name: String) throws -> Bool { try pay(name).isFrozen() }

  /// What was asked for last.
  func isAskedToFreeze(cgroup name: String) throws(Errno) -> Bool { try pay(name).isAskedToFreeze() }

  private func pay(_ name: String) -> CgroupDirectory { JobCgroup(root: cgroups, name: name).payLeaf }

  /// Kills the whole job, joblet-init too.
  func kill(cgroup name: String) throws {
    let cgroup = JobCgroup(root: cgroups, name: name)
    if cgroup.directory.exists { try cgroup.killAll() }
  }

  /// Kills what lives, reaps joblet-init, removes the cgroup and, now or after `keep`, the workspace. May be called again
  /// until it succeeds; the job's host IDs may be given to another one only then. (The files of a workspace that is kept
  /// are owned by the IDs inside the job, which mean the same for every job.)
  /// - Parameters:
  ///   - job: the job, or a sandbox that has none.
  ///   - cgroup: the name of its cgroup, which is its sandbox's.
  /// - Throws: EBUSY, among others, if a process does not end within ``timeout``.
  package func remove(_ job: JobID, cgroup: String, process: InitProcess?, keep: Duration = .zero) throws {
    let deadline = ContinuousClock.now + timeout
    try kill(cgroup: cgroup)
    if let process { try reap(process, until: deadline) }
    try removeCgroup(cgroup, until: deadline)
    try workspaces.remove(job, after: keep)
    // The job may have failed before its workspace was given its name.
    if let sandbox = JobID(cgroup), sandbox != job { try workspaces.remove(sandbox, after: .zero) }
  }

  /// Kills a sandbox's cgroup and reaps its joblet-init.
  func end(_ process: InitProcess, cgroup: String) throws {
    try kill(cgroup: cgroup)
    try reap(process, until: ContinuousClock.now + timeout)
  }

  /// Never without a limit: a process that the kernel can't end just now (a file system whose server is gone) would keep the
  /// thread, and with it the removal of every other job.
  private func reap(_ process: InitProcess, until deadline: ContinuousClock.Instant) throws(Errno) {
    let handle = process.handle.descriptor.raw
    var entry = pollfd(fd: handle, events: Int16(POLLIN), revents: 0)
    let ended = try Kernel.call("poll", "\(process.handle.pid)") {
      let rest: Duration = max(.zero, deadline - ContinuousClock.now)
      return poll(&entry, 1, CInt(min((rest / .milliseconds(1)).rounded(.up), 1e9)))
    }
    guard ended > 0 else { throw Errno(EBUSY, "waitid", "\(process.handle.pid): it was killed and does not end") }
    do {
      _ = try process.handle.reap()
    } catch {
      // Not our child: it belonged to an exec that is gone, and whoever inherited it reaps it.
      guard error.code == ECHILD else { throw error }
    }
  }

  private func removeCgroup(_ name: String, until deadline: ContinuousClock.Instant) throws {
    let cgroup = JobCgroup(root: cgroups, name: name)
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
  ///   - stateRoot: where jobs have their state directories.
  func sweep(known: Set<JobID>, at moment: Int, stateRoot: String, logger: Logger) {
    do {
      for job in try workspaces.due(before: moment) where !known.contains(job) {
        // One that can't be removed keeps no other one.
        do { try removeKept(job, stateRoot: stateRoot) } catch {
          logger.error("an old workspace could not be removed", metadata: ["job": "\(job)", "error": "\(error)"])
        }
      }
    } catch {
      logger.error("old workspaces can't be looked for", metadata: ["error": "\(error)"])
    }
  }

  /// Removes what was kept of a job that is gone; nothing of one that is not.
  func removeKept(_ job: JobID, stateRoot: String) throws {
    // A clock that was set back could make a new job's directory look old, and a client may name what it likes: a job that lives
    // has its state, a sandbox that waits for a job a cgroup of its name.
    guard access("\(stateRoot)/\(job)", F_OK) != 0 else { return }
    guard !JobCgroup(root: cgroups, name: "\(job)").directory.exists else { return }
    try removeKept(job)
  }

  /// Removes what was kept of a job that is torn down.
  func removeKept(_ job: JobID) throws(Errno) { _ = try workspaces.removeUnlessGoing("\(job)", after: .zero) }
}
