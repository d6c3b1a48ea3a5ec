import Cgroups
import FoundationEssentials
import Glibc
import JobletModel
import LinuxKernel
import Logging
import Sandbox

/// From a job's first news to its last.
extension JobSupervisor {
  // MARK: News from joblet-init

  func dataReady(_ id: JobID) {
    guard let job = jobs[id], let files = job.files else { return }
    do { try files.data.drain() } catch {
      logger.error("a job's FIFO can't be read", metadata: ["job": "\(id)", "error": "\(error)"])
    }
    observe(job)
  }

  /// Looks at the ring until nothing is new, and asks to be woken.
  func observe(_ job: SupervisedJob) {
    guard let ring = job.files?.ring, job.feed.consumer != nil else { return }
    // Awake: until the flag is raised again below, joblet-init need not write to the FIFO.
    ring.store32(RingLayout.Field.execWaiting, 0)
    do {
      var found = false
      while true {
        if try job.feed.consumer?.look() == true { found = true }
        guard let consumer = job.feed.consumer else { return }
        // Raise the flag, then look once more: whatever joblet-init commits after that look writes to the FIFO.
        ring.store32(RingLayout.Field.execWaiting, 1)
        if ring.load64(RingLayout.Field.head) == consumer.seen,
          ring.load32(RingLayout.Field.phase) == consumer.phase.rawValue
        {
          break
        }
      }
      if found {
        link.wake(job.feed)
        wakeWaiters(job, .lines)
        // After the look and not during it: a job that never pauses must not keep the loop.
        if job.isLive, job.feed.consumer?.letGo() == true { wakeInit(job) }
      }
      notePhase(job)
    } catch {
      self.found(error, job)
    }
  }

  private func notePhase(_ job: SupervisedJob) {
    switch job.feed.consumer?.phase {
    case .ready:
      guard job.machine.state == .initializing else { return }
      job.trace?.note(.ready)
      apply(.ready, to: job)
    case .ended:
      noteStarted(job)
      tellTrace(job)
      apply(.reported, to: job)
    case .running:
      if let timer = job.setupTimer {
        loop.cancel(timer)
        job.setupTimer = nil
      }
      watchTimeout(job)
      noteStarted(job)
      job.plans = []  // the command runs: no step can fail any more
      tellTrace(job)
    case .new, nil: break
    }
  }

  private func tellTrace(_ job: SupervisedJob) {
    guard var trace = job.trace else { return }
    job.trace = nil
    trace.note(.running)
    logger.debug("start trace", metadata: ["job": "\(job.id)", "us": "\(trace.line(job.files?.ring))"])
  }

  func initGone(_ id: JobID) {
    guard let job = jobs[id] else { return }
    if let process = job.process, let token = job.processToken {
      loop.unwatch(fd: process.handle.descriptor.raw, token: token)
      job.processToken = nil
    }
    observe(job)
    // A report came first, or never comes.
    apply(.initLost, to: job)
  }

  func stopReading(_ job: SupervisedJob) {
    if let files = job.files, let token = job.dataToken {
      loop.unwatch(fd: files.data.descriptor.raw, token: token)
      job.dataToken = nil
    }
  }

  // MARK: The end

  func collect(_ job: SupervisedJob) {
    stopSampling(job)
    let (id, cgroup, process) = (job.id, job.cgroup, job.process)
    ending.submit { [self] in
      let facts = teardown.collect(cgroup: cgroup, process: process)
      loop.post { self.assumeIsolated { $0.collected(id, facts) } }
    }
  }

  private func collected(_ id: JobID, _ kernel: KernelFacts) {
    guard let job = jobs[id] else { return }
    for problem in kernel.problems {
      logger.warning("not all is known of a job's end", metadata: ["job": "\(id)", "error": "\(problem)"])
    }
    job.facts.isCanceled = job.machine.isCanceled
    job.facts.memoryEvents = kernel.memoryEvents
    job.facts.memoryLimitMB = job.record.limits.memoryMB
    job.facts.memoryPeakBytes = kernel.measurement?.figures.memoryPeakBytes
    job.facts.stopIntent = job.files.map { $0.ring.load32(RingLayout.Field.stopIntent) != 0 } ?? false
    readReport(job)
    if job.facts.setup == nil, !job.machine.isCanceled, let measurement = kernel.measurement {
      let figures = measurement.figures
      if figures != CgroupFigures() {
        job.record.usage = JobUsage(
          cpuUsec: figures.cpuMicroseconds, memoryPeakBytes: figures.memoryPeakBytes, ioReadBytes: figures.ioReadBytes,
          ioWriteBytes: figures.ioWrittenBytes)
      }
      // The last sample, before the end is told to anyone.
      if !job.hasLostCount { add(measurement, to: job) }
    }
    apply(.collected, to: job)
  }

