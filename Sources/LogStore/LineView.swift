import CGNU
import Glibc
import JobletModel

/// How every stored line begins: `{"seq":N,"ts":"<30 characters>"`, found by place.
struct LineStart {
  let bytes: UnsafeRawBufferPointer
  let seq: UInt64
  /// Where `,"ts":"` begins.
  let afterSeq: Int

  /// Nil if the bytes do not begin as a stored line does.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= 7 + 1 + 7 + 30 + 3, LineStart.isKey(bytes, "{\"seq\":", at: 0) else { return nil }
    var index = 7
    var seq: UInt64 = 0
    while index < 27, bytes[index] &- UInt8(ascii: "0") < 10 {
      let (scaled, isOver) = seq.multipliedReportingOverflow(by: 10)
      let (sum, carries) = scaled.addingReportingOverflow(UInt64(bytes[index] &- UInt8(ascii: "0")))
      guard !isOver, !carries else { return nil }
      seq = sum
      index += 1
    }
    guard index > 7, bytes.count >= index + 7 + 30 + 3, LineStart.isKey(bytes, ",\"ts\":\"", at: index),
      bytes[index + 37] == UInt8(ascii: "\"")
    else { return nil }
    self.bytes = bytes
    self.seq = seq
    afterSeq = index
  }

  private static func isKey(_ bytes: UnsafeRawBufferPointer, _ key: StaticString, at offset: Int) -> Bool {
    for index in 0..<key.utf8CodeUnitCount where bytes[offset + index] != key.utf8Start[index] { return false }
    return true
  }

  /// The 30 characters of the timestamp: they sort as text.
  var timestamp: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[(afterSeq + 7)..<(afterSeq + 37)])
  }
}

/// A JSON line as ``JobletModel/LogLineEncoder`` writes it, seen where it lies. The encoder's form is fixed, so its fields
/// are found by place, not by parsing.
struct LineView {
  /// The whole line with its newline.
  let bytes: UnsafeRawBufferPointer
  let seq: UInt64
  /// Where `,"ts":"` begins.
  private let afterSeq: Int

  /// Nil if the bytes do not begin as a line does.
  init?(_ bytes: UnsafeRawBufferPointer) {
    // The shortest line: {"seq":1,"ts":"<30>","stream":"stdout","line":""}\n
    guard bytes.count >= 7 + 1 + 7 + 30 + 19 + 8 + 3 else { return nil }
    var index = 7
    var seq: UInt64 = 0
    while index < 27, bytes[index] &- UInt8(ascii: "0") < 10 {
      seq = seq &* 10 &+ UInt64(bytes[index] &- UInt8(ascii: "0"))
      index += 1
    }
    guard index > 7, bytes[index] == UInt8(ascii: ","), bytes.count >= index + 7 + 30 + 19 + 8 + 3 else { return nil }
    self.bytes = bytes
    self.seq = seq
    afterSeq = index
  }

  /// The 30 characters of the timestamp: they sort as text.
  var timestamp: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[(afterSeq + 7)..<(afterSeq + 37)])
  }

  /// The text as JSON has it, without its quotes, and whether it is base64.
  var text: (bytes: UnsafeRawBufferPointer, isBase64: Bool) {
    var start = afterSeq + 37 + 19
    if bytes[start + 2] == UInt8(ascii: "p") { start += 15 }  // ,"partial":true
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
