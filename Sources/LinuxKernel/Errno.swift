import CLinux
import Glibc

/// A system call that failed: which one, on what, and the kernel's error number.
public struct Errno: Error, Hashable, Sendable {
  /// The error number, `ENOENT` and so on, as a positive number.
  public var code: CInt
  /// The system call, `openat`.
  public var call: String
  /// What it was about: a path, a process. Empty where there is nothing to name.
  public var subject: String

  public init(_ code: CInt, _ call: String, _ subject: String = "") {
    self.code = code
    self.call = call
    self.subject = subject
  }

  /// The symbolic name, `ENOENT`; `errno 123` for one that has none here.
  public var name: String { Errno.name(of: code) }

  public static func name(of code: CInt) -> String {
    guard let name = cl_error_name(code) else { return "errno \(code)" }
    return String(cString: name)
  }

  /// The system's sentence for an error number: `No such file or directory`.
  public static func text(of code: CInt) -> String {
    guard let text = cl_error_text(code) else { return "unknown error" }
    return String(cString: text)
  }
}

extension Errno: CustomStringConvertible {
  /// `openat /x: No such file or directory (ENOENT)`.
  public var description: String {
    "\(call)\(subject.isEmpty ? "" : " ")\(subject): \(Errno.text(of: code)) (\(name))"
  }
}

/// The one place where a result of the C library becomes a value or an ``Errno``.
public enum Kernel {
  /// Calls `body` again while a signal interrupts it.
  /// - Returns: the result, 0 or more.
  /// - Throws: ``Errno`` made from `errno` when the result is negative.
  @discardableResult @inlinable
  public static func call<Result: SignedInteger>(
    _ name: String, _ subject: @autoclosure () -> String = "", _ body: () -> Result
  ) throws(Errno) -> Result {
    while true {
      let result = body()
      if result >= 0 { return result }
      let code = errno
      if code != EINTR { throw Errno(code, name, subject()) }
    }
  }

  /// For functions of `CLinux`, which return `-errno`.
  @discardableResult @inlinable
  public static func check<Result: SignedInteger>(
    _ name: String, _ subject: @autoclosure () -> String = "", _ result: Result
  ) throws(Errno) -> Result {
    guard result < 0 else { return result }
    throw Errno(CInt(-result), name, subject())
  }

  /// renameat2(2) with RENAME_EXCHANGE: each path is what the other was, in one step.
  public static func exchange(_ one: String, _ other: String) throws(Errno) {
    try check("renameat2", other, cl_exchange(one, other))
  }
}
