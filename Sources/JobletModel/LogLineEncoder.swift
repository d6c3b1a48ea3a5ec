#if canImport(Glibc)
  import Glibc
#endif

/// The one encoder of a log line: live and stored lines are byte for byte the same because both come from here.
///
/// `{"seq":17,"ts":"2026-11-21T20:15:55.123456789Z","stream":"stdout","line":"…"}` and a newline; `"partial":true` before
/// the text where no newline followed it; bytes that are not UTF-8 go base64 as `"b64"` instead of `"line"`.
///
/// It appends to a buffer it owns and allocates only when that grows; ``removeAll()`` keeps the memory for the next batch.
public struct LogLineEncoder: ~Copyable {
  private var base: UnsafeMutablePointer<UInt8>
  private var capacity: Int
  /// Bytes encoded so far.
  public private(set) var count = 0
  /// True if a line went base64 since the last ``removeAll()``.
  public private(set) var hasBase64 = false

  private var timestampText: (value: Int64, isSet: Bool) = (0, false)
  private let timestampBytes: UnsafeMutablePointer<UInt8>

  public init(capacity: Int = 64 << 10) {
    self.capacity = max(capacity, 256)
    base = .allocate(capacity: self.capacity)
    timestampBytes = .allocate(capacity: Timestamp.textLength)
  }

  deinit {
    base.deallocate()
    timestampBytes.deallocate()
  }

  /// What was encoded; valid until the next call that changes the encoder.
  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  public mutating func removeAll() {
    count = 0
    hasBase64 = false
  }

  /// Encodes all lines of a chunk.
  /// - Parameters:
  ///   - info: what the chunk says of itself; its `count` is trusted no further than the newlines found.
  ///   - payload: the chunk's bytes.
  ///   - after: lines up to this `seq` are left out.
  ///   - body: called before each line with its seq and raw bytes; a line for which it answers false is left out.
  /// - Returns: how many lines were encoded.
  @discardableResult
  public mutating func append(
    _ info: LogChunkInfo, payload: UnsafeRawBufferPointer, after: UInt64 = 0,
    where isWanted: (_ seq: UInt64, _ line: UnsafeRawBufferPointer) -> Bool = { _, _ in true }
  ) -> Int {
    var seq = info.firstSeq
    var rest = payload
    var encoded = 0
    while info.isPartial || !rest.isEmpty {
      let newline = info.isPartial ? nil : rest.firstNewline
      let length = newline ?? rest.count
      let line = UnsafeRawBufferPointer(rebasing: rest[..<length])
      if seq > after, isWanted(seq, line) {
        appendLine(seq: seq, timestamp: info.timestamp, stream: info.stream, isPartial: info.isPartial, line: line)
        encoded += 1
      }
      seq += 1
      if info.isPartial || newline == nil { break }
      rest = UnsafeRawBufferPointer(rebasing: rest[(length + 1)...])
    }
    return encoded
  }

  /// Appends lines that are JSON already, byte for byte.
  public mutating func append(lines: UnsafeRawBufferPointer) {
    guard let source = lines.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
    reserve(lines.count)
    base.advanced(by: count).update(from: source, count: lines.count)
    count += lines.count
  }

  /// Encodes one line, given without its newline.
  public mutating func appendLine(
    seq: UInt64, timestamp: Timestamp, stream: LogStream, isPartial: Bool, line: UnsafeRawBufferPointer
  ) {
    reserve(160 + line.count * 6)  // \u00XX is the longest an input byte becomes
    put("{\"seq\":")
    put(number: seq)
    put(",\"ts\":\"")
    putTimestamp(timestamp)
    put("\",\"stream\":\"")
    put(stream == .stdout ? "stdout" : "stderr")
    put("\"")
    if isPartial { put(",\"partial\":true") }
    let start = count
    put(",\"line\":\"")
    if putEscaped(line) {
      put("\"}\n")
    } else {
      count = start
      hasBase64 = true
      put(",\"b64\":\"")
      putBase64(line)
      put("\"}\n")
    }
  }

