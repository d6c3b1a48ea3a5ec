import JobletModel
import JobletWire
import LocalStore
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
    for stream in StoredStream.allCases {
      do {
        try seal(reference, stream, all: all)
      } catch {
        failure = error  // the job's other streams may have better luck
      }
    }
    finish(reference, all, failure)
  }

  private func seal(_ reference: JobEntryReference, _ stream: StoredStream, all: Bool) throws {
    var (job, chunks, needsRecovery) = intake.monitor.withLock { _ -> (JobID?, [LogChunk], Bool) in
      guard let entry = reference.entry, !entry.isDeleted else { return (nil, [], false) }
      return (entry.job, entry[stream].beginSeal(all: all), entry.unrecovered.contains(stream))
    }
    guard let job, let first = chunks.first else { return }
    if needsRecovery {
      let last = try intake.settingAside(job, stream) {
        try intake.recover(job, stream, logFrom: first.info.firstSeq)
      }
      chunks = intake.monitor.withLock { _ in
        reference.entry?.unrecovered.remove(stream)
        reference.entry?[stream].trimSealing(through: last)
        return reference.entry?[stream].sealing ?? []
      }
    }
    let written: LogAppended
    do {
      written = try intake.settingAside(job, stream) { try intake.logs.append(chunks, job: job, stream: stream) }
    } catch let error as LocalStoreError where error.isFullDisk && intake.log.reserve.release() {
      written = try intake.logs.append(chunks, job: job, stream: stream)
    }
    intake.statistics.count(sealed: chunks, written)
    intake.monitor.withLock { state in settle(reference, stream, &state) }
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
    // Without an entry nothing was taken to be sealed, so nothing is to be settled.
    guard let job = intake.monitor.withLock({ _ in reference.entry?.job }) else { return }
    if let failure {
      intake.logger.error(
        "can't seal lines of job \(job): \(failure); they stay in memory and in the log, and it is tried again")
    }
    let askers = intake.monitor.withLock { state -> [any FrameSender] in
      guard let entry = reference.entry else { return [] }
      defer { intake.monitor.signal(.settled) }
      entry.isSealing = false
      entry.retryAt = failure == nil ? 0 : Moment.now + Sealer.retryPause
      guard !entry.isDeleted else { return [] }
      guard let failure else {
        state.lastSealFailure = ""
        intake.queueIfDue(entry, &state)
        return intake.unstick(entry, &state)
      }
      if all { entry.sealsAll = true }
      entry.isStuck = true
      state.stuck.insert(entry.job)
      intake.monitor.signal(.space)  // what it holds does not count any more for those who wait
      state.lastSealFailure = "\(failure)"
      if (failure as? LocalStoreError)?.isFullDisk == true { state.isShortOfDisk = true }
      return []
    }
    for asker in askers { asker.askAgain(for: job) }
  }
}
