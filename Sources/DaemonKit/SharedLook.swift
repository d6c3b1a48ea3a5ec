import Synchronization

/// Something that takes a while to find out: looked up once for all who ask meanwhile, and kept for a moment.
///
/// A look that does not come back (a file system that hangs can't be cancelled) holds nobody up for longer than `patience`,
/// and none is begun behind it.
public final class SharedLook<Value: Sendable>: Sendable {
  private struct State {
    var kept: (value: Value, taken: ContinuousClock.Instant)?
    /// Counts the looks, so that a timer knows its own.
    var number = 0
    var isUnderWay = false
    /// True once the look under way has taken longer than anybody waits.
    var isLate = false
    var waiting: [CheckedContinuation<Value?, Never>] = []
  }

  private enum Step {
    case answer(Value?)
    case wait
    case begin(Int)
  }

  private let state = Mutex(State())
  private let age: Duration
  private let patience: Duration
  private let look: @Sendable () async -> Value

  /// - Parameters:
  ///   - age: how long what was seen is given to who asks; zero or more.
  ///   - patience: the longest anybody waits for one look; over zero.
  ///   - look: runs in a task of its own, one at a time, to its end.
  public init(age: Duration, patience: Duration, look: @escaping @Sendable () async -> Value) {
    self.age = age
    self.patience = patience
    self.look = look
  }

  /// What is seen now, or was a moment ago; nil while a look takes too long.
  public func value() async -> Value? {
    await withCheckedContinuation { continuation in
      let step = state.withLock { state -> Step in
        if let kept = state.kept, .now - kept.taken < age { return .answer(kept.value) }
        if state.isLate { return .answer(nil) }
        state.waiting.append(continuation)
        if state.isUnderWay { return .wait }
        state.isUnderWay = true
        state.number += 1
        return .begin(state.number)
      }
      switch step {
      case .answer(let value): continuation.resume(returning: value)
      case .wait: break
      case .begin(let number): begin(number)
      }
    }
  }

  /// How many wait for the look under way.
  package var waiting: Int { state.withLock { $0.waiting.count } }

  /// Tasks of its own: whoever asked first may leave before the look is done, and the others still want it.
  private func begin(_ number: Int) {
    let timer = Task {
      try await Task.sleep(for: patience)
      giveUp(number)
    }
    Task {
      let value = await look()
      timer.cancel()
      finish(value)
    }
  }

  private func giveUp(_ number: Int) {
    let waiting = state.withLock { state -> [CheckedContinuation<Value?, Never>] in
      guard state.isUnderWay, state.number == number else { return [] }
      state.isLate = true
      defer { state.waiting = [] }
      return state.waiting
    }
    for each in waiting { each.resume(returning: nil) }
  }

  private func finish(_ value: Value) {
    let waiting = state.withLock { state -> [CheckedContinuation<Value?, Never>] in
      state.kept = (value, .now)
      state.isUnderWay = false
      state.isLate = false
      defer { state.waiting = [] }
      return state.waiting
    }
    for each in waiting { each.resume(returning: value) }
  }
}
