import JobletModel

/// One listener to changes: which jobs changed since it last asked, never how often, so a slow one costs a set of IDs and
/// sees the newest record of each. Confined to the supervisor's loop.
final class Subscription {
  var dirty: Set<JobID>
  var waiting: CheckedContinuation<Void, Never>?

  init(_ jobs: some Sequence<JobID>) { dirty = Set(jobs) }

  func note(_ job: JobID) {
    dirty.insert(job)
    wake()
  }

  func wake() {
    waiting?.resume()
    waiting = nil
  }
}

extension JobSupervisor {
  /// Begins to note changes; the first batch of ``changes(_:)`` is every job there is.
  func subscribe() -> UInt64 {
    let number = nextNumber
    nextNumber += 1
    subscriptions[number] = Subscription(Array(jobs.keys) + Array(ended.ids))
    return number
  }

  func unsubscribe(_ number: UInt64) {
    subscriptions.removeValue(forKey: number)?.wake()
  }

  /// What is known now, without waiting.
  func takeChanges(_ number: UInt64) -> [JobRecord] {
    guard let subscription = subscriptions[number] else { return [] }
    let changed = subscription.dirty
    subscription.dirty = []
    return changed.compactMap { jobs[$0]?.record ?? ended[$0]?.record }.sorted { $0.id < $1.id }
  }

  /// Every job that has ended since is among those a subscription begins with; of those before, some may be forgotten.
  var completeSince: Timestamp { max(begun, ended.forgottenUntil ?? begun) }

  /// Waits for changes.
  /// - Throws: `CancellationError`.
  func changes(_ number: UInt64) async throws -> [JobRecord] {
    while true {
      try Task.checkCancellation()
      let changed = takeChanges(number)
      if !changed.isEmpty { return changed }
      guard subscriptions[number] != nil else { throw CancellationError() }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          guard let subscription = subscriptions[number], !Task.isCancelled else { return continuation.resume() }
          subscription.waiting = continuation
        }
      } onCancel: {
        loop.post { self.assumeIsolated { $0.subscriptions[number]?.wake() } }
      }
    }
  }
}
