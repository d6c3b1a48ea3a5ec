import CGNU
import Glibc
import JobletModel

/// A stored JSON line, seen where it lies: `{"seq":N,"ts":"<30 characters>"` and, in a log, what ``JobletModel/LogLineEncoder``
/// writes behind it. The form is fixed, so its fields are found by place, not by parsing.
struct LineView {
  /// The whole line with its newline.
  let bytes: UnsafeRawBufferPointer
  let seq: UInt64
  /// Where `,"ts":"` begins.
  private let afterSeq: Int

  /// The shortest line: `{"seq":1,"ts":"<30>"}` and a newline.
  private static let minCount = 7 + 1 + 7 + 30 + 3
  /// `{"seq":` and `,"ts":"` as numbers, seven bytes each.
  private static let seqKey = LineView.word("{\"seq\":")
  private static let timeKey = LineView.word(",\"ts\":\"")

  /// Nil if the bytes do not begin as a line does.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= LineView.minCount, LineView.sevenBytes(bytes, at: 0) == LineView.seqKey else { return nil }
    var index = 7
    var seq: UInt64 = 0
    while index < 27, bytes[index] &- UInt8(ascii: "0") < 10 {
      let (scaled, isOver) = seq.multipliedReportingOverflow(by: 10)
      let (sum, carries) = scaled.addingReportingOverflow(UInt64(bytes[index] &- UInt8(ascii: "0")))
      guard !isOver, !carries else { return nil }
      seq = sum
      index += 1
    }
    guard index > 7, bytes.count >= index + 7 + 30 + 3, LineView.sevenBytes(bytes, at: index) == LineView.timeKey,
      bytes[index + 37] == UInt8(ascii: "\"")
    else { return nil }
    self.bytes = bytes
    self.seq = seq
    afterSeq = index
  }

  private static func sevenBytes(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> UInt64 {
    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) & 0x00FF_FFFF_FFFF_FFFF
  }

  private static func word(_ key: StaticString) -> UInt64 {
    (0..<7).reduce(0) { $0 | UInt64(key.utf8Start[$1]) << UInt64(8 * $1) }
  }

  /// The 30 characters of the timestamp: they sort as text.
  var timestamp: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[(afterSeq + 7)..<(afterSeq + 37)])
  }

  /// What follows the timestamp's closing quote, up to and with the newline.
  var rest: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[(afterSeq + 38)...]) }

  /// A log line's text as JSON has it, without its quotes, and whether it is base64.
  var text: (bytes: UnsafeRawBufferPointer, isBase64: Bool) {
    var start = afterSeq + 37 + 19  // ","stream":"stdout"
    if start + 2 < bytes.count, bytes[start + 2] == UInt8(ascii: "p") { start += 15 }  // ,"partial":true
    let isBase64 = start + 2 < bytes.count && bytes[start + 2] == UInt8(ascii: "b")
    start += isBase64 ? 8 : 9
    let end = bytes.count - 3
    guard start < end else { return (UnsafeRawBufferPointer(rebasing: bytes[0..<0]), isBase64) }
    return (UnsafeRawBufferPointer(rebasing: bytes[start..<end]), isBase64)
  }
}

extension UnsafeRawBufferPointer {
  /// Where `needle` first occurs at or after `start`, by memmem(3).
  func firstIndex(of needle: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard let baseAddress, start < count, let wanted = needle.baseAddress else {
      return needle.isEmpty && start <= count ? start : nil
    }
    guard let found = memmem(baseAddress + start, count - start, wanted, needle.count) else { return nil }
    return UnsafeRawPointer(found) - baseAddress
  }

  /// The end of the line that holds `index`: behind its newline.
  func lineEnd(from index: Int) -> Int {
    guard let baseAddress, index < count, let found = memchr(baseAddress + index, 0x0A, count - index) else {
      return count
    }
    return UnsafeRawPointer(found) - baseAddress + 1
  }

  /// The start of the line that holds `index`.
  func lineStart(before index: Int) -> Int {
    guard let baseAddress, index > 0, let found = memrchr(baseAddress, 0x0A, index) else { return 0 }
    return UnsafeRawPointer(found) - baseAddress + 1
  }
}
