import JobletModel

/// What exec counts since its start, for its metrics. Confined to the supervisor's loop.
package struct JobCounters: Sendable {
  /// How a job ended.
  package struct End: Hashable, Sendable {
    package var status: JobStatus
    package var reason: JobReason?
  }

  package private(set) var admitted: UInt64 = 0
  package private(set) var refused: [Problem.Kind: UInt64] = [:]
  package private(set) var ended: [End: UInt64] = [:]
  /// From when a job may start to its command's exec: for one that had to wait, from its turn on.
  package private(set) var start = DurationBuckets(bounds: startBounds)
  /// How long those waited that had to.
  package private(set) var queueWait = DurationBuckets(bounds: waitBounds)

  private static let startBounds = [
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5,
  ]
  private static let waitBounds = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600]

  package init() {}

  package mutating func noteAdmitted() { admitted += 1 }
  package mutating func noteRefused(_ problem: Problem) { refused[problem.kind, default: 0] += 1 }
  package mutating func noteEnd(_ status: JobStatus, _ reason: JobReason?) {
    ended[End(status: status, reason: reason), default: 0] += 1
  }
  package mutating func noteStart(nanoseconds: Int64) { start.record(nanoseconds: nanoseconds) }
  package mutating func noteQueueWait(nanoseconds: Int64) { queueWait.record(nanoseconds: nanoseconds) }
}

/// What the supervisor knows at a moment, for metrics and for the node's status.
package struct SupervisorFigures: Sendable {
  package var counters = JobCounters()
  package var running = 0
  package var queued = 0
  /// 0 for no bound.
  package var maxRunning = 0
  package var maxQueued = 0
  /// Jobs in memory: those that have not ended, and those whose last records persist has not acknowledged.
  package var held = 0
  package var isOpen = false
  /// Nil where nothing is stored.
  package var isPersistConnected: Bool?
  package var acceptsJobs = true
  package var lostSamples: UInt64 = 0

  package init() {}
}

extension JobSupervisor {
  package var figures: SupervisorFigures {
    var figures = SupervisorFigures()
    figures.counters = counters
    figures.running = queue.runningCount
    figures.queued = queue.waitingCount
    figures.maxRunning = settings.maxRunning
    figures.maxQueued = settings.maxQueue
    figures.held = jobs.count
    figures.isOpen = isOpen
    figures.isPersistConnected = settings.isStoring ? link.isConnected : nil
    figures.acceptsJobs = storeCondition.acceptsJobs
    figures.lostSamples = lostSamples
    return figures
  }

  /// A job may start from now on: at its admission, or when its turn comes.
  func noteTurn(_ job: SupervisedJob) {
    let now = JobMeter.clock()
    if let queuedAt = job.queuedAt { counters.noteQueueWait(nanoseconds: now - queuedAt) }
    job.queuedAt = nil
    if job.mayStartAt == nil { job.mayStartAt = now }
  }

  /// Once the command is seen to run, or to have run: the ring says when that was.
  func noteStarted(_ job: SupervisedJob) {
    guard let from = job.mayStartAt else { return }
    let now = JobMeter.clock()
    guard let age = job.feed.consumer?.timeSinceExec(at: now) else { return }
    job.mayStartAt = nil
    counters.noteStart(nanoseconds: max(0, now - age.nanoseconds - from))
  }
}
