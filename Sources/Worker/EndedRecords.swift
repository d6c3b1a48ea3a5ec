import JobletModel
import JobletWire

/// What is remembered of a job that ended and is settled.
package struct EndedJob: Hashable, Sendable {
  package var record: JobRecord
  /// The number of its last sample; 0 if there was none.
  package var lastSample: UInt64
  /// Its lines and samples are nowhere: nobody stored them.
  package var isLive: Bool

  package init(record: JobRecord, lastSample: UInt64, isLive: Bool) {
    self.record = record
    self.lastSample = lastSample
    self.isLive = isLive
  }

  /// The answer to a follower of its lines.
  package func output(after: UInt64) -> OutputState { answer(after, last: record.lastSeq ?? 0) }

  /// The answer to a follower of its samples.
  package func samples(after: UInt64) -> OutputState { answer(after, last: lastSample) }

  private func answer(_ after: UInt64, last: UInt64) -> OutputState {
    guard after < last else { return OutputState(.ended, record: record) }
    return OutputState(.behind, oldest: last + 1, acknowledged: isLive ? nil : last)
  }
}

/// The last so many jobs that ended and are settled.
package struct EndedJobs {
  private let capacity: Int
  private var jobs: [JobID: EndedJob] = [:]
  private var order: [JobID] = []
  /// The latest end of a job that had to make room.
  package private(set) var forgottenUntil: Timestamp?

  package init(capacity: Int = 1000) { self.capacity = capacity }

  package var ids: some Sequence<JobID> { jobs.keys }

  package subscript(job: JobID) -> EndedJob? { jobs[job] }

  package mutating func add(_ job: EndedJob) {
    if jobs.updateValue(job, forKey: job.record.id) == nil { order.append(job.record.id) }
    guard order.count > capacity else { return }
    let forgotten = jobs.removeValue(forKey: order.removeFirst())
    if let endedAt = forgotten?.record.endedAt { forgottenUntil = max(endedAt, forgottenUntil ?? endedAt) }
  }

  package mutating func remove(_ job: JobID) -> Bool {
    guard jobs.removeValue(forKey: job) != nil else { return false }
    order.removeAll { $0 == job }
    return true
  }
}