  private func readReport(_ job: SupervisedJob) {
    guard job.facts.fault == nil, let consumer = job.feed.consumer, consumer.phase == .ended else { return }
    do {
      let report = try consumer.endReport()
      job.facts.report = report
      if case .setup(let step, let error) = report.end {
        job.facts.setup = SetupProblem(
          SetupFailure(setupStep: step, setupErrno: error), plans: job.plans, command: job.record.command)
      }
    } catch {
      job.facts.fault = "\(error)"
    }
  }

  /// Decides the end and tells everyone. The record's last version goes to persist after the last line.
  func publishEnd(_ job: SupervisedJob) {
    let outcome = JobOutcome(job.facts)
    let lastSeq = job.lastSeq
    job.feed.setEnd(after: lastSeq)
    change(job) { record in
      record.status = outcome.status
      record.reason = outcome.reason
      record.exitCode = outcome.exitCode
      record.signal = outcome.signal
      record.message = outcome.message
      record.lastSeq = lastSeq
      let ran = outcome.reason != .setupFailed && outcome.status != .canceled
      record.startedAt = ran ? job.facts.report?.startedAt ?? job.feed.consumer?.startedAt ?? record.startedAt : nil
      record.endedAt = job.facts.report?.endedAt ?? .now()
    }
    var metadata: Logger.Metadata = ["job": "\(job.id)", "status": "\(outcome.status.rawValue)"]
    if let message = outcome.message { metadata["message"] = "\(message)" }
    if let trace = job.record.traceparent { metadata["traceparent"] = "\(trace)" }
    logger.info("job ended", metadata: metadata)
    counters.noteEnd(outcome.status, outcome.reason)
    // One that never had its go still has them; the rest of its state may have to wait for persist.
    removeSecret(job)
    wakeWaiters(job)
    if job.isLive { linger(job) }
  }

  func tearDown(_ job: SupervisedJob) {
    stopReading(job)
    if let process = job.process, let token = job.processToken {
      loop.unwatch(fd: process.handle.descriptor.raw, token: token)
      job.processToken = nil
    }
    let (id, cgroup, process, firstID) = (job.id, job.cgroup, job.process, job.firstID)
    let kept = job.record.status == .failed ? settings.keepFailedWorkspace : settings.keepWorkspace
    let keep = job.isDeleted ? .zero : kept
    let directory = job.directory
    removing.submit { [self] in
      do {
        try teardown.remove(id, cgroup: cgroup, process: process, keep: keep)
        // The note first: the rest of the directory waits for persist, and a restarted exec would take these IDs for this job's when
        // another one has them.
        try directory.removeLaunchNote()
        if let firstID { launcher.namespaces.giveBack(firstID) }
        loop.post { self.assumeIsolated { $0.tornDown(id) } }
      } catch {
        logger.error(
          "what a job used could not be removed yet; trying again in 5 s",
          metadata: ["job": "\(id)", "error": "\(error)"])
        loop.post { self.assumeIsolated { $0.tearDownLater(id) } }
      }
    }
  }

  private func tornDown(_ id: JobID) {
    guard let job = jobs[id] else { return }
    job.process = nil
    job.firstID = nil
    apply(.tornDown, to: job)
    // Its owner may have deleted it while it was torn down with a workspace to keep.
    if job.isDeleted { noteDeleted(id) }
  }

  private func tearDownLater(_ id: JobID) {
    loop.schedule(after: .seconds(5)) { [weak self] in
      self?.assumeIsolated { supervisor in
        if let job = supervisor.jobs[id] { supervisor.tearDown(job) }
      }
    }
  }

