/// A log line read back from the JSON that ``LogLineEncoder`` writes.
public struct LogLine: Sendable, Hashable {
  public var seq: UInt64
  /// The printed form, as it stood in the line.
  public var timestamp: String
  public var stream: LogStream
  /// No newline followed these bytes.
  public var isPartial: Bool
  /// The line's own bytes, without a newline.
  public var bytes: [UInt8]

  /// What a terminal would have seen: the bytes, and a newline unless the record is partial.
  public func appendText(to out: inout [UInt8]) {
    out.append(contentsOf: bytes)
    if !isPartial { out.append(0x0A) }
  }
}

extension LogLine {
  /// Reads one line of the encoder's exact form, with or without its newline.
  ///
  /// It is the encoder's inverse, not a JSON parser: fields in another order or unknown escapes give nil, so whoever reads
  /// lines of other origin uses a JSON parser.
  public init?(json: some Collection<UInt8>) {
    var reader = LogLineReader(bytes: Array(json))
    guard reader.skip("{\"seq\":"), let seq = reader.number(), reader.skip(",\"ts\":\""),
      let timestamp = reader.ascii(Timestamp.textLength), reader.skip("\",\"stream\":\"std")
    else { return nil }
    if reader.skip("out\"") {
      stream = .stdout
    } else if reader.skip("err\"") {
      stream = .stderr
    } else {
      return nil
    }
    isPartial = reader.skip(",\"partial\":true")
    let bytes: [UInt8]?
    if reader.skip(",\"line\":\"") {
      bytes = reader.text()
    } else if reader.skip(",\"b64\":\"") {
      bytes = reader.base64()
    } else {
      return nil
    }
    guard let bytes, reader.skip("}"), reader.isAtEnd else { return nil }
    self.seq = seq
    self.timestamp = timestamp
    self.bytes = bytes
  }
}

private struct LogLineReader {
  let bytes: [UInt8]
  var position = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { position == bytes.count || position == bytes.count - 1 && bytes[position] == 0x0A }

  mutating func skip(_ text: StaticString) -> Bool {
    let length = text.utf8CodeUnitCount
    guard bytes.count - position >= length else { return false }
    for index in 0..<length where bytes[position + index] != text.utf8Start[index] { return false }
    position += length
    return true
  }

  mutating func number() -> UInt64? {
    let start = position
    var value: UInt64 = 0
    while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
      let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carried) = scaled.addingReportingOverflow(UInt64(bytes[position] - 0x30))
      guard !overflow, !carried else { return nil }
      value = sum
      position += 1
    }
    return position == start ? nil : value
  }

  mutating func ascii(_ length: Int) -> String? {
    guard bytes.count - position >= length else { return nil }
    defer { position += length }
    return String(validating: bytes[position..<position + length], as: UTF8.self)
  }

  /// A JSON string up to its closing quote, its escapes undone.
  mutating func text() -> [UInt8]? {
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count - position)
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case 0x22: return out
      case 0x5C:
        guard let escaped = escape() else { return nil }
        out.append(escaped)
      default: out.append(byte)
      }
    }
    return nil
  }

  /// What follows a backslash; of `\u` forms the encoder writes only those of control characters.
  private mutating func escape() -> UInt8? {
    guard position < bytes.count else { return nil }
    defer { position += 1 }
    switch bytes[position] {
    case 0x22: return 0x22
    case 0x5C: return 0x5C
    case UInt8(ascii: "n"): return 0x0A
    case UInt8(ascii: "r"): return 0x0D
    case UInt8(ascii: "t"): return 0x09
    case UInt8(ascii: "u"):
      guard bytes.count - position > 4, bytes[position + 1] == 0x30, bytes[position + 2] == 0x30,
        let high = Hex.value(bytes[position + 3]), let low = Hex.value(bytes[position + 4])
      else { return nil }
      position += 4
      return high << 4 | low
    default: return nil
    }
  }

  mutating func base64() -> [UInt8]? {
    guard let end = bytes[position...].firstIndex(of: 0x22), (end - position) % 4 == 0 else { return nil }
    var out: [UInt8] = []
    out.reserveCapacity((end - position) / 4 * 3)
    while position < end {
      var group: UInt32 = 0
      var padding = 0
      for index in 0..<4 {
        let byte = bytes[position + index]
        if byte == UInt8(ascii: "="), index >= 2, position + 4 == end {
          padding += 1
          group <<= 6
        } else {
          guard padding == 0, let value = Base64.value(byte) else { return nil }
          group = group << 6 | UInt32(value)
        }
      }
      out.append(UInt8(truncatingIfNeeded: group >> 16))
      if padding < 2 { out.append(UInt8(truncatingIfNeeded: group >> 8)) }
      if padding < 1 { out.append(UInt8(truncatingIfNeeded: group)) }
      position += 4
    }
    position = end + 1
    return out
  }
}
