import Glibc
import JobletModel
import Synchronization

/// A ring mapped into this process: the header page, then its data twice in a row, so that no entry wraps for a reader.
///
/// `@unchecked Sendable`: the memory is shared with another process anyway, so every use is either an atomic load or store
/// of one field, or a copy that the caller validates afterwards. The addresses never change until `deinit`, and whoever
/// reads holds a reference.
package final class RingMapping: @unchecked Sendable {
  package let header: UnsafeMutableRawPointer
  /// The first of the two views of the data.
  package let data: UnsafeMutableRawPointer
  package let dataSize: Int
  private let mask: UInt64
  private let mappedSize: Int

  /// Maps the ring behind a descriptor, which can be closed afterwards.
  /// - Throws: ``RingFault/badHeader(_:)`` if the file is no ring; ``SystemCallError`` from fstat(2) or mmap(2).
  package init(fd: CInt) throws {
    var info = stat()
    guard fstat(fd, &info) == 0 else { throw SystemCallError("fstat", "ring") }
    let data = Int(info.st_size) - RingLayout.headerSize
    guard RingLayout.dataSizeRange.contains(data), data & (data - 1) == 0 else {
      throw RingFault.badHeader("the file has \(info.st_size) bytes, which is no ring's size")
    }
    let total = RingLayout.headerSize + 2 * data
    // Reserve first: the second view must follow the first, and only a reservation keeps others out of that place.
    guard let base = mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), base != MAP_FAILED
    else { throw SystemCallError("mmap", "ring (reserve)") }
    let first = mmap(
      base, RingLayout.headerSize + data, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0)
    let second = mmap(
      base + RingLayout.headerSize + data, data, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
      off_t(RingLayout.headerSize))
    guard first != MAP_FAILED, second != MAP_FAILED else {
      let error = SystemCallError("mmap", "ring")
      munmap(base, total)
      throw error
    }
    header = base
    self.data = base + RingLayout.headerSize
    dataSize = data
    mask = UInt64(data - 1)
    mappedSize = total
    let magic = load64(RingLayout.Field.magic)
    let size = load64(RingLayout.Field.dataSize)
    guard magic == RingLayout.magic, size == UInt64(data) else {
      throw RingFault.badHeader("magic 0x\(String(magic, radix: 16)), size \(size) in a file for \(data)")
    }
  }

  deinit { munmap(header, mappedSize) }

  /// Makes a ring's file behind an empty descriptor. Its blocks are allocated here, so that a full tmpfs refuses the job
  /// instead of killing a writer with SIGBUS later.
  /// - Parameter maxRecords: how many unacknowledged records joblet-init may let pile up.
  package static func create(fd: CInt, dataSize: Int, maxRecords: Int) throws {
    precondition(RingLayout.dataSizeRange.contains(dataSize) && dataSize & (dataSize - 1) == 0)
    let code = posix_fallocate(fd, 0, off_t(RingLayout.headerSize + dataSize))
    guard code == 0 else { throw SystemCallError("posix_fallocate", "ring", code) }
    var page = [UInt64](repeating: 0, count: RingLayout.headerSize / 8)
    page[RingLayout.Field.magic / 8] = RingLayout.magic
    page[RingLayout.Field.dataSize / 8] = UInt64(dataSize)
    page[RingLayout.Field.maxRecords / 8] = UInt64(maxRecords)
    page[RingLayout.Field.nextSeq / 8] = 1
    let written = page.withUnsafeBytes { pwrite(fd, $0.baseAddress, $0.count, 0) }
    guard written == RingLayout.headerSize else { throw SystemCallError("pwrite", "ring") }
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

/// A system call that failed, with what it was about.
package struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
  package var call: String
  package var subject: String
  package var code: CInt

  package init(_ call: String, _ subject: String, _ code: CInt = errno) {
    self.call = call
    self.subject = subject
    self.code = code
  }

  package var description: String { "\(call) \(subject): \(String(cString: strerror(code)))" }
}
