import Glibc
import JobletModel

/// Looks for text in lines. It is applied to a line's own bytes; looking through raw JSON only finds candidates, fast.
public struct TextFilter: Sendable {
  /// The text's own bytes.
  private let raw: [UInt8]
  /// The bytes as they stand inside a JSON string of ours.
  private let escaped: [UInt8]
  private var scratch: [UInt8] = []
  private static let base64Key = Array("\"b64\":\"".utf8)

  public init(_ text: String) {
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
  func hidesText(_ page: UnsafeRawBufferPointer) -> Bool {
    TextFilter.base64Key.withUnsafeBytes { page.firstIndex(of: $0, from: 0) != nil }
  }

  /// The start of the next line from `start` on that may match.
  func candidate(in page: UnsafeRawBufferPointer, from start: Int) -> Int? {
    escaped.withUnsafeBytes { needle in
      page.firstIndex(of: needle, from: start).map { max(start, page.lineStart(before: $0)) }
    }
  }

  /// True if the line's own bytes contain the text.
  mutating func matches(_ line: LineView) -> Bool {
    let (text, isBase64) = line.text
    if isBase64 {
      decodeBase64(text)
    } else if let base = text.baseAddress, memchr(base, 0x5C, text.count) != nil {
      unescape(text)
    } else {
      return raw.withUnsafeBytes { text.firstIndex(of: $0, from: 0) != nil }
    }
    return scratch.withUnsafeBytes { line in raw.withUnsafeBytes { line.firstIndex(of: $0, from: 0) != nil } }
  }

  private mutating func unescape(_ text: UnsafeRawBufferPointer) {
    scratch.removeAll(keepingCapacity: true)
    var index = 0
    while index < text.count {
      guard text[index] == 0x5C, index + 1 < text.count else {
        scratch.append(text[index])
        index += 1
        continue
      }
      switch text[index + 1] {
      case UInt8(ascii: "n"): scratch.append(0x0A)
      case UInt8(ascii: "r"): scratch.append(0x0D)
      case UInt8(ascii: "t"): scratch.append(0x09)
      case UInt8(ascii: "u") where index + 5 < text.count:
        scratch.append(TextFilter.hex(text[index + 4]) << 4 | TextFilter.hex(text[index + 5]))
        index += 4
      case let other: scratch.append(other)
      }
      index += 2
    }
  }

  private static func hex(_ digit: UInt8) -> UInt8 { digit <= 0x39 ? digit & 15 : (digit & 15) + 9 }

  private mutating func decodeBase64(_ text: UnsafeRawBufferPointer) {
    scratch.removeAll(keepingCapacity: true)
    var bits: UInt32 = 0
    var count = 0
    for byte in text {
      let value: UInt32
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = UInt32(byte) - 65
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = UInt32(byte) - 71
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = UInt32(byte) + 4
      case UInt8(ascii: "+"): value = 62
      case UInt8(ascii: "/"): value = 63
      default: continue
      }
      bits = bits << 6 | value
      count += 6
      if count >= 8 {
        count -= 8
        scratch.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
  }
}
