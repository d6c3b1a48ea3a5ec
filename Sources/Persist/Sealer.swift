import JobletModel
import LogStore
import Logging

/// Turns waiting lines into members, off the acknowledging path: several threads, one at a time for a job.
struct Sealer: Sendable {
  let intake: Intake
  private static let retryPause: UInt64 = 1_000_000_000

  /// A sealing thread's life: until the intake stops and the queue is empty.
  func run() {
    while let job = intake.monitor.wait(.work, { state -> JobEntryReference? in nextJob(&state) })?.entry {
      seal(JobEntryReference(job))
    }
  }

  /// The next job to seal; a reference without an entry when it is time to stop.
  private func nextJob(_ state: inout Intake.State) -> JobEntryReference? {
    while !state.sealQueue.isEmpty {
      let job = state.sealQueue.removeFirst()
      guard let entry = state.jobs[job] else { continue }
      entry.isQueued = false
      entry.isSealing = true
      return JobEntryReference(entry)
    }
    return state.isDone || state.failure != nil ? JobEntryReference(nil) : nil
  }

  private func seal(_ reference: JobEntryReference) {
    var failure: (any Error)?
    // Taken now: whoever asks for everything while this runs gets another round.
    let all = intake.monitor.withLock { _ -> Bool in
      defer { reference.entry?.sealsAll = false }
      return reference.entry?.sealsAll ?? false
    }
    for stream in StoredStream.allCases where failure == nil {
      let (job, chunks) = intake.monitor.withLock { _ -> (JobID?, [LogChunk]) in
        guard let entry = reference.entry, !entry.isDeleted else { return (nil, []) }
        return (entry.job, entry[stream].beginSeal(all: all))
      }
      guard let job, !chunks.isEmpty else { continue }
      do {
        let written = try intake.logs.append(chunks, job: job, stream: stream)
        intake.statistics.count(sealed: chunks, written)
        intake.monitor.withLock { state in settle(reference, stream, &state) }
      } catch {
        failure = error
      }
    }
    finish(reference, all, failure)
  }

  /// The lines are in the file: they leave memory in the same step.
  private func settle(_ reference: JobEntryReference, _ stream: StoredStream, _ state: inout Intake.State) {
    guard let entry = reference.entry, !entry.isDeleted else { return }
    let (bytes, segment) = entry[stream].endSeal()
    state.unsealedBytes -= bytes
    if let segment { entry.unsyncedSegment = min(entry.unsyncedSegment ?? segment, segment) }
    intake.monitor.signal(.space)
  }

  private func finish(_ reference: JobEntryReference, _ all: Bool, _ failure: (any Error)?) {
    if let failure, let job = intake.monitor.withLock({ _ in reference.entry?.job }) {
      intake.logger.error(
        "can't seal lines of job \(job): \(failure); they stay in memory and in the log, and it is tried again")
    }
    intake.monitor.withLock { state in
      guard let entry = reference.entry else { return }
      entry.isSealing = false
      entry.retryAt = failure == nil ? 0 : Moment.now + Sealer.retryPause
      if failure != nil, all { entry.sealsAll = true }
      if !entry.isDeleted { intake.queueIfDue(entry, &state) }
      intake.monitor.signal(.settled)
    }
  }
}
