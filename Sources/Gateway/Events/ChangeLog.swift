import JobletModel
import NIOCore
import NIOPosix
import Synchronization

/// The newest changes of jobs by number: what followers of `/v1/events` read from, each at its own place. It holds which job
/// changed and to which version, never the record, so it costs the same however many follow and however slowly.
package final class ChangeLog: Sendable {
  package struct Change: Sendable {
    package var number: UInt64
    package var job: JobID
    /// The version it changed to; nil where it was deleted, the largest where exec forgot the job.
    package var version: UInt64?
    /// When the log came to know of it, or earlier: nothing that follows it in the log happened before.
    package var at: Timestamp
    /// No change of exec's follows: once the view lets go of the job, only the store may know it.
    package var isLast = false
    /// With a deletion: what filters look at of the job as it was, without its command and environment.
    package var deleted: JobRecord?
  }

  private struct State {
    /// A ring: the change with number `n` is at `n % capacity`.
    var changes: [Change] = []
    var last: UInt64 = 0
    var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    var nextWaiter = 0
  }

  private let capacity: Int
  private let state = Mutex(State())
  /// Another one for each run of the gateway: numbers of one run mean nothing in the next.
  package let epoch = UInt32.random(in: .min ... .max)

  /// - Parameter capacity: how many changes are held.
  package init(capacity: Int = 8192) { self.capacity = capacity }

  /// The number of the newest change; 0 if there was none.
  package var last: UInt64 { state.withLock { $0.last } }

  /// - Parameters:
  ///   - isEnded: whether the job has ended with it.
  ///   - at: since when such changes may have been on their way.
  package func note(_ job: JobID, version: UInt64, isEnded: Bool = false, at: Timestamp = .now()) {
    add(Change(number: 0, job: job, version: version, at: at, isLast: isEnded))
  }

  /// exec no longer knows a job that had not ended: whatever became of it, the store has the last word.
  package func noteLost(_ job: JobID, at: Timestamp) {
    add(Change(number: 0, job: job, version: .max, at: at, isLast: true))
  }

  package func noteDeleted(_ job: JobID, _ record: JobRecord?) {
    var record = record
    record?.args = []
    record?.env = [:]
    record?.secretEnv = [:]
    record?.command = ""
    add(Change(number: 0, job: job, version: nil, at: .now(), isLast: true, deleted: record))
  }

  private func add(_ change: Change) {
    var change = change
    let waiters = state.withLock { state in
      state.last += 1
      change.number = state.last
      if state.changes.count < capacity {
        state.changes.append(change)
      } else {
        // The first has the number 1, so a full ring begins at index 0 with it.
        state.changes[Int((state.last - 1) % UInt64(capacity))] = change
      }
      defer { state.waiters = [:] }
      return state.waiters
    }
    for waiter in waiters.values { waiter.resume() }
  }

  /// Changes above a number, oldest first, at most `limit`. Nil if some of them are not held any more, or were never made.
  package func changes(after number: UInt64, limit: Int) -> [Change]? {
    state.withLock { state in
      guard number <= state.last, state.last - number <= UInt64(state.changes.count) else { return nil }
      let end = min(state.last, number + UInt64(limit))
      guard number < end else { return [] }
      return ((number + 1)...end).map { state.changes[Int(($0 - 1) % UInt64(capacity))] }
    }
  }

  /// Returns when there is a change above `number`, the time is up, or the task is cancelled.
  package func wait(after number: UInt64, atMost limit: Duration) async {
    let id = state.withLock { state in
      state.nextWaiter += 1
      return state.nextWaiter
    }
    let deadline = NIODeadline.now() + .nanoseconds(max(limit, .zero).nanoseconds)
    // The loop's timer, which forgets it when it is cancelled.
    let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(deadline: deadline) { [weak self] in
      self?.wake(id)
    }
    defer { timer.cancel() }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          // Looked at under the lock: a cancellation or a timer before this point finds no waiter to wake, one after it does.
          if state.last > number || Task.isCancelled || NIODeadline.now() >= deadline { return true }
          state.waiters[id] = continuation
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      wake(id)
    }
  }

  private func wake(_ id: Int) { state.withLock { $0.waiters.removeValue(forKey: id) }?.resume() }
}
