import JobletModel

/// Whether a job that was posted with an `Idempotency-Key` is posted again. Pure.
package enum RunRetry {
  package static let maxTries = 6

  /// The pause before the next try; nil if there is none.
  ///
  /// What the node said about the request stands; no answer at all, or that a part of it is away, may be better in a moment,
  /// and 409 with `Retry-After` is said of the same request while it is still under way.
  package static func pause(after error: JobletError, tries: Int) -> Duration? {
    guard tries < maxTries else { return nil }
    let backoff = min(Duration.milliseconds(250) * (1 << (tries - 1)), .seconds(2))
    switch error {
    case .unreachable(let error): return error.kind == .interrupted ? backoff : nil
    case .refused(let refusal):
      guard refusal.status == 503 || refusal.status == 409, let wish = refusal.retryAfter else { return nil }
      return min(max(.seconds(wish), backoff), .seconds(5))
    case .badReply: return nil
    }
  }
}
