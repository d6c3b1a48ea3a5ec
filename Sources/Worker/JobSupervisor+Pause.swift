import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Logging

/// Pausing: cgroup v2's freezer on the payload's cgroup (`cgroup.freeze`; Documentation/admin-guide/cgroup-v2.rst). joblet-init
/// is not in it, so output that is on the way goes on its way, and the time-out goes on too. A frozen process can be
/// killed, by any signal that ends it without being caught; one that it catches waits for the thaw.
///
/// Nothing about it lives in exec alone: the kernel's file says what was asked for, the record what came of it, and a
/// restarted exec goes on from the two.
extension JobSupervisor {
  /// A process that waits in the kernel can't be frozen before it wakes up.
  private static let longestFreeze: Duration = .seconds(20)

  // MARK: Requests

  /// Freezes a running job, and answers when every process of it stands still. Twice is no error.
  /// - Throws: `Problem`: conflict for a job that does not run, unavailable if it can't be frozen now; then it goes on.
  package func pause(_ id: JobID) async throws -> JobRecord {
    let job = try running(id, "paused")
    guard !job.machine.isStopping else { throw Problem(.conflict, "job \(id) is being stopped and can't be paused") }
    job.freezeProblem = nil
    apply(.pauseRequested, to: job)
    while job.machine.state == .running, job.machine.freezer == .freezing {
      try Task.checkCancellation()
      await waitForNews(of: job, .state, atMost: JobSupervisor.longestFreeze)
    }
    guard job.record.status != .paused else { return job.record }
    if job.record.status.isEnded { throw endedAlready(job.record) }
    if let problem = job.freezeProblem {
      throw Problem(.unavailable, "job \(id) can't be paused now and goes on: \(problem)", retryAfter: 5)
    }
    throw Problem(.conflict, "job \(id) was resumed or stopped while it was being paused")
  }

  /// Lets a paused job go on. For one that is not paused this changes nothing and is no error.
  /// - Throws: `Problem`: conflict for a job that does not run.
  package func resume(_ id: JobID) async throws -> JobRecord {
    let job = try running(id, "resumed")
    apply(.resumeRequested, to: job)
    while job.machine.state == .running, job.machine.freezer == .thawing {
      try Task.checkCancellation()
      await waitForNews(of: job, .state, atMost: JobSupervisor.longestFreeze)
    }
    if job.record.status.isEnded { throw endedAlready(job.record) }
    return job.record
  }

  private func running(_ id: JobID, _ what: String) throws(Problem) -> SupervisedJob {
    guard let job = jobs[id] else { throw ended[id].map { endedAlready($0.record) } ?? unknown(id) }
    guard !job.record.status.isEnded else { throw endedAlready(job.record) }
    switch job.machine.state {
    case .running: return job
    case .queued, .preparing, .initializing:
      throw Problem(.conflict, "job \(id) has not started yet (\(job.record.status.rawValue)) and can't be \(what)")
    case .collecting, .draining, .gone: throw Problem(.conflict, "job \(id) is ending and can't be \(what)")
    }
  }

  // MARK: The machine's actions

  /// Writes what is asked for. One write at a time, so that two threads can't turn their order round.
  func setFreezer(_ job: SupervisedJob, _ isFrozen: Bool) {
    job.wantsFrozen = isFrozen
    wakeWaiters(job, .state)
    guard !job.isFreezerBusy else { return }
    job.isFreezerBusy = true
    let (id, cgroup) = (job.id, job.cgroup)
    ending.submit { [self] in
      let result = Result { try teardown.freeze(cgroup: cgroup, isFrozen) }
      loop.post { self.assumeIsolated { $0.freezerWritten(id, isFrozen, result) } }
    }
  }

  private func freezerWritten(_ id: JobID, _ isFrozen: Bool, _ result: Result<Void, any Error>) {
    guard let job = jobs[id] else { return }
    job.isFreezerBusy = false
    guard job.wantsFrozen == isFrozen else { return setFreezer(job, job.wantsFrozen) }
    switch result {
    case .success where isFrozen: lookForFrozen(job, until: .now + longestFreeze, pause: .milliseconds(1))
    case .success: apply(.thawed, to: job)
    case .failure(let error):
      guard job.machine.state == .running else { return }  // its cgroup is going
      logger.error(
        "a job's freezer could not be set", metadata: ["job": "\(id)", "frozen": "\(isFrozen)", "error": "\(error)"])
      if isFrozen {
        job.freezeProblem = "\(error)"
        apply(.freezeFailed, to: job)
      } else {
        // It must not stand still for ever for one error.
        loop.schedule(after: .seconds(1)) { [weak self] in
          self?.assumeIsolated { supervisor in
            guard let job = supervisor.jobs[id], job.machine.freezer == .thawing else { return }
            supervisor.setFreezer(job, false)
          }
        }
      }
    }
  }

  private var longestFreeze: Duration { min(settings.cleanupTimeout, JobSupervisor.longestFreeze) }

  /// Waits until every process stands still: mostly at once, else a few milliseconds.
  private func lookForFrozen(_ job: SupervisedJob, until deadline: ContinuousClock.Instant, pause: Duration) {
    guard job.machine.state == .running, job.machine.freezer == .freezing else { return }
    do {
      if try teardown.isFrozen(cgroup: job.cgroup) { return apply(.frozen, to: job) }
    } catch {
      job.freezeProblem = "\(error)"
      return apply(.freezeFailed, to: job)
    }
    guard .now < deadline else {
      job.freezeProblem =
        "a process of it waits in the kernel (state D in ps) and can't be stopped before that wait is over"
      return apply(.freezeFailed, to: job)
    }
    let id = job.id
    loop.schedule(after: pause) { [weak self] in
      self?.assumeIsolated { supervisor in
        guard let job = supervisor.jobs[id] else { return }
        supervisor.lookForFrozen(job, until: deadline, pause: min(pause * 2, .milliseconds(50)))
      }
    }
  }

  /// Tells everyone that the job stands still, or goes on again.
  func publishFreezer(_ job: SupervisedJob) {
    let status: JobStatus = job.machine.freezer == .frozen ? .paused : .running
    // An adopted job's record may say so already.
    if job.record.status != status { change(job) { $0.status = status } }
    wakeWaiters(job, .state)
  }

  // MARK: After a restart

  /// What the exec before had asked of a job's freezer, by the kernel's file and the record.
  func foundFreezer(_ cgroup: String, _ status: JobStatus) -> JobStateMachine.Freezer {
    do {
      // The same question for both: was the job frozen before its record said so, or thawed before?
      if try teardown.isAskedToFreeze(cgroup: cgroup) { return .freezing }
      return status == .paused ? .thawing : .thawed
    } catch  where error.code == ENOENT {
      return .thawed  // without a cgroup there is no payload
    } catch {
      logger.error(
        "a job's freezer can't be read; it is set to run", metadata: ["cgroup": "\(cgroup)", "error": "\(error)"])
      return .thawing
    }
  }

  /// Goes on where the exec before was cut off.
  func takeOverFreezer(_ job: SupervisedJob) {
    switch job.machine.freezer {
    case .thawed, .frozen: break
    case .freezing: setFreezer(job, true)
    case .thawing: if !job.isFreezerBusy { setFreezer(job, false) }
    }
  }
}
