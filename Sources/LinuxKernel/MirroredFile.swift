import CLinux
import Glibc

/// A file in shared memory: one header, then data that is mapped twice in a row, so that what wraps at its end can be read in
/// one piece. The mapping lives as long as this value; its pointers must not outlive it.
public struct MirroredFile: ~Copyable, @unchecked Sendable {
  // Sendable: the pointers are fixed for this value's life, and this type itself touches no byte behind them. Who reads and
  // writes what there is the protocol of the file (joblet_ring.h), which is made for concurrent processes.

  /// The file, open for reading and writing.
  public let descriptor: FileDescriptor
  public let header: UnsafeMutableRawPointer
  public let headerSize: Int
  /// `2 * dataSize` bytes are readable here; byte `i` and byte `i + dataSize` are the same.
  public let data: UnsafeMutableRawPointer
  /// A power of two, and a multiple of the page size.
  public let dataSize: Int

  /// Makes a new file with every page allocated, so that a full tmpfs refuses here and not as SIGBUS later.
  /// - Throws: `EEXIST` if the path is taken, `ENOSPC` if memory for it is not to be had, `EINVAL` for sizes that don't fit.
  public static func create(_ path: String, headerSize: Int, dataSize: Int) throws(Errno) -> MirroredFile {
    try checkSizes(path, headerSize: headerSize, dataSize: dataSize)
    let file = try FileDescriptor.open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
    do {
      try Kernel.check("fallocate", path, cl_fallocate(file.raw, 0, Int64(headerSize + dataSize)))
      return try map(file, path, headerSize: headerSize, dataSize: dataSize)
    } catch {
      unlink(path)
      throw error
    }
  }

  /// Maps a file that is there; its length gives `dataSize`.
  /// - Throws: `EINVAL` if its length is not that of such a file.
  public static func open(_ path: String, headerSize: Int) throws(Errno) -> MirroredFile {
    let file = try FileDescriptor.open(path, O_RDWR | O_NOFOLLOW)
    let raw = file.raw
    var status = stat()
    try Kernel.call("fstat", path) { fstat(raw, &status) }
    let dataSize = Int(status.st_size) - headerSize
    try checkSizes(path, headerSize: headerSize, dataSize: dataSize)
    return try map(file, path, headerSize: headerSize, dataSize: dataSize)
  }

  private static func checkSizes(_ path: String, headerSize: Int, dataSize: Int) throws(Errno) {
    let page = sysconf(Int32(_SC_PAGESIZE))
    guard headerSize > 0, headerSize % page == 0, dataSize >= page, dataSize <= 1 << 30, dataSize & (dataSize - 1) == 0
    else { throw Errno(EINVAL, "mmap", path) }
  }

  private static func map(
    _ file: consuming FileDescriptor, _ path: String, headerSize: Int, dataSize: Int
  ) throws(Errno) -> MirroredFile {
    let raw = file.raw
    let total = headerSize + 2 * dataSize
    // One reservation first, then both views over it: nothing else can slip in between them.
    guard let base = mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED else {
      throw Errno(errno, "mmap", path)
    }
    for (offset, length, from) in [(0, headerSize + dataSize, 0), (headerSize + dataSize, dataSize, headerSize)] {
      let view = mmap(base + offset, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, raw, from)
      guard view != MAP_FAILED else {
        let code = errno
        munmap(base, total)
        throw Errno(code, "mmap", path)
      }
    }
    return MirroredFile(
      descriptor: file, header: base, headerSize: headerSize, data: base + headerSize, dataSize: dataSize)
  }

  private init(
    descriptor: consuming FileDescriptor, header: UnsafeMutableRawPointer, headerSize: Int,
    data: UnsafeMutableRawPointer, dataSize: Int
  ) {
    self.descriptor = descriptor
    self.header = header
    self.headerSize = headerSize
    self.data = data
    self.dataSize = dataSize
  }

  deinit { munmap(header, headerSize + 2 * dataSize) }
}
