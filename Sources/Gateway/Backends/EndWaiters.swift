import JobletModel
import NIOCore
import NIOPosix
import Synchronization

/// Requests that wait for a job's end (`Prefer: wait`): a continuation and a timer each.
final class EndWaiters: Sendable {
  private struct Waiter {
    var continuation: CheckedContinuation<Void, Never>
    var timer: Scheduled<Void>
  }

  private struct State {
    var isClosed = false
    var nextNumber: UInt64 = 0
    var waiters: [JobID: [UInt64: Waiter]] = [:]
  }

  private let state = Mutex(State())

  var count: Int { state.withLock { $0.waiters.values.reduce(0) { $0 + $1.count } } }

  /// There may be news of a job: whoever waits for it looks.
  func wake(_ job: JobID) { resume(state.withLock { $0.waiters.removeValue(forKey: job) }) }

  /// There may be news of every job.
  func wakeAll() {
    let all = state.withLock { state in
      defer { state.waiters = [:] }
      return state.waiters
    }
    for waiters in all.values { resume(waiters) }
  }

  /// The gateway stops: nobody waits any longer, nor begins to.
  func close() {
    state.withLock { $0.isClosed = true }
    wakeAll()
  }

  private func resume(_ waiters: [UInt64: Waiter]?) {
    for waiter in (waiters ?? [:]).values {
      waiter.timer.cancel()
      waiter.continuation.resume()
    }
  }

  private func wake(_ job: JobID, _ number: UInt64) {
    let waiter = state.withLock { state in
      let waiter = state.waiters[job]?.removeValue(forKey: number)
      if state.waiters[job]?.isEmpty == true { state.waiters[job] = nil }
      return waiter
    }
    waiter?.timer.cancel()
    waiter?.continuation.resume()
  }

  /// Returns when `isOver` is true after some news of the job, when `limit` has passed, when the gateway stops, or when the
  /// task is cancelled.
  func wait(for job: JobID, atMost limit: Duration, isOver: @Sendable () -> Bool) async {
    let deadline = NIODeadline.now() + .nanoseconds(limit.nanoseconds)
    while !isOver(), NIODeadline.now() < deadline, !Task.isCancelled {
      guard await nextNews(of: job, until: deadline, isOver: isOver) else { return }
    }
  }

  /// - Returns: false if the gateway stops.
  private func nextNews(of job: JobID, until deadline: NIODeadline, isOver: @Sendable () -> Bool) async -> Bool {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(deadline: deadline) {
          self.wake(job, number)
        }
        let isClosed = state.withLock { state in
          guard !state.isClosed else { return true }
          state.waiters[job, default: [:]][number] = Waiter(continuation: continuation, timer: timer)
          return false
        }
        if isClosed {
          timer.cancel()
          return continuation.resume()
        }
        // What happened before this waiter was there woke nobody.
        if isOver() || Task.isCancelled || NIODeadline.now() >= deadline { wake(job, number) }
      }
    } onCancel: {
      wake(job, number)
    }
    return state.withLock { !$0.isClosed }
  }
}
