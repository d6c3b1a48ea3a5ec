import JobletModel

/// Who runs and who waits: at most so many jobs at once, the others in order of arrival.
package struct AdmissionQueue: Sendable {
  package enum Decision: Hashable, Sendable {
    case start
    case wait
    case refuse
  }

  /// 0 for no bound.
  private let maxRunning: Int
  private let maxQueue: Int
  private var running: Set<JobID> = []
  private var waiting: [JobID] = []
  private var head = 0

  package init(maxRunning: Int, maxQueue: Int) {
    self.maxRunning = maxRunning
    self.maxQueue = maxQueue
  }

  package var runningCount: Int { running.count }
  package var waitingCount: Int { waiting.count - head }
  private var hasSlot: Bool { maxRunning == 0 || running.count < maxRunning }

  package func isRunning(_ job: JobID) -> Bool { running.contains(job) }

  package mutating func admit(_ job: JobID) -> Decision {
    if hasSlot, waitingCount == 0 {
      running.insert(job)
      return .start
    }
    guard waitingCount < maxQueue else { return .refuse }
    waiting.append(job)
    return .wait
  }

  /// A job found at start that holds a slot already, whatever the bound says now.
  package mutating func adoptRunning(_ job: JobID) { running.insert(job) }

  /// A job found at start that waits; the queue's bound does not apply, for it was admitted before.
  package mutating func adoptWaiting(_ job: JobID) { waiting.append(job) }

  /// The job's slot or place is free.
  package mutating func remove(_ job: JobID) {
    if running.remove(job) != nil { return }
    if let index = waiting[head...].firstIndex(of: job) { waiting.remove(at: index) }
  }

  /// The next job that may start now; call until it gives nil.
  package mutating func next() -> JobID? {
    guard hasSlot, head < waiting.count else { return nil }
    let job = waiting[head]
    head += 1
    if head > 1024 {
      waiting.removeFirst(head)
      head = 0
    }
    running.insert(job)
    return job
  }
}
