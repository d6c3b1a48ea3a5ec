import JobletModel
import LocalStore
import LogStore
import Logging

/// Whether more of a job can be taken in while its files can't be written.
///
/// Such a job's lines wait in memory and in the log, for they were acknowledged. So that one job (its directory read-only,
/// its file replaced by something else) can't take both from all the others, its share is bounded: what comes above it is
/// turned away unacknowledged, its ring fills, and it waits while the others go on. When a seal of it goes well, the
/// connections that had frames turned away are ended, and the sender sends anew what was not acknowledged.
struct TurnAwayPolicy {
  private let share: Int
  private let isCrowded: Bool

  /// - Parameter isLogHalfFull: the log nears its bound; what is stuck keeps its segments.
  init(_ state: borrowing Intake.State, maxUnsealed: Int, isLogHalfFull: Bool) {
    share = maxUnsealed / 16
    guard !state.stuck.isEmpty else {
      isCrowded = false
      return
    }
    // All stuck jobs together leave half of the memory to those that are not.
    isCrowded = isLogHalfFull || state.stuckBytes >= maxUnsealed / 2
  }

  func turnsAway(_ entry: JobEntry) -> Bool {
    entry.isUnreadable || entry.isStuck && (isCrowded || entry.bytes >= share)
  }
}

extension Intake.State {
  /// What jobs hold in memory whose files can't be written.
  fileprivate var stuckBytes: Int { stuck.reduce(0) { $0 + (jobs[$1]?.bytes ?? 0) } }
}

extension Intake {
  /// True while memory has room for more lines.
  func hasRoom(_ state: borrowing State) -> Bool {
    if state.unsealedBytes < maxUnsealed { return true }
    guard !state.stuck.isEmpty else { return false }
    // A job that filled the memory before its first seal failed must not stop the others by that: they have half as much.
    return state.unsealedBytes - state.stuckBytes < maxUnsealed / 2
  }

  /// Does something with a stream's file. What stands in its place and is not the store's own is moved away, and it is done
  /// again: nothing of it is lost, and the job goes on.
  func settingAside<Result>(_ job: JobID, _ stream: StoredStream, _ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch {
      guard (error as? LocalStoreError)?.isObstacle == true else { throw error }
      var place: String?
      do { place = try logs.setAside(job, stream) } catch let second { logger.error("job \(job): \(second)") }
      guard let place else { throw error }
      logger.error("job \(job): what stood in the place of its \(stream.name) was moved to \(place): \(error)")
      return try body()
    }
  }

  /// The job's files can be written again. Answers who is to be asked for what was turned away.
  func unstick(_ entry: JobEntry, _ state: inout State) -> [any FrameSender] {
    guard entry.isStuck || entry.isUnreadable else { return [] }
    entry.isStuck = false
    entry.isUnreadable = false
    state.stuck.remove(entry.job)
    return entry.takeAskers()
  }

  /// Looks again at the files of jobs that could not be read.
  func retryUnreadable() {
    let jobs = monitor.withLock { state in state.stuck.filter { state.jobs[$0]?.isUnreadable == true } }
    for job in jobs {
      let found = JobEntry(job)
      do { try loadCounters(of: job, into: found) } catch { continue }  // it was said once; nothing is new
      let counters = (found.lines.last, found.samples.last)
      let askers = monitor.withLock { state -> [any FrameSender] in
        guard let entry = state.jobs[job] else { return [] }
        (entry.lines.last, entry.samples.last) = counters
        return unstick(entry, &state)
      }
      logger.notice("job \(job): its files can be read again")
      for asker in askers { asker.askAgain(for: job) }
    }
  }
}
