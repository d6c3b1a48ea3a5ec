import Glibc
import JobletConfig
import JobletModel
import LogStore
import Logging

/// Keeps time: seals what is old, syncs, and lets go of log segments whose content is safe elsewhere.
struct Keeper: Sendable {
  let intake: Intake
  let settings: Configuration.Persist.WAL
  let space: SpaceWatch
  /// Called on every turn, for the watchdog.
  let beat: @Sendable () -> Void

  /// A job that was not heard of for so long leaves memory; it is looked up again when it speaks.
  private static let idle: UInt64 = 600 * 1_000_000_000
  /// How often the free space is looked at.
  private static let lookInterval: UInt64 = 1_000_000_000

  /// The thread's life: until the intake stops; then everything is sealed and synced once more by ``finish()``.
  func run() {
    var lastSync = Moment.now
    var lastLook: UInt64 = 0
    let pause = min(settings.fsyncInterval, .seconds(1))
    while true {
      let isStopping = intake.monitor.wait(.settled, timeout: pause) { state -> Bool? in
        if state.isStopping || state.failure != nil { return true }
        let isUrgent = state.givingUp != nil || state.isShortOfDisk || intake.log.totalBytes > intake.maxLog / 2
        return isUrgent ? false : nil
      }
      if isStopping == true { return }
      beat()
      if Moment.now - lastLook >= Keeper.lookInterval {
        lastLook = Moment.now
        space.look()
        intake.refillReserve()
      }
      intake.wakeSeals(olderThan: settings.sealInterval)
      intake.retryUnreadable()
      if settings.fsync == .interval, Moment.now - lastSync >= UInt64(settings.fsyncInterval.nanosecondCount) {
        lastSync = Moment.now
        // A failure is dealt with by giving the segment up; there is nobody here to tell.
        do { try intake.log.sync { intake.giveUp($0) } } catch {}
      }
      checkpoint()
      if isStopping == false { usleep(20_000) }  // something is urgent: look again soon
    }
  }

  /// Makes members safe and drops the log segments they cover, when the log is large enough to be worth it.
  private func checkpoint() {
    let size = intake.log.totalBytes
    if size > intake.maxLog / 2 {
      let active = intake.log.activeSegment
      intake.requestSeal(through: active > 0 ? active - 1 : 0)
    }
    let (givingUp, isShortOfDisk) = intake.monitor.withLock { state in
      defer { state.isShortOfDisk = false }
      return (state.givingUp, state.isShortOfDisk)
    }
    // Whatever was applied since it was given up too.
    if let givingUp { intake.requestSeal(through: givingUp) }
    // Small logs wait: a sync of every file every second would cost more than a replay of some MiB.
    guard givingUp != nil || isShortOfDisk || size > intake.maxLog / 4 || hasEndedJobs() else { return }
    do {
      try syncMembers()
      try dropSegments()
      // What still stands in the older half can't be stored now.
      let active = intake.log.activeSegment
      if intake.log.totalBytes > intake.maxLog / 2, active > 0 { intake.carryForward(through: active - 1) }
    } catch let error as PersistError {
      intake.fail(error)
    } catch {
      intake.fail(.unsupported("\(error)"))
    }
  }

  private func hasEndedJobs() -> Bool {
    let now = Moment.now
    return intake.monitor.withLock { state in
      state.jobs.values.contains { $0.endSeq != nil || now - min(now, $0.touched) > Keeper.idle }
    }
  }

  /// Syncs the state store, and the files of every job that has members no sync covers.
  func syncMembers() throws {
    try intake.syncRecords()
    for job in syncTogether() {
      try syncMembers(job)
      beat()
    }
  }

