/// The profiles of system calls a job can run under, each allowing all that the one before it allows: the order is from the
/// strictest to the most permissive.
public enum SeccompProfile: String, Sendable, CaseIterable, Hashable, Comparable {
  /// What a batch program needs.
  case strict
  case `default`
  /// More than most programs need: for debuggers and old software.
  case compat

  /// What the values are, for error messages.
  public static let allowed = allCases.map(\.rawValue).joined(separator: ", ")

  public static func < (a: SeccompProfile, b: SeccompProfile) -> Bool {
    let order = allCases
    return (order.firstIndex(of: a) ?? 0) < (order.firstIndex(of: b) ?? 0)
  }
}