  /// Removes workspaces that were kept long enough, now and every minute.
  func sweepWorkspaces() {
    let known = Set(jobs.keys)
    let now = time(nil)
    let stateRoot = settings.stateRoot
    removing.submit { [teardown, logger] in
      teardown.sweep(known: known, at: now, stateRoot: stateRoot, logger: logger)
    }
    loop.schedule(after: .seconds(60)) { [weak self] in
      self?.assumeIsolated { $0.sweepWorkspaces() }
    }
  }

  func forget(_ job: SupervisedJob) {
    link.remove(job.id)
    jobs[job.id] = nil
    if !job.isDeleted {
      ended.add(EndedJob(record: job.record, lastSample: job.feed.metrics.lastSeq, isLive: job.isLive))
    }
    job.feed.consumer = nil
    job.files = nil
    wakeWaiters(job)
    // Before its state directory goes, which has it until now.
    if let key = job.key { keys.keep(key, logger: logger) }
    let directory = job.directory
    removing.submit { directory.remove() }
    // After that has made room, if there was none.
    if job.key != nil { rewriteKeys() }
    noteStatus()
  }

  // MARK: Records

  /// Changes a job's record and makes the change known: to its state directory, persist and whoever listens.
  func change(_ job: SupervisedJob, _ body: (inout JobRecord) -> Void) {
    publish(job, save(job, body))
  }

  /// Changes a job's record in its state directory alone; ``publish(_:_:)`` follows.
  /// - Returns: the record's JSON.
  func save(_ job: SupervisedJob, _ body: (inout JobRecord) -> Void) -> [UInt8] {
    body(&job.record)
    job.record.version += 1
    let encoded = job.record.json()
    do {
      // Before anyone hears of it: a joblet-exec killed in between would give the same version to another change, and persist
      // takes a version only once.
      try job.directory.saveRecord(encoded)
    } catch {
      logger.error(
        "a job's record could not be saved; a restart of joblet-exec would see an older one",
        metadata: ["job": "\(job.id)", "error": "\(error)"])
    }
    return encoded
  }

  /// Hands the record to persist and to whoever listens.
  /// - Parameter encoded: the record's JSON, where it is at hand.
  func publish(_ job: SupervisedJob, _ encoded: [UInt8]? = nil) {
    job.feed.setRecord(encoded ?? job.record.json(), version: job.record.version, isFinal: job.record.status.isEnded)
    link.wake(job.feed)
    for subscription in subscriptions.values { subscription.note(job.id) }
    noteStatus()
  }

  // MARK: STATUS=

  /// Says at most once a second what this node does.
  func noteStatus() {
    guard onStatus != nil, !isStatusDue else { return }
    isStatusDue = true
    loop.schedule(after: .seconds(1)) { [weak self] in
      self?.assumeIsolated { supervisor in
        supervisor.isStatusDue = false
        supervisor.onStatus?(supervisor.statusSentence)
      }
    }
  }

  package var statusSentence: String {
    let draining = jobs.values.count { $0.record.status.isEnded }
    var sentence = "\(queue.runningCount) jobs running, \(queue.waitingCount) queued"
    if draining > 0 { sentence += ", \(draining) draining" }
    sentence += "; \(storeSentence)"
    return isOpen ? sentence : "starting: " + sentence
  }

  private var storeSentence: String {
    guard settings.isStoring else {
      let owed = jobs.values.count { !$0.isLive }
      let before = owed > 0 ? "; \(owed) jobs from before wait for joblet-persist" : ""
      return "persistence is off (ipc.enabled: false), output is only streamed live" + before
    }
    guard storeCondition.acceptsJobs else { return "no new jobs: \(storeCondition.reason ?? "persist refuses them")" }
    return link.isConnected ? "persist connected" : "persist is away, output waits in the rings"
  }

  func setStatusHandler(_ handler: @escaping @Sendable (String) -> Void) {
    onStatus = handler
    noteStatus()
  }
}

extension SetupProblem {
  /// A failed step of joblet-init in words.
  init(_ failure: SetupFailure, plans: [Plan], command: String) {
    let name = Errno.name(of: failure.code)
    let text = Errno.text(of: failure.code)
    let sentence = text.prefix(1).lowercased() + text.dropFirst()
    self.init(
      step: failure.isExec ? "exec" : failure.step(in: plans),
      message: failure.isExec ? "\(sentence): \(command) (\(name))" : "\(sentence) (\(name))",
      exitCode: failure.exitCode)
  }
}
