/// Decides whether and when a broken stream is opened again. Pure: time is what the caller makes of the answers.
package struct Reconnect: Sendable {
  package enum Decision: Sendable, Hashable {
    case after(Duration)
    case giveUp
  }

  /// Tries in a row without a single event; with the pauses below, about two minutes.
  package static let maxTries = 30
  static let longestPause: Duration = .seconds(5)

  private var failures = 0

  package init() {}

  /// A stream that is heard from so long after it was opened is a good one, though no event came: the node's comments, one
  /// every 15 seconds, are all that a quiet job gives.
  package static let steadyAge: Duration = .seconds(10)

  /// An event arrived: the stream is good again.
  package mutating func progressed() { failures = 0 }

  /// Something arrived, if only a comment.
  /// - Parameter age: since the stream was opened.
  package mutating func heard(at age: Duration) { if age >= Reconnect.steadyAge { failures = 0 } }

  /// The stream broke.
  /// - Parameters:
  ///   - wish: the server's `retry:` in milliseconds.
  ///   - retryAfter: a refusal's `Retry-After` in seconds.
  package mutating func lost(wish: Int? = nil, retryAfter: Int? = nil) -> Decision {
    failures += 1
    guard failures <= Reconnect.maxTries else { return .giveUp }
    if let retryAfter { return .after(min(.seconds(max(retryAfter, 0)), .seconds(30))) }
    let first = Duration.milliseconds(min(max(wish ?? 250, 0), 5000))
    return .after(min(first * (1 << min(failures - 1, 6)), max(Reconnect.longestPause, first)))
  }
}
