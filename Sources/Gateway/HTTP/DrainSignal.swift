import Synchronization

/// Tells every open stream, once, that the gateway is about to stop.
final class DrainSignal: Sendable {
  private struct State {
    var isRaised = false
    var nextID = 0
    var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  }

  private let state = Mutex(State())

  var isRaised: Bool { state.withLock { $0.isRaised } }

  func raise() {
    let waiters = state.withLock { state in
      state.isRaised = true
      defer { state.waiters = [:] }
      return state.waiters
    }
    for waiter in waiters.values { waiter.resume() }
  }

  /// Returns when the signal is raised or the task is cancelled.
  func wait() async {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          // Looked at under the lock: a cancellation before this point finds no waiter to wake, one after it does.
          if state.isRaised || Task.isCancelled { return true }
          state.waiters[id] = continuation
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
    }
  }

  /// Runs `body`, and cancels it when the signal is raised.
  /// - Returns: true if that is why it ended. It has returned by then, so whoever goes on may write where it wrote.
  func interrupting(_ body: @escaping @Sendable () async throws -> Void) async throws -> Bool {
    let isRaised = try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        try await body()
        return false
      }
      group.addTask { [self] in
        await wait()
        return true
      }
      let first = try await group.next() ?? false
      group.cancelAll()
      while let next = await group.nextResult() {
        if first, case .success(false) = next { return false }
      }
      return first
    }
    try Task.checkCancellation()
    return isRaised
  }
}
