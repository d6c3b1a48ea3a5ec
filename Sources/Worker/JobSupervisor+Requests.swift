import FoundationEssentials
import JobletModel
import JobletWire
import Logging

/// What callers ask for. exec trusts none of them: everything is checked again, and bounded by this node's configuration.
extension JobSupervisor {
  /// Admits a job: its intent is on its way to persist and in its state directory when this returns.
  /// - Parameter keyed: the request as its `Idempotency-Key` is remembered, where it has one.
  package func run(
    _ request: JobRequest, caller: Caller, keyed: KeyedRequest? = nil, trace: StartTrace? = nil
  ) async throws -> JobRecord {
    let asked = JobMeter.clock()
    do {
      let record = try await admit(request, caller: caller, keyed: keyed, trace: trace, asked: asked)
      counters.noteAdmitted()
      return record
    } catch {
      noteRefused(error)
      throw error
    }
  }

  func noteRefused(_ error: any Error) {
    counters.noteRefused(error as? Problem ?? Problem(.internalError, "\(error)"))
  }

  /// What needs nothing of this node to be refused.
  /// - Returns: the request's time-out.
  @discardableResult
  static func check(_ request: JobRequest, _ caller: Caller) throws(Problem) -> Duration? {
    let timeout: Duration?
    do { timeout = try request.validate() } catch { throw Problem(error) }
    guard caller.name.utf8.count <= 256 else { throw Problem(.badRequest, "the caller's name is over 256 bytes") }
    return timeout
  }

  /// - Parameter asked: CLOCK_MONOTONIC when the request was there, in nanoseconds.
  private func admit(
    _ request: JobRequest, caller: Caller, keyed: KeyedRequest?, trace: StartTrace?, asked: Int64
  ) async throws -> JobRecord {
    guard isOpen else { throw Problem(.unavailable, "joblet-exec is starting or stopping", retryAfter: 1) }
    guard storeCondition.acceptsJobs else {
      throw Problem(
        .unavailable, storeCondition.reason ?? "joblet-persist takes no new jobs at the moment", retryAfter: 30)
    }
    let timeout = try JobSupervisor.check(request, caller)
    let request = try launcher.filters.effective(try settings.effective(request))
    let id = JobID(node: settings.nodeNumber)
    let decision = queue.admit(id)
    guard decision != .refuse else {
      throw Problem(
        .tooManyJobs,
        "\(queue.runningCount) jobs run and \(queue.waitingCount) wait, which is all joblet.maxConcurrentJobs and joblet.max_queue allow",
        retryAfter: 5)
    }
    var record = JobRecord(
      id: id, request: request, status: decision == .start ? .initializing : .queued, createdAt: .now(),
      nodeID: settings.nodeID, owner: caller.name)
    record.traceparent = caller.traceparent.flatMap { TraceContext($0)?.description }
    let job = SupervisedJob(
      id: id, directory: JobStateDirectory(root: settings.stateRoot, job: id), request: request,
      timeout: timeout ?? settings.defaultTimeout, record: record, isLive: !settings.isStoring)
    job.key = keyed.map { KeyedRun($0, job: id, at: .now()) }
    job.trace = trace
    job.trace?.note(.admitted)
    if decision == .start { job.mayStartAt = asked } else { job.queuedAt = asked }
    do {
      job.launched = try await prepare(job, start: decision == .start)
    } catch {
      queue.remove(id)
      startWaiting()
      logger.error("a job could not be admitted", metadata: ["job": "\(id)", "error": "\(error)"])
      throw Problem(.unavailable, "this node has no room for the job's output: \(error)", retryAfter: 5)
    }
    job.trace?.note(.stateWritten)
    jobs[id] = job
    if let key = job.key { keys.add(key) }
    if !job.isLive { link.add(job.feed) }
    // A job that had to wait may have got its slot while its state directory was made.
    if queue.isRunning(id) {
      noteTurn(job)
      apply(.slotGranted, to: job)
    }
    // If it has started already, its newer record was published with that: one message less on the way to its go.
    if job.record.version == record.version { publish(job) }
    return record
  }

  /// Makes the state directory and, for a job that starts now, launches it with the same stroke.
  private func prepare(_ job: SupervisedJob, start: Bool) async throws -> LaunchOutcome? {
    if start {
      let order = order(job, isThere: false)
      return try await launching.run { [launcher] in try launcher.launch(order) }
    }
    let (directory, request, isLive, key) = (job.directory, job.request, job.isLive, job.key)
    let encoded = job.record.json()
    try await admitting.run { try directory.create(request: request, record: encoded, isLive: isLive, key: key) }
    return nil
  }

  package func status(_ id: JobID) throws -> JobRecord {
    guard let record = jobs[id]?.record ?? ended[id]?.record else { throw unknown(id) }
    return record
  }

  /// Asks a job to end. Asking again, or for a job that has ended, changes nothing and is no error.
  package func stop(_ request: StopRequest) throws -> JobRecord {
    guard let job = jobs[request.job] else {
      throw ended[request.job].map { endedAlready($0.record) } ?? unknown(request.job)
    }
    // While a stop is under way another one is welcome; once the job has ended there is nothing that it could mean.
    guard !job.record.status.isEnded else { throw endedAlready(job.record) }
    var grace = settings.stopGrace
    if let milliseconds = request.graceMilliseconds {
      guard (0...86_400_000).contains(milliseconds) else {
        throw Problem(.invalidField, "grace: \(milliseconds) ms is out of range; allowed is 0s to 24h", field: "grace")
      }
      grace = .milliseconds(milliseconds)
    }
    apply(.stopRequested(grace: grace), to: job)
    return job.record
  }

