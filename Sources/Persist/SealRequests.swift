import JobletModel
import Logging

// What asks for seals: jobs with enough for a member, the bounds on memory and log, and time.
extension Intake {
  func queueIfDue(_ entry: JobEntry, _ state: inout State) {
    guard entry.isDue, !entry.isQueued, !entry.isSealing, entry.retryAt == 0 else { return }
    entry.isQueued = true
    state.sealQueue.append(entry.job)
    monitor.signal(.work)
  }

  /// Asks for the largest jobs to be sealed until three quarters of the bound are free: so a job that says little beside one
  /// that says much is left to make members of a size worth having.
  func requestRelief() {
    monitor.withLock { state in
      var excess = state.unsealedBytes - maxUnsealed / 4
      let jobs = state.jobs.values.filter { $0.retryAt == 0 && $0.hasUnsealed }
      for entry in jobs.sorted(by: { $0.bytes > $1.bytes }) {
        guard excess > 0 else { break }
        excess -= entry.bytes
        entry.sealsAll = true
        queueIfDue(entry, &state)
      }
    }
  }

  /// Asks for everything to be sealed that stands in segments up to `segment`.
  func requestSeal(through segment: UInt64) {
    monitor.withLock { state in
      for entry in state.jobs.values where entry.hasUnsealed && (entry.oldestSegment ?? .max) <= segment {
        entry.sealsAll = true
        queueIfDue(entry, &state)
      }
    }
  }

  /// The disk is full: everything is to go into members, which are smaller than the log that holds it now.
  func requestAllSeals() {
    _ = log.reserve.release()
    monitor.withLock { $0.isShortOfDisk = true }
    requestSeal(through: .max)
    monitor.notify(.settled)
  }

  /// Takes the reserve again when there is room for it.
  func refillReserve() {
    do {
      try log.reserve.fill()
    } catch {
      logger.warning("no space can be kept in reserve for a full disk: \(error)")
    }
  }

  /// Queues what became due by time alone: what is older than `age`, and what failed and may be tried again.
  func wakeSeals(olderThan age: Duration) {
    let now = Moment.now
    let oldest = now - min(now, UInt64(age.nanosecondCount))
    monitor.withLock { state in
      for entry in state.jobs.values {
        if entry.retryAt != 0, entry.retryAt <= now { entry.retryAt = 0 }
        if let arrival = entry.oldestArrival, arrival <= oldest { entry.sealsAll = true }
        queueIfDue(entry, &state)
      }
    }
  }
}
