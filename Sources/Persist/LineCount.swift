import Glibc
import JobletModel

/// Counting lines, fast: every byte that arrives is looked at once, because nothing a frame says of itself is trusted.
enum LineCount {
  /// How many newlines there are.
  static func newlines(in bytes: UnsafeRawBufferPointer) -> Int {
    let newline: UInt64 = 0x0A0A_0A0A_0A0A_0A0A
    let low: UInt64 = 0x7F7F_7F7F_7F7F_7F7F
    let words = bytes.count / 8
    var total = 0
    var index = 0
    while index < words {
      // Eight bytes at a time: each byte of `sums` counts the newlines of its place, for up to 255 words.
      let end = min(words, index + 255)
      var sums: UInt64 = 0
      while index < end {
        let word = bytes.loadUnaligned(fromByteOffset: index &* 8, as: UInt64.self) ^ newline
        // The high bit of a byte is set where the byte of `word` is zero, exactly.
        let zeros = ~(((word & low) &+ low) | word | low)
        sums &+= zeros &>> 7
        index &+= 1
      }
      let pairs = (sums & 0x00FF_00FF_00FF_00FF) &+ ((sums &>> 8) & 0x00FF_00FF_00FF_00FF)
      total &+= Int((pairs &* 0x0001_0001_0001_0001) &>> 48)
    }
    for rest in (words * 8)..<bytes.count where bytes[rest] == 0x0A { total += 1 }
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
