import LinuxKernel

/// What is not waited for without an end: a setup that stands still, a time-out that joblet-init can't keep alone, a stop's grace.
extension JobSupervisor {
  /// Nothing between a launch and the command's exec waits for anything but the kernel; but that may wait for ever, as for a
  /// file of a network file system whose server is gone.
  func watchSetup(_ job: SupervisedJob) {
    let (id, limit) = (job.id, settings.cleanupTimeout)
    job.setupTimer = loop.schedule(after: limit) { [weak self] in
      self?.assumeIsolated { supervisor in
        guard let job = supervisor.jobs[id], job.setupTimer != nil else { return }
        job.setupTimer = nil
        // One that was paused before its exec stands still because it was told to.
        guard job.machine.freezer == .thawed else { return supervisor.watchSetup(job) }
        guard [.initializing, .running].contains(job.machine.state), job.feed.consumer?.phase != .running else {
          return
        }
        job.facts.setup = SetupProblem(
          step: job.machine.state == .initializing ? "joblet-init" : "exec",
          message: "it was not done within \(limit) (joblet.cleanupTimeout)")
        supervisor.apply(.setupOverdue, to: job)
      }
    }
  }

  /// joblet-init keeps the time-out, whatever becomes of exec. This looks after what it can't end alone, once the command is
  /// seen to run; until then ``watchSetup(_:)`` does. It counts from the command's exec, as joblet-init does: the record's
  /// `startedAt` is of the claim, which may be long before the go, and of a clock that can be set, so that a job would be killed
  /// for time it never had. A ring that says what can't be gives its job the whole time once more at each start of exec.
  func watchTimeout(_ job: SupervisedJob) {
    guard let timeout = job.timeout, job.machine.state == .running, !job.isTimeoutWatched else { return }
    job.isTimeoutWatched = true
    let age = job.feed.consumer?.timeSinceExec(at: JobMeter.clock()) ?? .zero
    startTimer(job, max(.zero, timeout + settings.stopGrace + .seconds(1) - age), .timeoutOverdue)
  }

  func startTimer(_ job: SupervisedJob, _ delay: Duration, _ event: JobStateMachine.Event) {
    let id = job.id
    let timer = loop.schedule(after: delay) { [weak self] in
      self?.assumeIsolated { supervisor in
        if let job = supervisor.jobs[id] { supervisor.apply(event, to: job) }
      }
    }
    job.timers.append(timer)
  }

  func cancelTimers(_ job: SupervisedJob) {
    for timer in job.timers { loop.cancel(timer) }
    job.timers.removeAll()
    // A stop asks for less patience, not for more: the setup's own limit goes on.
    guard job.machine.state != .running, let timer = job.setupTimer else { return }
    loop.cancel(timer)
    job.setupTimer = nil
  }
}
