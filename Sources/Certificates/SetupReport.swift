/// What ``Setup/run()`` did and found, a sentence each, in order.
public struct SetupReport: Hashable, Sendable {
  /// What was done, and what stayed.
  public var lines: [String] = []
  /// What this run could not do, and somebody has to before clients can't connect.
  public var warnings: [String] = []

  public init() {}
}
