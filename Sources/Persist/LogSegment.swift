import CGNU
import CIsal
import Glibc
import JobletModel
import LocalStore

/// One file of the write-ahead log: `<16 hexadecimal digits>.wal`, preallocated, written from its start to its end once.
///
/// It begins with 64 bytes (little-endian): magic `JBLTWAL1`; the segment's number (8); the number of its first batch (8);
/// time of creation, Unix nanoseconds (8); zeros; and in the last four bytes the CRC-32 of the 60 before. Then come batches,
/// each of 32 bytes and its frames as they were received:
///
/// | offset | size | field |
/// | --- | --- | --- |
/// | 0 | 4 | magic `JBWB` |
/// | 4 | 4 | length of the frames in bytes |
/// | 8 | 8 | number of the batch; they count on through all segments |
/// | 16 | 4 | CRC-32 of the sixteen bytes before and the frames |
/// | 20 | 12 | zeros |
///
/// Where no batch begins (zeros, or the file's end) the segment ends.
package enum LogSegment {
  package static let headerLength = 64
  package static let batchHeaderLength = 32
  package static let magic: UInt64 = 0x314C_4157_544C_424A  // "JBLTWAL1"
  package static let batchMagic: UInt32 = 0x4257_424A  // "JBWB"

  package static func name(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits + ".wal"
  }

  /// The number in a segment's name; nil for other files.
  package static func number(_ name: String) -> UInt64? {
    guard name.utf8.count == 20, name.hasSuffix(".wal") else { return nil }
    return UInt64(name.dropLast(4), radix: 16)
  }

  package static func header(_ number: UInt64, firstBatch: UInt64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: headerLength)
    bytes.withUnsafeMutableBytes { out in
      out.storeBytes(of: magic.littleEndian, as: UInt64.self)
      out.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
      out.storeBytes(of: firstBatch.littleEndian, toByteOffset: 16, as: UInt64.self)
      out.storeBytes(of: Timestamp.now().nanoseconds.littleEndian, toByteOffset: 24, as: Int64.self)
      let crc = CRC32.update(0, UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(out)[..<60]))
      out.storeBytes(of: crc.littleEndian, toByteOffset: 60, as: UInt32.self)
    }
    return bytes
  }

  /// True if the bytes are the header of segment `number`.
  package static func isHeader(_ bytes: UnsafeRawBufferPointer, of number: UInt64) -> Bool {
    guard bytes.count >= headerLength else { return false }
    let crc = CRC32.update(0, UnsafeRawBufferPointer(rebasing: bytes[..<60]))
    return UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self)) == magic
      && UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)) == number
      && UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 60, as: UInt32.self)) == crc
  }

  /// Writes a batch's header for frames that lie in `parts`.
  package static func writeBatchHeader(
    _ number: UInt64, _ parts: [UnsafeRawBufferPointer], into out: UnsafeMutableRawBufferPointer
  ) {
    let length = parts.reduce(0) { $0 + $1.count }
    out.initializeMemory(as: UInt8.self, repeating: 0)
    out.storeBytes(of: batchMagic.littleEndian, as: UInt32.self)
    out.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 4, as: UInt32.self)
    out.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
    var crc = CRC32.update(0, UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(out)[..<16]))
    for part in parts { crc = CRC32.update(crc, part) }
    out.storeBytes(of: crc.littleEndian, toByteOffset: 16, as: UInt32.self)
  }

  /// What stands at a place in a segment.
  package enum Place: Equatable {
    case batch(number: UInt64, frames: Range<Int>)
    /// Nothing was written from here on.
    case end
    /// Something that is no whole batch: a write that was cut off, or damage.
    case torn
  }

  /// Reads what stands at `offset`: a pure function over a segment's bytes.
  package static func place(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Place {
    guard offset + batchHeaderLength <= bytes.count else { return .end }
    let magic = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    if magic == 0 { return .end }
    let length = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)))
    let start = offset + batchHeaderLength
    guard magic == batchMagic, length > 0, length <= bytes.count - start else { return .torn }
    let frames = start..<(start + length)
    let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 16, as: UInt32.self))
    let head = CRC32.update(0, UnsafeRawBufferPointer(rebasing: bytes[offset..<(offset + 16)]))
    guard CRC32.update(head, UnsafeRawBufferPointer(rebasing: bytes[frames])) == stored else { return .torn }
    let number = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
    return .batch(number: number, frames: frames)
  }
}
