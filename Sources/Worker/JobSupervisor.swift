import CEvents
import Cgroups
import FoundationEssentials
import JobletModel
import JobletWire
import LinuxKernel
import Logging
import Sandbox

/// All jobs of this node: an actor on a thread of its own, whose loop also watches every job's descriptors and the link to
/// persist. It acts on what each job's ``JobStateMachine`` decides; whatever may block goes to the work queues.
package actor JobSupervisor {
  nonisolated let loop: LoopExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

  nonisolated let settings: WorkerSettings
  nonisolated let launcher: JobLauncher
  nonisolated let teardown: JobTeardown
  /// Writing the directories of jobs that have to wait: never behind a launch, which may wait itself, for IDs.
  nonisolated let admitting: WorkQueue
  /// Launching: a thread waits in vfork, so more than one. Removing: off the start path.
  nonisolated let launching: WorkQueue
  /// Killing and asking the kernel why a job ended: never behind the removal of somebody's million files.
  nonisolated let ending: WorkQueue
  nonisolated let removing: WorkQueue
  /// Looking at what jobs use: a host that is slow to answer holds up nothing else.
  nonisolated let sampling: WorkQueue
  nonisolated let meter: JobMeter
  nonisolated let logger: Logger

  var jobs: [JobID: SupervisedJob] = [:]
  var ended = EndedJobs()
  /// What was asked for with an `Idempotency-Key`.
  var keys = RunKeyStore()
  /// Ended jobs that nobody stores, whose rings stay a moment for their followers; oldest first.
  var lingering: [JobID] = []
  /// What persist said last; ``JobletWire/StoreCondition/good`` where nothing is stored.
  var storeCondition = StoreCondition.good
  /// Samples that had to make room while persist was away.
  var lostSamples: UInt64 = 0
  var counters = JobCounters()
  /// Jobs that ended before, and were settled, an exec before this one knew.
  nonisolated let begun = Timestamp.now()
  var queue: AdmissionQueue
  let link: PersistLink
  private let linkOwner = LinkOwner()
  var subscriptions: [UInt64: Subscription] = [:]
  var nextNumber: UInt64 = 1
  var isOpen = false
  /// Called on the loop with a sentence when something changed that `STATUS=` shows.
  var onStatus: (@Sendable (String) -> Void)?
  var isStatusDue = false
  private var giveUp: CheckedContinuation<Void, any Error>?
  private var gaveUp: Problem?

  package init(
    loop: LoopExecutor, settings: WorkerSettings, launcher: JobLauncher, teardown: JobTeardown, admitting: WorkQueue,
    launching: WorkQueue, ending: WorkQueue, removing: WorkQueue, sampling: WorkQueue, logger: Logger
  ) {
    self.loop = loop
    self.settings = settings
    self.launcher = launcher
    self.teardown = teardown
    self.admitting = admitting
    self.launching = launching
    self.ending = ending
    self.removing = removing
    self.sampling = sampling
    meter = JobMeter(cgroups: launcher.cgroups)
    self.logger = logger
    queue = AdmissionQueue(maxRunning: settings.maxRunning, maxQueue: settings.maxQueue)
    link = PersistLink(loop: loop, settings: settings.link, logger: logger)
  }

  /// Connects to persist. Jobs that were adopted before have their output sent from what was acknowledged on.
  /// Where nothing is stored it does so only for jobs from before: what they wait with was promised to be kept.
  package func connect() {
    let owed = jobs.values.count { !$0.isLive }
    guard settings.isStoring || owed > 0 else { return }
    if !settings.isStoring {
      logger.warning(
        "ipc.enabled is false, but jobs that were started before wait for joblet-persist; start it for them, or delete them",
        metadata: ["jobs": "\(owed)"])
    }
    linkOwner.supervisor = self
    link.owner = linkOwner
    link.connect()
  }

  /// New jobs are taken from now on.
  package func open() {
    isOpen = true
    startWaiting()
    noteStatus()
  }

  func close() { isOpen = false }

  /// Returns only by throwing: when the link gave up, or the task is cancelled.
  func waitForTrouble() async throws {
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        if let gaveUp { continuation.resume(throwing: gaveUp) } else { giveUp = continuation }
      }
    } onCancel: {
      loop.post { self.assumeIsolated { $0.endWait(throwing: CancellationError()) } }
    }
  }

  private func endWait(throwing error: any Error) {
    giveUp?.resume(throwing: error)
    giveUp = nil
  }

  // MARK: The machine's actions

  func apply(_ event: JobStateMachine.Event, to job: SupervisedJob) {
    for action in job.machine.handle(event) { perform(action, job) }
  }

  private func perform(_ action: JobStateMachine.Action, _ job: SupervisedJob) {
    switch action {
    case .launch: launch(job)
    case .start: start(job)
    case .markStopIntent: job.files?.ring.store32(RingLayout.Field.stopIntent, 1)
    case .terminate: terminate(job)
    case .startGrace(let grace): startTimer(job, grace, .graceElapsed)
    case .freeze: setFreezer(job, true)
    case .thaw: setFreezer(job, false)
    case .publishFreezer: publishFreezer(job)
    case .killPayload: inBackground(job, "kill the payload") { try $0.killPayload(cgroup: $1) }
    case .startReportTimer: startTimer(job, settings.cleanupTimeout, .reportOverdue)
    case .cancelTimers: cancelTimers(job)
    case .killAll:
      // A cancellation is written down as a stop is: without it a restarted exec would find a job that never had its go, and
      // start it again.
      if job.machine.isCanceled { job.files?.ring.store32(RingLayout.Field.stopIntent, 1) }
      inBackground(job, "kill the job") { try $0.kill(cgroup: $1) }
    case .collect: collect(job)
    case .cancelQueued:
      job.facts.isCanceled = true
      publishEnd(job)
      queue.remove(job.id)
    case .publishEnd: publishEnd(job)
    case .releaseSlot:
      queue.remove(job.id)
      startWaiting()
    case .tearDown: tearDown(job)
    case .forget: forget(job)
    }
  }

  func startWaiting() {
    guard isOpen else { return }
    while let next = queue.next() {
      // A job whose state directory is still being made starts when it is done.
      guard let job = jobs[next] else { continue }
      noteTurn(job)
      apply(.slotGranted, to: job)
    }
  }

  private func launch(_ job: SupervisedJob) {
    if let outcome = job.launched {
      job.launched = nil
      return launched(job, outcome)
    }
    if job.record.status == .queued { change(job) { $0.status = .initializing } }
    let id = job.id
    let order = order(job, isThere: true)
    launching.submit { [self] in
      let outcome: LaunchOutcome
      do {
        outcome = try launcher.launch(order)
      } catch {
        outcome = LaunchOutcome(problem: SetupProblem(step: "state directory", message: "\(error)"))
      }
      loop.post { self.assumeIsolated { $0.launched(id, outcome) } }
    }
  }

  /// What a launch needs to know of a job.
  /// - Parameter isThere: the job has a state directory already.
  func order(_ job: SupervisedJob, isThere: Bool) -> JobLauncher.Order {
    // `started` is written with the launch, and not once more at the go: a record that says so and a ring without the go mean
    // the same as one that says `initializing`. Nobody is told before the go.
    var record = job.record
    record.status = .running
    record.startedAt = .now()
    record.version += 1
    let encoded = record.json()
    job.started = SupervisedJob.StartedRecord(record: record, encoded: encoded)
    // One that can't be held any more: the job was admitted by an exec that saw another disk.
    let limits = Result { () throws(SetupProblem) in try settings.limits.cgroupLimits(job.request.limits) }
    return JobLauncher.Order(
      job: job.id, request: job.request, limits: limits, timeout: job.timeout,
      record: encoded, directory: job.directory, isThere: isThere,
      isLive: job.isLive, key: job.key)
  }

  private func launched(_ id: JobID, _ outcome: LaunchOutcome) {
    guard let job = jobs[id] else { return }
    launched(job, outcome)
  }

  private func launched(_ job: SupervisedJob, _ outcome: LaunchOutcome) {
    // The plan holds the secrets now, in joblet-init's sealed copy; here nobody needs them any more.
    job.request.secretEnv = job.request.secretEnv.mapValues { _ in JobRecord.maskedSecret }
    if let launched = outcome.job {
      job.plans = launched.plans
      job.firstID = launched.firstID
      job.cgroup = launched.cgroup
      job.process = launched.process
    }
    if let problem = outcome.problem {
      job.facts.setup = problem
      return apply(.launchFailed, to: job)
    }
    guard let launched = outcome.job else { return }
    supervise(job, files: launched.files, process: launched.process)
    watchSetup(job)
    apply(.launched, to: job)
    observe(job)
  }

  /// Watches the job's FIFO and its PID 1 from now on.
  func supervise(_ job: SupervisedJob, files: JobFiles, process: InitProcess?) {
    job.files = files
    job.process = process
    do {
      if job.feed.consumer == nil { job.feed.consumer = try RingConsumer(ring: files.ring) }
      let id = job.id
      job.dataToken = try loop.watch(fd: files.data.descriptor.raw, events: ce_in) { [weak self] _ in
        self?.assumeIsolated { $0.dataReady(id) }
      }
      guard let process else { return }
      job.processToken = try loop.watch(fd: process.handle.descriptor.raw, events: ce_in) { [weak self] _ in
        self?.assumeIsolated { $0.initGone(id) }
      }
    } catch let fault as RingFault {
      found(fault, job)
    } catch {
      // Without its events the job can't be supervised, and must not run on unseen.
      job.facts.setup = SetupProblem(step: "supervision", message: "\(error)")
      apply(.ringFault, to: job)
    }
  }

  private func start(_ job: SupervisedJob) {
    // `started` is in the state directory before the go; to persist it goes after it: until persist acknowledges it, the record
    // is kept here and sent again on every connection, so only the loss of the whole host's memory can lose it, and that loses
    // the job too.
    let encoded: [UInt8]
    if let started = job.started, started.record.version == job.record.version + 1 {
      job.record = started.record
      encoded = started.encoded
    } else {
      encoded = save(job) { record in
        record.status = .running
        record.startedAt = .now()
      }
    }
    job.started = nil
    job.trace?.note(.started)
    job.files?.ring.store32(RingLayout.Field.go, 1)
    wakeInit(job)
    job.trace?.note(.go)
    publish(job, encoded)
    job.feed.metrics.start(clock: JobMeter.clock())
    startSampling(job, after: settings.sampleInterval)
    // After the go: a start that is cut off before it is done again, with its secrets.
    removeSecret(job)
  }

  func removeSecret(_ job: SupervisedJob) {
    do { try job.directory.removeSecret() } catch {
      logger.error("a job's secrets could not be removed", metadata: ["job": "\(job.id)", "error": "\(error)"])
    }
  }

  func wakeInit(_ job: SupervisedJob) {
    do { try job.files?.space.wake() } catch {
      logger.error("joblet-init could not be woken", metadata: ["job": "\(job.id)", "error": "\(error)"])
    }
  }

  /// joblet-init passes SIGTERM on to the payload's process group.
  private func terminate(_ job: SupervisedJob) {
    do { try job.process?.handle.send(signal: 15) } catch {
      guard error.code != 3 else { return }  // ESRCH: it ended meanwhile
      logger.error("SIGTERM could not be sent", metadata: ["job": "\(job.id)", "error": "\(error)"])
    }
  }

  func inBackground(
    _ job: SupervisedJob, _ what: String,
    _ work: @escaping @Sendable (_ teardown: JobTeardown, _ cgroup: String) throws -> Void
  ) {
    let (id, cgroup) = (job.id, job.cgroup)
    ending.submit { [teardown, logger] in
      do { try work(teardown, cgroup) } catch {
        logger.error("could not \(what)", metadata: ["job": "\(id)", "error": "\(error)"])
      }
    }
  }

  // MARK: The link's news

  func settled(_ id: JobID) {
    guard let job = jobs[id] else { return }
    apply(.settled, to: job)
  }

  func freedSpace(_ id: JobID) {
    if let job = jobs[id] { wakeInit(job) }
  }

  func linkFound(_ fault: RingFault, _ id: JobID) {
    if let job = jobs[id] { found(fault, job) }
  }

  func found(_ fault: RingFault, _ job: SupervisedJob) {
    guard job.facts.fault == nil else { return }
    logger.error("a job's ring lies; the job is ended", metadata: ["job": "\(job.id)", "fault": "\(fault)"])
    job.facts.fault = "\(fault)"
    stopReading(job)
    // Nothing more is read from it. What was sent to persist is all there will be.
    job.lastSentSeq = job.feed.consumer?.sentSeq
    job.feed.consumer = nil
    apply(.ringFault, to: job)
    link.wake(job.feed)
  }

  func conditionChanged(_ condition: StoreCondition) {
    guard condition != storeCondition else { return }
    storeCondition = condition
    if condition.acceptsJobs {
      logger.info("joblet-persist takes new jobs again")
    } else {
      logger.warning("no new jobs: joblet-persist refuses them", metadata: ["reason": "\(condition.reason ?? "")"])
    }
    noteStatus()
  }

  func linkGaveUp(_ reason: String) {
    let problem = Problem(.unavailable, reason)
    gaveUp = problem
    endWait(throwing: problem)
  }
}

/// Passes the link's news on. The link runs on the supervisor's own thread, so this is a call, not a message.
private final class LinkOwner: PersistLinkOwner {
  weak var supervisor: JobSupervisor?

  func linkSettled(_ job: JobID) { supervisor?.assumeIsolated { $0.settled(job) } }
  func linkFreedSpace(_ job: JobID) { supervisor?.assumeIsolated { $0.freedSpace(job) } }
  func linkFound(_ fault: RingFault, job: JobID) { supervisor?.assumeIsolated { $0.linkFound(fault, job) } }
  func linkChanged(isConnected: Bool) { supervisor?.assumeIsolated { $0.noteStatus() } }
  func linkCondition(_ condition: StoreCondition) { supervisor?.assumeIsolated { $0.conditionChanged(condition) } }
  func linkGaveUp(_ reason: String) { supervisor?.assumeIsolated { $0.linkGaveUp(reason) } }
}
