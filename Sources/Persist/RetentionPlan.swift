import JobletConfig
import JobletModel
import JobletWire

/// What retention knows of one job.
package struct KeptJob: Hashable, Sendable {
  package var job: JobID
  /// Bytes of its files.
  package var bytes: Int64
  /// When it ended, or was last written if nobody knows; nil while it runs.
  package var ended: Timestamp?

  package init(_ job: JobID, bytes: Int64, ended: Timestamp?) {
    self.job = job
    self.bytes = bytes
    self.ended = ended
  }
}

/// What goes by the bounds of `persist.retention`, and why: a pure decision.
///
/// A running job's data never goes, but it counts for `max_bytes`. Nothing is ever cut out of a file, so a job goes as a
/// whole: one over `max_bytes_per_job` once it has ended. `days` count from the job's end. For `max_bytes` the jobs that
/// ended first go first, as few as are needed.
package struct RetentionPlan: Sendable, Hashable {
  /// The jobs that go, oldest first.
  package private(set) var removals: [SweptJob] = []
  package private(set) var totals = SweepTotals()

  package init(_ jobs: [KeptJob], _ bounds: Configuration.Persist.Retention, now: Timestamp) {
    let age = Int64(bounds.days) * 86_400_000_000_000
    var left: Int64 = 0
    var ended: [SweptJob] = []
    for job in jobs {
      left += job.bytes
      if let end = job.ended {
        ended.append(SweptJob(job: job.job, bytes: job.bytes, endedAt: end, reason: .totalBytes))
      } else {
        totals.runningJobs += 1
      }
    }
    ended.sort { ($0.endedAt, $0.job) < ($1.endedAt, $1.job) }
    // The bounds of one job come first: what they remove need not be removed for the bound of all.
    var reasons = ended.map { job -> SweepReason? in
      if age > 0, job.endedAt < Timestamp(nanoseconds: now.nanoseconds - age) { return .age }
      if bounds.maxBytesPerJob > 0, job.bytes > bounds.maxBytesPerJob { return .jobBytes }
      return nil
    }
    for (job, reason) in zip(ended, reasons) where reason != nil { left -= job.bytes }
    if bounds.maxBytes > 0 {
      for (index, job) in ended.enumerated() where left > bounds.maxBytes && reasons[index] == nil && job.bytes > 0 {
        reasons[index] = .totalBytes
        left -= job.bytes
      }
    }
    for (job, reason) in zip(ended, reasons) {
      guard let reason else { continue }
      var job = job
      job.reason = reason
      removals.append(job)
      totals.removedBytes += job.bytes
    }
    totals.bounds = SweepBounds(
      days: bounds.days, maxBytesPerJob: bounds.maxBytesPerJob, maxBytes: bounds.maxBytes)
    totals.removedJobs = removals.count
    totals.keptJobs = jobs.count - removals.count
    totals.keptBytes = left
  }
}
