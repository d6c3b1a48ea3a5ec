import FoundationEssentials

/// How long certificates hold.
public struct Validity: Sendable {
  /// The CA's lifetime. Ten years: its key never leaves the node, and a new CA means new files for every client.
  public var authority: TimeInterval = 10 * 365 * 86_400
  /// A server's or client's lifetime: two years, never beyond the CA's own.
  public var leaf: TimeInterval = 2 * 365 * 86_400
  /// A certificate with less than this left is made anew by the next `init`. The gateway warns in the last 30 days: so only if
  /// that did not happen for two weeks.
  public var renewBefore: TimeInterval = 45 * 86_400
  /// Certificates start a little in the past, for clients whose clock is behind.
  public var backdate: TimeInterval = 3600

  public init() {}
}
