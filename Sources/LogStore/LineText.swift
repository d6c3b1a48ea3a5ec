import Glibc

/// Gives a line's own bytes, as the job wrote them: where they stand if JSON had nothing to escape, else undone into memory
/// that is used again.
final class LineText {
  private var scratch = RawBuffer(capacity: 4096)

  /// Valid until the next call, and no longer than the line is.
  func bytes(of line: LineView) -> UnsafeRawBufferPointer {
    let (text, isBase64) = line.text
    if isBase64 {
      decodeBase64(text)
    } else if let base = text.baseAddress, memchr(base, 0x5C, text.count) != nil {
      unescape(text)
    } else {
      return text
    }
    return scratch.bytes
  }

  private func unescape(_ text: UnsafeRawBufferPointer) {
    scratch.removeAll()
    scratch.reserve(text.count)
    var index = 0
    while index < text.count {
      guard text[index] == 0x5C, index + 1 < text.count else {
        scratch.append(byte: text[index])
        index += 1
        continue
      }
      switch text[index + 1] {
      case UInt8(ascii: "n"): scratch.append(byte: 0x0A)
      case UInt8(ascii: "r"): scratch.append(byte: 0x0D)
      case UInt8(ascii: "t"): scratch.append(byte: 0x09)
      case UInt8(ascii: "u") where index + 5 < text.count:
        // Of these the encoder writes only those of control characters: \u00XX.
        scratch.append(byte: LineText.hex(text[index + 4]) << 4 | LineText.hex(text[index + 5]))
        index += 4
      case let other: scratch.append(byte: other)
      }
      index += 2
    }
  }

  private static func hex(_ digit: UInt8) -> UInt8 { digit <= 0x39 ? digit & 15 : ((digit & 15) &+ 9) & 15 }

  private func decodeBase64(_ text: UnsafeRawBufferPointer) {
    scratch.removeAll()
    scratch.reserve(text.count)
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
        scratch.append(byte: UInt8(truncatingIfNeeded: bits >> UInt32(count)))
      }
    }
  }
}
