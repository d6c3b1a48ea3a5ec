import CLinux
import Glibc

/// An open file descriptor with one owner: closed when the owner lets go of it, never twice, never by number.
public struct FileDescriptor: ~Copyable, Sendable {
  /// The number, for calls that borrow it. It must not outlive this value.
  public let raw: CInt

  /// Takes over a descriptor that nobody else will close.
  public init(owning raw: CInt) { self.raw = raw }

  deinit { _ = close(raw) }

  /// Hands the number over to someone else, who closes it from now on.
  public consuming func release() -> CInt {
    let number = raw
    discard self
    return number
  }

  /// A second descriptor of the same open file, close-on-exec.
  public borrowing func duplicate() throws(Errno) -> FileDescriptor {
    let raw = raw
    return FileDescriptor(owning: try Kernel.call("fcntl") { fcntl(raw, F_DUPFD_CLOEXEC, 3) })
  }
}

extension FileDescriptor {
  /// open(2), close-on-exec. `flags` as in `O_RDWR | O_CREAT`.
  public static func open(_ path: String, _ flags: CInt, mode: mode_t = 0) throws(Errno) -> FileDescriptor {
    FileDescriptor(owning: try Kernel.call("open", path) { Glibc.open(path, flags | O_CLOEXEC, mode) })
  }

  /// openat2(2) below `directory`, following no symbolic link and leaving by none: for paths a job could have touched.
  public static func open(
    beneath directory: borrowing FileDescriptor, _ path: String, _ flags: CInt, mode: mode_t = 0
  ) throws(Errno) -> FileDescriptor {
    let base = directory.raw
    return FileDescriptor(
      owning: try Kernel.check("openat2", path, cl_open_beneath(base, path, flags | O_CLOEXEC, mode)))
  }

  /// An anonymous file in memory holding `bytes`, sealed against every change. Its offset is 0.
  public static func sealedMemory(named name: String, _ bytes: [UInt8]) throws(Errno) -> FileDescriptor {
    let file = try memory(named: name)
    try file.fillAndSeal(bytes)
    return file
  }

  /// An empty anonymous file in memory, for ``fillAndSeal(_:)``.
  public static func memory(named name: String) throws(Errno) -> FileDescriptor {
    FileDescriptor(owning: try Kernel.check("memfd_create", name, cl_memfd_create(name)))
  }

  /// Writes `bytes` into an anonymous file and seals it against every change, by whoever holds it. The offset is 0 again.
  public borrowing func fillAndSeal(_ bytes: [UInt8]) throws(Errno) {
    try writeAll(bytes)
    let raw = raw
    try Kernel.call("lseek", "memfd") { lseek(raw, 0, SEEK_SET) }
    try Kernel.check("fcntl F_ADD_SEALS", "memfd", cl_seal(raw))
  }

  /// Writes all of `bytes`, blocking.
  public borrowing func writeAll(_ bytes: [UInt8]) throws(Errno) {
    let raw = raw
    var written = 0
    while written < bytes.count {
      written += try Kernel.call("write") {
        bytes[written...].withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
      }
    }
  }

  /// Reads until the end of the file, or `limit` bytes.
  public borrowing func readAll(limit: Int = 1 << 20) throws(Errno) -> [UInt8] {
    let raw = raw
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: min(limit, 4096))
    while bytes.count < limit {
      let room = min(chunk.count, limit - bytes.count)
      let count = try Kernel.call("read") { chunk.withUnsafeMutableBytes { Glibc.read(raw, $0.baseAddress, room) } }
      if count == 0 { break }
      bytes += chunk[..<count]
    }
    return bytes
  }

  /// Reads until the end of the file, or until `buffer` is full. - Returns: what was read, a part of `buffer`.
  public borrowing func read(into buffer: UnsafeMutableRawBufferPointer) throws(Errno) -> UnsafeRawBufferPointer {
    let raw = raw
    var filled = 0
    while filled < buffer.count, let base = buffer.baseAddress {
      let count = try Kernel.call("read") { Glibc.read(raw, base + filled, buffer.count - filled) }
      if count == 0 { break }
      filled += count
    }
    return UnsafeRawBufferPointer(rebasing: buffer[..<filled])
  }
}
