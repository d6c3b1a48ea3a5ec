import JobletWire
import Synchronization

/// Whether persist takes on more jobs, for everyone who has to know.
final class ConditionBoard: Sendable {
  private struct State {
    var condition = StoreCondition.good
  }
  private let state = Mutex(State())
  /// Counts the changes that writers are told of; 1 at first.
  private let changes = Atomic<UInt64>(1)

  var condition: StoreCondition { state.withLock { $0.condition } }

  /// Differs from the last look when there is something to tell. One load: it may be looked at as often as one likes.
  var version: UInt64 { changes.load(ordering: .acquiring) }

  /// Posts a condition.
  /// - Returns: true if persist takes on jobs now and did not before, or the other way round. A mere change of words counts
  ///   for whoever asks, but nobody is called for it.
  @discardableResult
  func post(_ condition: StoreCondition) -> Bool {
    state.withLock { state in
      let hasTurned = state.condition.acceptsJobs != condition.acceptsJobs
      state.condition = condition
      if hasTurned { changes.wrappingAdd(1, ordering: .releasing) }
      return hasTurned
    }
  }
}