  private mutating func reserve(_ extra: Int) {
    guard capacity - count < extra else { return }
    var grown = capacity * 2
    while grown - count < extra { grown *= 2 }
    let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: grown)
    larger.update(from: base, count: count)
    base.deallocate()
    base = larger
    capacity = grown
  }

  private mutating func put(_ text: StaticString) {
    base.advanced(by: count).update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    count += text.utf8CodeUnitCount
  }

  private mutating func put(number: UInt64) {
    var digits = 1
    var limit = number
    while limit >= 10 {
      limit /= 10
      digits += 1
    }
    var value = number
    for index in stride(from: count + digits - 1, through: count, by: -1) {
      base[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: value % 10)
      value /= 10
    }
    count += digits
  }

  /// All lines of a chunk share a moment, so its text is made once.
  private mutating func putTimestamp(_ timestamp: Timestamp) {
    if !timestampText.isSet || timestampText.value != timestamp.nanoseconds {
      timestamp.write(to: timestampBytes)
      timestampText = (timestamp.nanoseconds, true)
    }
    base.advanced(by: count).update(from: timestampBytes, count: Timestamp.textLength)
    count += Timestamp.textLength
  }

  /// Copies text with JSON's escapes (RFC 8259, section 7). False, with garbage behind ``count``, if it is not UTF-8.
  private mutating func putEscaped(_ line: UnsafeRawBufferPointer) -> Bool {
    guard let source = line.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return true }
    var index = 0
    let end = line.count
    while index < end {
      // Eight bytes at a time while none needs a look: no control character, quote, backslash or high bit.
      while end - index >= 8 {
        let word = UnsafeRawPointer(source + index).loadUnaligned(as: UInt64.self)
        if LogLineEncoder.needsLook(word) { break }
        UnsafeMutableRawPointer(base + count).storeBytes(of: word, as: UInt64.self)
        count += 8
        index += 8
      }
      guard index < end else { break }
      let byte = source[index]
      if byte >= 0x80 {
        let length = UTF8Check.sequenceLength(source + index, available: end - index)
        guard length > 0 else { return false }
        for offset in 0..<length { base[count + offset] = source[index + offset] }
        count += length
        index += length
      } else {
        putEscapedASCII(byte)
        index += 1
      }
    }
    return true
  }

  /// True if any byte of eight is below 0x20, a quote, a backslash, or above 0x7F.
  private static func needsLook(_ word: UInt64) -> Bool {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let high: UInt64 = 0x8080_8080_8080_8080
    let quote = word ^ (ones &* 0x22)
    let backslash = word ^ (ones &* 0x5C)
    let control = (word &- (ones &* 0x20)) & ~word
    let isQuote = (quote &- ones) & ~quote
    let isBackslash = (backslash &- ones) & ~backslash
    return (word | control | isQuote | isBackslash) & high != 0
  }

  private mutating func putEscapedASCII(_ byte: UInt8) {
    switch byte {
    case 0x22: put("\\\"")
    case 0x5C: put("\\\\")
    case 0x0A: put("\\n")
    case 0x0D: put("\\r")
    case 0x09: put("\\t")
    case 0x00..<0x20:
      put("\\u00")
      base[count] = Hex.digit(byte >> 4)
      base[count + 1] = Hex.digit(byte & 0xF)
      count += 2
    default:
      base[count] = byte
      count += 1
    }
  }

  private mutating func putBase64(_ line: UnsafeRawBufferPointer) {
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    let letters = alphabet.utf8Start
    var index = 0
    while index < line.count {
      let left = line.count - index
      let group =
        UInt32(line[index]) << 16 | (left > 1 ? UInt32(line[index + 1]) << 8 : 0)
        | (left > 2 ? UInt32(line[index + 2]) : 0)
      base[count] = letters[Int(group >> 18)]
      base[count + 1] = letters[Int(group >> 12 & 63)]
      base[count + 2] = left > 1 ? letters[Int(group >> 6 & 63)] : UInt8(ascii: "=")
      base[count + 3] = left > 2 ? letters[Int(group & 63)] : UInt8(ascii: "=")
      count += 4
      index += 3
    }
  }
}

extension UnsafeRawBufferPointer {
  /// The index of the first newline, by memchr(3).
  public var firstNewline: Int? {
    guard let baseAddress, let found = memchr(baseAddress, 0x0A, count) else { return nil }
    return UnsafeRawPointer(found) - baseAddress
  }
}

/// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
enum UTF8Check {
  /// The length of the well-formed sequence that starts here with a byte above 0x7F, or 0 if there is none.
  static func sequenceLength(_ p: UnsafePointer<UInt8>, available: Int) -> Int {
    func isContinuation(_ index: Int) -> Bool { p[index] & 0xC0 == 0x80 }
    switch p[0] {
    case 0xC2...0xDF:
      return available >= 2 && isContinuation(1) ? 2 : 0
    case 0xE0...0xEF:
      guard available >= 3, isContinuation(1), isContinuation(2) else { return 0 }
      if p[0] == 0xE0 && p[1] < 0xA0 || p[0] == 0xED && p[1] > 0x9F { return 0 }
      return 3
    case 0xF0...0xF4:
      guard available >= 4, isContinuation(1), isContinuation(2), isContinuation(3) else { return 0 }
      if p[0] == 0xF0 && p[1] < 0x90 || p[0] == 0xF4 && p[1] > 0x8F { return 0 }
      return 4
    default: return 0
    }
  }
}