  func endedAlready(_ record: JobRecord) -> Problem {
    Problem(.conflict, "job \(record.id) has ended already: \(record.status.rawValue)")
  }

  /// Forgets an ended job. What persist has not acknowledged by then is waited for, up to `joblet.cleanupTimeout`; after that
  /// it is abandoned, for its owner wants it gone.
  package func delete(_ id: JobID) async throws {
    if ended.remove(id) { return noteDeleted(id) }
    guard let job = jobs[id] else {
      // It may have ended under an earlier exec and its workspace be kept. The name is a client's word: it is looked at first.
      removeWorkspace(id) { [stateRoot = settings.stateRoot] in try $0.removeKept(id, stateRoot: stateRoot) }
      throw unknown(id)
    }
    guard job.record.status.isEnded else {
      throw Problem(.conflict, "job \(id) has not ended (\(job.record.status.rawValue)); stop it first")
    }
    // Whoever still reads it reads no further: its owner wants it gone.
    if job.isLive { letGo(id) }
    let deadline = ContinuousClock.now + settings.cleanupTimeout
    while jobs[id] != nil, ContinuousClock.now < deadline {
      try Task.checkCancellation()
      await waitForNews(of: job, .state, atMost: deadline - .now)
    }
    if jobs[id] != nil {
      job.isDeleted = true
      apply(.settled, to: job)
      // Its processes may still live and write to its workspace, so that goes with its teardown and not before.
      guard jobs[id] == nil else {
        logger.warning(
          "a deleted job is not torn down yet; what it used is removed when its processes are gone",
          metadata: ["job": "\(id)"])
        return
      }
      logger.warning("a deleted job's last output is abandoned: persist did not take it", metadata: ["job": "\(id)"])
    }
    _ = ended.remove(id)
    noteDeleted(id)
  }

  /// The job is deleted and torn down.
  func noteDeleted(_ id: JobID) {
    for subscription in subscriptions.values { subscription.dirty.remove(id) }
    // A workspace that was kept goes with its job.
    removeWorkspace(id) { try $0.removeKept(id) }
  }

  private func removeWorkspace(_ id: JobID, _ body: @escaping @Sendable (JobTeardown) throws -> Void) {
    removing.submit { [teardown, logger] in
      do { try body(teardown) } catch {
        logger.error("a deleted job's workspace is left", metadata: ["job": "\(id)", "error": "\(error)"])
      }
    }
  }

  func unknown(_ id: JobID) -> Problem { Problem(.notFound, "joblet-exec knows no job \(id)") }

  // MARK: Waiting

  /// Suspends until there is news of the job, `limit` has passed, or the task is cancelled.
  func waitForNews(of job: SupervisedJob, _ news: SupervisedJob.News, atMost limit: Duration) async {
    let number = nextNumber
    nextNumber += 1
    let id = job.id
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        guard !Task.isCancelled else { return continuation.resume() }
        let timer = loop.schedule(after: limit) { [weak self] in
          self?.assumeIsolated { $0.wakeWaiter(number, of: id) }
        }
        job.waiters[number] = SupervisedJob.Waiter(news: news, continuation: continuation, timer: timer)
      }
    } onCancel: {
      loop.post { self.assumeIsolated { $0.wakeWaiter(number, of: id) } }
    }
  }

  private func wakeWaiter(_ number: UInt64, of id: JobID) {
    guard let waiter = jobs[id]?.waiters.removeValue(forKey: number) else { return }
    loop.cancel(waiter.timer)
    waiter.continuation.resume()
  }

  /// Wakes who waits for this news; without one, everyone.
  func wakeWaiters(_ job: SupervisedJob, _ news: SupervisedJob.News? = nil) {
    let woken = job.waiters.filter { news == nil || $0.value.news == news }
    for (number, waiter) in woken {
      job.waiters[number] = nil
      loop.cancel(waiter.timer)
      waiter.continuation.resume()
    }
  }

  // MARK: Output

  /// What a follower does next.
  enum OutputStep: Sendable {
    case read(RingWindow, isLive: Bool)
    case answer(OutputState)
  }

  /// The next lines of one follower, or the news that there are none. What is copied is copied outside the loop.
  package nonisolated func output(_ request: OutputRequest) async throws -> ([Frame], OutputState) {
    let bytes = min(max(request.maxBytes, 1), 4 << 20)
    switch try await outputStep(request) {
    case .answer(let state): return ([], state)
    case .read(let window, let isLive):
      switch try window.read(job: request.job, after: request.after, maxBytes: bytes) {
      case .behind(let oldest, let acknowledged):
        return ([], OutputState(.behind, oldest: oldest, acknowledged: isLive ? nil : acknowledged))
      case .chunks(let frames): return (frames, OutputState(.more))
      }
    }
  }

  private func outputStep(_ request: OutputRequest) async throws -> OutputStep {
    let deadline = ContinuousClock.now + .milliseconds(min(max(request.waitMilliseconds, 0), 60_000))
    while true {
      guard let job = jobs[request.job] else {
        return .answer(ended[request.job]?.output(after: request.after) ?? OutputState(.unknown))
      }
      if let consumer = job.feed.consumer, consumer.seenSeq > request.after, job.facts.fault == nil {
        job.lastPull = .now
        return .read(consumer.window(after: request.after), isLive: job.isLive)
      }
      if job.record.status.isEnded { return .answer(OutputState(.ended, record: job.record)) }
      let rest = deadline - .now
      guard rest > .zero, !Task.isCancelled else {
        return .answer(OutputState(.more, last: job.facts.fault == nil ? job.feed.consumer?.seenSeq : nil))
      }
      job.lastPull = .now
      await waitForNews(of: job, .lines, atMost: rest)
    }
  }
}
