import Glibc
import JobletModel

/// Counting lines, fast: every byte that arrives is looked at once, because nothing a frame says of itself is trusted.
enum LineCount {
  /// How many newlines there are.
  static func newlines(in bytes: UnsafeRawBufferPointer) -> Int {
    var total = 0
    var index = 0
    let newline = SIMD32<UInt8>(repeating: 0x0A)
    let zero = SIMD32<UInt8>(repeating: 0)
    let one = SIMD32<UInt8>(repeating: 1)
    while bytes.count - index >= 32 {
      // Up to 255 vectors are summed byte by byte before a lane could overflow.
      var sums = zero
      let end = min(index + 255 * 32, index + (bytes.count - index) / 32 * 32)
      while index < end {
        let vector = bytes.loadUnaligned(fromByteOffset: index, as: SIMD32<UInt8>.self)
        sums &+= zero.replacing(with: one, where: vector .== newline)
        index += 32
      }
      let wide = SIMD32<UInt16>(truncatingIfNeeded: sums)
      total += Int(wide.wrappedSum())
    }
    while index < bytes.count {
      if bytes[index] == 0x0A { total += 1 }
      index += 1
    }
    return total
  }

  /// The length of the first `count` lines with their newlines.
  static func length(ofLines count: Int, in bytes: UnsafeRawBufferPointer) -> Int {
    var position = 0
    for _ in 0..<count {
      guard let newline = UnsafeRawBufferPointer(rebasing: bytes[position...]).firstNewline else { return bytes.count }
      position += newline + 1
    }
    return position
  }

  /// Where the last whole line ends; 0 if there is none.
  static func lastLineEnd(in bytes: UnsafeRawBufferPointer) -> Int {
    var index = bytes.count
    while index > 0, bytes[index - 1] != 0x0A { index -= 1 }
    return index
  }

  /// What is wrong with a chunk, or nil: a whole chunk has as many newlines as it says lines and ends in one; a partial
  /// one is a single record without.
  static func fault(_ info: LogChunkInfo, _ payload: UnsafeRawBufferPointer) -> String? {
    if info.isPartial {
      guard info.count == 1 else { return "a partial chunk holds one record, not \(info.count)" }
      return payload.firstNewline == nil ? nil : "a partial chunk has a newline in it"
    }
    guard payload.last == 0x0A else { return "a whole chunk must end in a newline" }
    let lines = newlines(in: payload)
    return lines == Int(info.count) ? nil : "a chunk says \(info.count) lines and has \(lines)"
  }
}
