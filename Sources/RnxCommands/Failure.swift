/// What went wrong, why, and what to do: the three lines every error of `rnx` prints.
public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
  public var what: String
  public var why: String
  public var next: String

  public init(_ what: String, why: String, next: String) {
    self.what = what
    self.why = why
    self.next = next
  }

  public var description: String {
    var text = "rnx: \(what)"
    if !why.isEmpty { text += "\n  why:  \(why)" }
    if !next.isEmpty { text += "\n  next: \(next)" }
    return text
  }
}