  /// Syncs all of them at once where the store can.
  /// - Returns: those that are to be synced one by one.
  private func syncTogether() -> [JobEntryReference] {
    let (jobs, references) = intake.monitor.withLock { state in
      let entries = state.jobs.values.filter { $0.unsyncedSegment != nil && !$0.isDeleted }
      // Members that a seal appends from here on may miss this sync: they count anew.
      for entry in entries { swap(&entry.syncingSegment, &entry.unsyncedSegment) }
      return (entries.map(\.job), entries.map { JobEntryReference($0) })
    }
    let begin = Moment.now
    let isSafe = intake.logs.syncTogether(jobs)
    if isSafe { intake.statistics.fileSyncs.record(nanoseconds: Moment.now - begin) }
    intake.monitor.withLock { _ in
      for entry in references.compactMap(\.entry) {
        if !isSafe, let segment = entry.syncingSegment {
          entry.unsyncedSegment = min(entry.unsyncedSegment ?? segment, segment)
        }
        entry.syncingSegment = nil
      }
      intake.monitor.signal(.settled)
    }
    return isSafe ? [] : references
  }

  private func syncMembers(_ reference: JobEntryReference) throws {
    let job = intake.monitor.withLock { _ -> JobID? in
      guard let entry = reference.entry, !entry.isDeleted else { return nil }
      // Members that a seal appends from here on may miss this sync: they count anew.
      entry.syncingSegment = entry.unsyncedSegment
      entry.unsyncedSegment = nil
      return entry.job
    }
    guard let job else { return }
    // Should it fail, the kernel may have dropped pages of the file: only a replay of the log, which still has the
    // lines, mends that, so the segment stays marked and the daemon ends.
    let outcome = Result { try intake.statistics.fileSyncs.time { try intake.logs.sync(job) } }
    intake.monitor.withLock { _ in
      if case .success = outcome { reference.entry?.syncingSegment = nil }
      intake.monitor.signal(.settled)
    }
    try outcome.get()
  }

  /// Removes the log segments that nothing depends on, and jobs that need no place in memory.
  func dropSegments() throws {
    // Read before the horizon: a batch that is being applied now is in this segment or a later one, so its segment stays.
    let active = intake.log.activeSegment
    let horizon = intake.order.withLock { _ in
      intake.monitor.withLock { state in
        let oldest = intake.oldestSegment(state)
        if let segment = state.givingUp, oldest.map({ $0 > segment }) ?? true {
          // Under the order: no batch stands in that segment and not yet in memory.
          state.givingUp = nil
          intake.log.resumeAfterGivingUp()
        }
        return min(oldest ?? active, active)
      }
    }
    try intake.log.remove(below: horizon)
    intake.order.withLock { _ in releaseIdle() }
    intake.monitor.notify(.settled)
    intake.monitor.notify(.space)
  }

  /// Under the intake's order, so that no frame of the job is between its check and its application.
  private func releaseIdle() {
    let now = Moment.now
    let released = intake.monitor.withLock { state in
      let idle = state.jobs.values.filter { entry in
        !entry.hasUnsealed && entry.oldestSegment == nil && !entry.isSealing && !entry.isQueued && !entry.isUnreadable
          && (entry.endSeq != nil || now - min(now, entry.touched) > Keeper.idle)
      }
      for entry in idle { state.jobs[entry.job] = nil }
      return idle.map(\.job)
    }
    for job in released { intake.logs.forget(job) }
  }

  /// Seals and syncs everything, so that the next start has little to replay. Blocks; the sealing threads must run.
  func finish() throws {
    // Nothing is synced or let go of after a failure: a second sync of a file says nothing of the pages that the first one
    // lost, and the log, which still has those lines, would go. All of it comes back at the next start.
    guard intake.monitor.withLock({ $0.failure == nil }) else { return }
    intake.requestSeal(through: .max)
    let left = intake.monitor.wait(.settled, timeout: .seconds(60)) { state -> Int? in
      let failed = state.jobs.values.filter { $0.retryAt != 0 }.count
      let busy = state.jobs.values.filter { $0.hasUnsealed || $0.isSealing }.count
      let isCommitted = state.records.isEmpty || state.records.retryAt != 0
      return isCommitted && (busy == 0 || busy == failed) ? failed + (state.records.isEmpty ? 0 : 1) : nil
    }
    try syncMembers()
    try dropSegments()
    if left != 0 {
      intake.logger.warning("some lines could not be sealed; they are in the log and come back at the next start")
    }
  }
}
