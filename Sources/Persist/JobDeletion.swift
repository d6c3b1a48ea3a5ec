import JobletModel
import JobletWire

extension Intake {
  private static let rememberedDeletions = 100_000

  /// Deletes a job's data so that it stays deleted.
  /// - Throws: ``JobletModel/Problem`` if nothing is known of the job.
  func remove(_ job: JobID) throws {
    // Not held back by the bounds: a delete takes 80 bytes of the log, and is how room is made when the disk is full.
    try monitor.withLock { state in
      if let failure = state.failure { throw failure }
      if state.isStopping { throw PersistError.stopping }
    }
    let entry = try appendDelete(job)
    do {
      // A commit that fails needs no care of its own: the segment is given up, and goes only when this deletion is safe.
      try log.sync { giveUp($0) }
    } catch PersistError.logGivenUp {}
    var isDone = false
    defer {
      monitor.withLock { $0.records.endDeletion(job, isDone: isDone) }
      monitor.notify(.settled)
    }
    if let entry { awaitRest(entry) }
    _ = try logs.delete(job)
    try eraseRecord(job)
    isDone = true
  }

  /// First into the log: from here on a replay deletes it again, whatever happens to this process.
  private func appendDelete(_ job: JobID) throws -> JobEntryReference? {
    var header = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    header.withUnsafeMutableBytes { FrameHeader(.delete, job: job).encode(into: $0) }
    while true {
      do {
        return try order.withLock { _ -> JobEntryReference? in
          let isKnown = monitor.withLock { $0.jobs[job] != nil || $0.records.record(job) != nil }
          guard try isKnown || logs.contains(job) || records.get(job) != nil else {
            throw Problem(.notFound, "there is no data of job \(job)")
          }
          let written = try header.withUnsafeBytes { try log.append([$0], isUrgent: true) }
          return monitor.withLock { state in
            state.records.beginDeletion(job, segment: written.segment)
            return JobEntryReference(forget(job, &state))
          }
        }
      } catch PersistError.logSuspended {
        try waitUntilGivenUp()
      }
    }
  }

  /// Takes a job out of memory for good.
  func forget(_ job: JobID, _ state: inout State) -> JobEntry? {
    if state.deleted.insert(job).inserted {
      state.deletedOrder.append(job)
      if state.deletedOrder.count > 2 * Intake.rememberedDeletions {
        for old in state.deletedOrder.prefix(Intake.rememberedDeletions) { state.deleted.remove(old) }
        state.deletedOrder.removeFirst(Intake.rememberedDeletions)
      }
    }
    guard let entry = state.jobs.removeValue(forKey: job) else { return nil }
    entry.isDeleted = true
    state.unsealedBytes -= entry.bytes
    state.stuck.remove(job)
    // What was turned away is absorbed when it is sent again.
    for asker in entry.takeAskers() { asker.askAgain(for: job) }
    monitor.signal(.space)
    return entry
  }

  /// Waits until no thread writes files of the job.
  func awaitRest(_ reference: JobEntryReference) {
    _ = monitor.wait(.settled) { _ in
      guard let entry = reference.entry else { return true }
      return entry.isSealing || entry.syncingSegment != nil ? nil : true
    }
  }
}

/// Carries an entry out of the monitor and back in.
///
/// Safe: its properties are touched only inside the monitor, here as everywhere, but for those of an entry that nobody else
/// knows yet.
struct JobEntryReference: @unchecked Sendable {
  let entry: JobEntry?
  init(_ entry: JobEntry?) { self.entry = entry }
}
