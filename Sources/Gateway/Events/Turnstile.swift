import Synchronization

/// Lets so many callers through at a time; the others wait, first come first served.
package final class Turnstile: Sendable {
  private struct State {
    var free: Int
    var nextNumber: UInt64 = 0
    var waiting: [(number: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
  }

  private let state: Mutex<State>

  /// - Parameter limit: how many are let through at a time, at least 1.
  package init(limit: Int) { state = Mutex(State(free: max(limit, 1))) }

  package var waiting: Int { state.withLock { $0.waiting.count } }

  /// Runs `body` when it is this caller's turn.
  /// - Throws: what `body` throws, or `CancellationError` if the task was cancelled before its turn came.
  package func pass<Result: Sendable>(_ body: @Sendable () async throws -> Result) async throws -> Result {
    guard await enter() else { throw CancellationError() }
    defer { leave() }
    return try await body()
  }

  /// - Returns: false if the task was cancelled.
  private func enter() async -> Bool {
    let number = state.withLock { state in
      state.nextNumber += 1
      return state.nextNumber
    }
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isIn: Bool? = state.withLock { state in
          // Looked at under the lock: a cancellation before this point finds no waiter to wake, one after it does.
          if Task.isCancelled { return false }
          guard state.free == 0 else {
            state.free -= 1
            return true
          }
          state.waiting.append((number, continuation))
          return nil
        }
        if let isIn { continuation.resume(returning: isIn) }
      }
    } onCancel: {
      let continuation = state.withLock { state in
        let index = state.waiting.firstIndex { $0.number == number }
        return index.map { state.waiting.remove(at: $0).continuation }
      }
      continuation?.resume(returning: false)
    }
  }

  /// The place goes to the next in line.
  private func leave() {
    let next: CheckedContinuation<Bool, Never>? = state.withLock { state in
      guard !state.waiting.isEmpty else {
        state.free += 1
        return nil
      }
      return state.waiting.removeFirst().continuation
    }
    next?.resume(returning: true)
  }
}
