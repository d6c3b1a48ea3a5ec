import JobletModel

/// Looks for text in lines. It is applied to a line's own bytes; looking through raw JSON only finds candidates, fast.
struct TextFilter: Sendable {
  /// The text's own bytes.
  private let raw: [UInt8]
  /// The bytes as they stand inside a JSON string of ours.
  private let escaped: [UInt8]
  private static let base64Key = Array("\"b64\":\"".utf8)

  init(_ text: String) {
    raw = Array(text.utf8)
    var escaped: [UInt8] = []
    for byte in raw {
      switch byte {
      case 0x22: escaped += Array("\\\"".utf8)
      case 0x5C: escaped += Array("\\\\".utf8)
      case 0x0A: escaped += Array("\\n".utf8)
      case 0x0D: escaped += Array("\\r".utf8)
      case 0x09: escaped += Array("\\t".utf8)
      case 0x00..<0x20:
        let digits = Array("0123456789abcdef".utf8)
        escaped += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      default: escaped.append(byte)
      }
    }
    self.escaped = escaped
  }

  /// True if the page must be read line by line: base64 hides its text.
  static func hidesText(_ page: UnsafeRawBufferPointer) -> Bool {
    base64Key.withUnsafeBytes { page.firstIndex(of: $0, from: 0) != nil }
  }

  /// The start of the next line from `start` on that may match.
  func candidate(in page: UnsafeRawBufferPointer, from start: Int) -> Int? {
    escaped.withUnsafeBytes { needle in
      page.firstIndex(of: needle, from: start).map { max(start, page.lineStart(before: $0)) }
    }
  }

  /// True if a line's own bytes contain the text.
  func matches(_ line: UnsafeRawBufferPointer) -> Bool {
    raw.withUnsafeBytes { line.firstIndex(of: $0, from: 0) != nil }
  }
}
