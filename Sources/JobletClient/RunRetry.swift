import HTTPClient
import JobletModel

/// Whether a job that was posted with an `Idempotency-Key` is posted again, and if not, what is known of it. Pure: what time it
/// is, the caller says.
package struct RunRetry: Sendable {
  /// Tries that may fail, but for those that the node keeps off while it answers an earlier one.
  package static let maxTries = 6
  /// So long after it said so first the node may still be answering an earlier try.
  package static let longestInUse: Duration = .seconds(60)
  /// So long after it said so first the node may be without room for one more.
  package static let longestFull: Duration = .seconds(60)

  /// Some try may have reached the node, and no answer since has said that it started nothing.
  package private(set) var mayHaveStarted = false
  private var failures = 0
  private var timeouts = 0
  private var inUseSince: Duration?
  private var fullSince: Duration?

  package init() {}

  /// The pause before the next try; nil if there is none.
  ///
  /// What the node said about the request stands; no answer at all, or that a part of it is away, may be better in a moment, 409
  /// with `Retry-After` is said of the same request while it is still under way, and 429 with one while there is no room for it.
  /// - Parameter now: since the first try began.
  package mutating func pause(after error: JobletError, at now: Duration) -> Duration? {
    note(error)
    if case .refused(let refusal) = error, refusal.status == 409, let wish = refusal.retryAfter {
      let since = inUseSince ?? now
      inUseSince = since
      return now - since < RunRetry.longestInUse ? RunRetry.bounded(wish, atLeast: .milliseconds(250)) : nil
    }
    if case .refused(let refusal) = error, refusal.status == 429, let wish = refusal.retryAfter {
      let since = fullSince ?? now
      fullSince = since
      // It started nothing, so nothing is lost by leaving: who is to come again later than that is told so at once.
      let pause = RunRetry.bounded(wish, atLeast: .milliseconds(250))
      return now - since + max(.seconds(wish), pause) <= RunRetry.longestFull ? pause : nil
    }
    failures += 1
    guard failures < RunRetry.maxTries else { return nil }
    let backoff = min(Duration.milliseconds(250) * (1 << (failures - 1)), .seconds(2))
    switch error {
    case .unreachable(let error): return isWorthAnother(error) ? backoff : nil
    case .refused(let refusal):
      guard refusal.status == 503, let wish = refusal.retryAfter else { return nil }
      return RunRetry.bounded(wish, atLeast: backoff)
    case .badReply, .startUnknown: return nil
    }
  }

  private mutating func isWorthAnother(_ error: HTTPError) -> Bool {
    switch error.kind {
    case .badRequest, .badCredentials: return false
    case .interrupted: return true
    case .timedOut:
      timeouts += 1
      return timeouts == 1
    // At first a wrong address or a node that is down, which is said at once. But a node that was there a moment ago is
    // restarting, and it may have the job.
    case .cannotResolve, .cannotConnect, .serverNotTrusted, .tls, .other: return failures > 1 || inUseSince != nil
    }
  }

  /// Whether the node may have begun with the request that failed so.
  private mutating func note(_ error: JobletError) {
    switch error {
    case .unreachable(let error):
      if [.interrupted, .timedOut, .other].contains(error.kind) { mayHaveStarted = true }
    case .badReply, .startUnknown: mayHaveStarted = true
    case .refused(let refusal):
      if refusal.status >= 500 || refusal.status == 409 && refusal.retryAfter != nil {
        mayHaveStarted = true
      } else if refusal.kind != nil, ![401, 403, 429].contains(refusal.status) {
        // The node's word about the request itself, which an earlier try was as well. Those left out are about who asks, and
        // how often: they may have changed since an earlier try.
        mayHaveStarted = false
      }
    }
  }

  private static func bounded(_ wish: Int, atLeast least: Duration) -> Duration {
    min(max(.seconds(wish), least), .seconds(5))
  }
}
