import Glibc

/// Why a daemon can't start or go on, in words for the journal: what happened, why, what to do next.
public struct DaemonError: Error, Hashable, CustomStringConvertible {
  public var description: String

  public init(_ description: String) { self.description = description }

  /// An error of a system call, with the errno's own text.
  static func system(_ what: String, _ code: CInt = errno) -> DaemonError {
    DaemonError("\(what): \(String(cString: strerror(code))) (errno \(code))")
  }
}
