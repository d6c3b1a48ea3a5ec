import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// A log line's JSON, as ``LogLineEncoder`` makes it, looked at without decoding more than is asked for.
public struct StoredLine {
  public let seq: UInt64
  /// True if no newline followed the text.
  public let isPartial: Bool
  private let isBase64: Bool
  /// The JSON string's inside, still escaped.
  private let content: UnsafeRawBufferPointer

  /// The number at the start of a line; nil if the bytes are no log line.
  public static func seq(of line: UnsafeRawBufferPointer) -> UInt64? {
    guard starts(line, with: "{\"seq\":") else { return nil }
    var value: UInt64 = 0
    var index = 7
    while index < line.count, index < 27, case let digit = line[index], digit >= 0x30, digit <= 0x39 {
      let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = scaled.addingReportingOverflow(UInt64(digit - 0x30))
      guard !overflow, !carry else { return nil }
      value = sum
      index += 1
    }
    guard index > 7, index < line.count, line[index] == UInt8(ascii: ",") else { return nil }
    return value
  }

  /// The time of a log line or a sample as it stands there: the 30 bytes of ``JobletModel/Timestamp``'s form, which sort by
  /// time. Nil if the bytes are neither.
  public static func time(of line: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    guard seq(of: line) != nil, let comma = line.firstIndex(of: UInt8(ascii: ",")) else { return nil }
    let rest = UnsafeRawBufferPointer(rebasing: line[comma...])
    guard starts(rest, with: ",\"ts\":\""), rest.count > 7 + Timestamp.textLength,
      rest[7 + Timestamp.textLength] == UInt8(ascii: "\"")
    else { return nil }
    return UnsafeRawBufferPointer(rebasing: rest[7..<(7 + Timestamp.textLength)])
  }

  /// Reads a line, given without its newline; it may not be used longer than `line`. Nil if it is not in the encoder's form.
  public init?(_ line: UnsafeRawBufferPointer) {
    guard let seq = StoredLine.seq(of: line), line.count > 60 else { return nil }
    // `,"ts":"…30…","stream":"stdout"`: every part before the text has a fixed length but the number.
    var index = 7
    while line[index] != UInt8(ascii: ",") { index += 1 }
    index += 7 + Timestamp.textLength + 1 + 18
    guard index < line.count, line[index - 1] == UInt8(ascii: "\"") else { return nil }
    var rest = UnsafeRawBufferPointer(rebasing: line[index...])
    let isPartial = StoredLine.starts(rest, with: ",\"partial\":true")
    if isPartial { rest = UnsafeRawBufferPointer(rebasing: rest[15...]) }
    let isBase64 = StoredLine.starts(rest, with: ",\"b64\":\"")
    guard isBase64 || StoredLine.starts(rest, with: ",\"line\":\"") else { return nil }
    let start = isBase64 ? 8 : 9
    guard rest.count >= start + 2, rest[rest.count - 1] == UInt8(ascii: "}"), rest[rest.count - 2] == UInt8(ascii: "\"")
    else { return nil }
    self.seq = seq
    self.isPartial = isPartial
    self.isBase64 = isBase64
    content = UnsafeRawBufferPointer(rebasing: rest[start..<(rest.count - 2)])
  }

  /// The most bytes ``writeText(to:)`` writes.
  public var maxTextLength: Int { content.count + 1 }

  /// Writes the line's own bytes, with its newline if it had one.
  /// - Parameter out: room for ``maxTextLength``.
  /// - Returns: how many bytes were written; nil if the JSON string is broken.
  public func writeText(to out: UnsafeMutableRawBufferPointer) -> Int? {
    guard var count = isBase64 ? writeBase64(out) : writeUnescaped(out) else { return nil }
    if !isPartial {
      out[count] = 0x0A
      count += 1
    }
    return count
  }

  private func writeUnescaped(_ out: UnsafeMutableRawBufferPointer) -> Int? {
    var (from, to) = (0, 0)
    while from < content.count {
      let byte = content[from]
      guard byte == UInt8(ascii: "\\") else {
        out[to] = byte
        (from, to) = (from + 1, to + 1)
        continue
      }
      guard from + 1 < content.count else { return nil }
      let plain: UInt8
      switch content[from + 1] {
      case UInt8(ascii: "n"): plain = 0x0A
      case UInt8(ascii: "r"): plain = 0x0D
      case UInt8(ascii: "t"): plain = 0x09
      case UInt8(ascii: "b"): plain = 0x08
      case UInt8(ascii: "f"): plain = 0x0C
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): plain = content[from + 1]
      case UInt8(ascii: "u"):
        // The encoder writes control characters so and nothing else: two zeros, then the byte.
        guard from + 5 < content.count, content[from + 2] == 0x30, content[from + 3] == 0x30,
          let high = Hex.value(content[from + 4]), let low = Hex.value(content[from + 5]), high < 8
        else { return nil }
        out[to] = high << 4 | low
        (from, to) = (from + 6, to + 1)
        continue
      default: return nil
      }
      out[to] = plain
      (from, to) = (from + 2, to + 1)
    }
    return to
  }

  private func writeBase64(_ out: UnsafeMutableRawBufferPointer) -> Int? {
    guard content.count % 4 == 0 else { return nil }
    var to = 0
    for group in stride(from: 0, to: content.count, by: 4) {
      var bits: UInt32 = 0
      var padding = 0
      for index in group..<(group + 4) {
        if content[index] == UInt8(ascii: "=") {
          padding += 1
          bits <<= 6
        } else {
          guard padding == 0, let value = Base64.value(content[index]) else { return nil }
          bits = bits << 6 | UInt32(value)
        }
      }
      guard padding <= 2, padding == 0 || group + 4 == content.count else { return nil }
      for shift in [UInt32(16), 8, 0].prefix(3 - padding) {
        out[to] = UInt8(truncatingIfNeeded: bits >> shift)
        to += 1
      }
    }
    return to
  }

  private static func starts(_ bytes: UnsafeRawBufferPointer, with prefix: StaticString) -> Bool {
    guard let base = bytes.baseAddress, bytes.count >= prefix.utf8CodeUnitCount else { return false }
    return memcmp(base, prefix.utf8Start, prefix.utf8CodeUnitCount) == 0
  }
}
