import JobletModel
import LinuxKernel
import Synchronization

/// A ring mapped into this process: the header page, then its data twice in a row, so that no entry wraps for a reader.
///
/// Every use of the memory is either an atomic load or store of one field, or a copy that the caller validates afterwards:
/// another process writes there too. Whoever reads holds a reference, so the addresses stay.
package final class RingMapping: Sendable {
  private let file: MirroredFile
  private let mask: UInt64

  package var header: UnsafeMutableRawPointer { file.header }
  /// The first of the two views of the data.
  package var data: UnsafeMutableRawPointer { file.data }
  package var dataSize: Int { file.dataSize }
  /// The file, for joblet-init to inherit.
  package var descriptor: CInt { file.descriptor.raw }

  /// Makes a new ring. Its memory is allocated here, so that a full tmpfs refuses the job instead of killing a writer with
  /// SIGBUS later.
  /// - Parameters:
  ///   - dataSize: a power of two in ``RingLayout/dataSizeRange``.
  ///   - maxRecords: how many unacknowledged records joblet-init may let pile up.
  package init(creating path: String, dataSize: Int, maxRecords: Int) throws(Errno) {
    file = try MirroredFile.create(path, headerSize: RingLayout.headerSize, dataSize: dataSize)
    mask = UInt64(dataSize - 1)
    store64(RingLayout.Field.magic, RingLayout.magic)
    store64(RingLayout.Field.dataSize, UInt64(dataSize))
    store64(RingLayout.Field.maxRecords, UInt64(maxRecords))
    store64(RingLayout.Field.nextSeq, 1)
  }

  /// Maps a ring that is there.
  /// - Throws: ``RingFault/badHeader(_:)`` if the file is no ring; an `Errno` if it can't be opened.
  package init(opening path: String) throws {
    file = try MirroredFile.open(path, headerSize: RingLayout.headerSize)
    mask = UInt64(file.dataSize - 1)
    let magic = load64(RingLayout.Field.magic)
    let size = load64(RingLayout.Field.dataSize)
    guard magic == RingLayout.magic, size == UInt64(file.dataSize), RingLayout.dataSizeRange.contains(file.dataSize)
    else {
      throw RingFault.badHeader("magic 0x\(String(magic, radix: 16)), size \(size) in a file for \(file.dataSize)")
    }
  }

  /// The size of a job's ring: room for `records` lines of common length, at most 1 MiB.
  package static func dataSize(forRecords records: Int) -> Int {
    var size = RingLayout.dataSizeRange.lowerBound
    while size < 1 << 20, size / 128 < records { size <<= 1 }
    return size
  }

  /// The address of an offset; `length` bytes follow it without a wrap if they are at most the ring's size.
  package func address(_ offset: UInt64) -> UnsafeMutableRawPointer { data + Int(offset & mask) }

  package func load32(_ field: Int) -> UInt32 {
    (header + field).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.load(ordering: .sequentiallyConsistent)
  }

  package func load64(_ field: Int) -> UInt64 {
    (header + field).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.load(ordering: .sequentiallyConsistent)
  }

  package func store32(_ field: Int, _ value: UInt32) {
    (header + field).assumingMemoryBound(to: Atomic<UInt32>.self).pointee.store(
      value, ordering: .sequentiallyConsistent)
  }

  package func store64(_ field: Int, _ value: UInt64) {
    (header + field).assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(
      value, ordering: .sequentiallyConsistent)
  }
}
