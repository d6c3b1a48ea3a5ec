/// Finds out what is wrong with a body that the decoder refused without saying where: JSON that is broken, at which byte,
/// or a number that is no whole number, in which field. Run on refused bodies only.
public struct JSONScanner {
  public enum Finding: Error, Hashable, Sendable {
    /// Not JSON (RFC 8259): the byte's offset, and what is wrong there.
    case broken(at: Int, String)
    /// A number with a fraction, or too large for 64 bits.
    case notWhole(field: String, number: String)
  }

  private let bytes: [UInt8]
  private var index = 0
  private var path: [String] = []

  /// Deeper than any request of ours, and shallow enough for every stack.
  private static let maxDepth = 64

  /// The first thing wrong with `bytes`; nil if they are JSON with whole numbers only.
  public static func firstFinding(in bytes: [UInt8]) -> Finding? {
    var scanner = JSONScanner(bytes: bytes)
    do throws(Finding) {
      try scanner.value()
      scanner.skipSpace()
      if scanner.index < bytes.count { throw scanner.broken("something follows the value") }
      return nil
    } catch {
      return error
    }
  }

  private init(bytes: [UInt8]) { self.bytes = bytes }

  private func broken(_ what: String) -> Finding { .broken(at: index, what) }

  private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard next == UInt8(ascii: character) else { return false }
    index += 1
    return true
  }

  private mutating func value() throws(Finding) {
    guard path.count < JSONScanner.maxDepth else { throw broken("it is nested too deeply") }
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): try object()
    case UInt8(ascii: "["): try array()
    case UInt8(ascii: "\""): _ = try string()
    case UInt8(ascii: "t"): try word("true")
    case UInt8(ascii: "f"): try word("false")
    case UInt8(ascii: "n"): try word("null")
    case UInt8(ascii: "-"), .some(UInt8(ascii: "0")...UInt8(ascii: "9")): try number()
    case nil: throw broken("it ends where a value is expected")
    default: throw broken("a value is expected")
    }
  }

  private mutating func object() throws(Finding) {
    index += 1
    if take("}") { return }
    repeat {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw broken("a field's name in quotes is expected") }
      path.append(try string())
      guard take(":") else { throw broken("':' is expected") }
      try value()
      path.removeLast()
    } while take(",")
    guard take("}") else { throw broken("',' or '}' is expected") }
  }

  private mutating func array() throws(Finding) {
    index += 1
    if take("]") { return }
    var element = 0
    repeat {
      path.append("[\(element)]")
      try value()
      path.removeLast()
      element += 1
    } while take(",")
    guard take("]") else { throw broken("',' or ']' is expected") }
  }

  private mutating func string() throws(Finding) -> String {
    index += 1
    let start = index
    while let byte = next, byte != UInt8(ascii: "\"") {
      guard byte >= 0x20 else { throw broken("a control character stands in a string; write it as an escape") }
      index += byte == UInt8(ascii: "\\") ? 2 : 1
    }
    guard index < bytes.count else { throw broken("a string has no end") }
    guard let text = String(validating: bytes[start..<index], as: UTF8.self) else {
      index = start
      throw broken("a string is not UTF-8")
    }
    index += 1
    return text
  }

  private mutating func word(_ word: String) throws(Finding) {
    guard bytes[index...].starts(with: word.utf8) else { throw broken("a value is expected") }
    index += word.utf8.count
  }

  private mutating func number() throws(Finding) {
    let start = index
    while let byte = next, "+-.eE0123456789".utf8.contains(byte) { index += 1 }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    if Int64(text) == nil {
      guard Double(text) != nil, !text.hasPrefix("+") else {
        index = start
        throw broken("'\(text.prefix(32))' is no number")
      }
      throw .notWhole(field: path.joined(separator: "."), number: String(text.prefix(32)))
    }
  }
}
