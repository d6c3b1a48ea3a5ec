/// Why certificates could not be made or read: what happened, why, and what to do.
public struct CertificateFailure: Error, Hashable, Sendable, CustomStringConvertible {
  public var description: String

  public init(_ description: String) { self.description = description }
}
