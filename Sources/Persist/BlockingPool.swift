import Glibc

/// A few threads for work that blocks (reading files, inflating, filtering): the cooperative pool stays free, and a slow
/// reader holds no thread, since each step is a job of its own.
final class BlockingPool: Sendable {
  private struct State {
    var jobs: [@Sendable () -> Void] = []
    var isStopped = false
  }
  private let monitor = Monitor(State())

  init(threads: Int) throws {
    for _ in 0..<max(1, threads) {
      try WorkerThread("query") { [monitor] in
        while let job = BlockingPool.next(monitor) { job() }
      }.detach()
    }
  }

  private static func next(_ monitor: Monitor<State>) -> (@Sendable () -> Void)? {
    let job: (@Sendable () -> Void)?? = monitor.wait(.work) { state in
      if !state.jobs.isEmpty { return .some(state.jobs.removeFirst()) }
      return state.isStopped ? .some(nil) : .none
    }
    return job ?? nil
  }

  /// Ends the threads when the jobs given so far are done.
  func stop() {
    monitor.withLock { state in
      state.isStopped = true
      monitor.signal(.work)
    }
  }

  func run<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
      monitor.withLock { state in
        state.jobs.append {
          do {
            continuation.resume(returning: try body())
          } catch {
            continuation.resume(throwing: error)
          }
        }
        monitor.signal(.work)
      }
    }
  }
}
