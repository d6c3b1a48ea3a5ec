import Glibc

/// A named pipe that two programs use to wake each other. Both open it for reading and writing, so that neither waits for the
/// other to open, and neither sees an end when the other restarts.
public struct Fifo: ~Copyable, Sendable {
  public let descriptor: FileDescriptor

  /// Makes the pipe (mode 0600) if it is absent, and opens it, non-blocking.
  public static func create(_ path: String) throws(Errno) -> Fifo {
    if mkfifo(path, 0o600) != 0, errno != EEXIST { throw Errno(errno, "mkfifo", path) }
    return try open(path)
  }

  /// Opens a pipe that is there.
  public static func open(_ path: String) throws(Errno) -> Fifo {
    Fifo(descriptor: try .open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW))
  }

  /// Wakes the other side. A full pipe is fine: it already holds a wake-up nobody has read.
  public borrowing func wake() throws(Errno) {
    let raw = descriptor.raw
    do {
      try Kernel.call("write") { write(raw, "w", 1) }
    } catch let error where error.code == EAGAIN {}
  }

  /// Takes every wake-up out, so that the next poll sleeps.
  public borrowing func drain() throws(Errno) {
    let raw = descriptor.raw
    var chunk = [UInt8](repeating: 0, count: 512)
    do {
      while try Kernel.call("read", "", { chunk.withUnsafeMutableBytes { read(raw, $0.baseAddress, $0.count) } })
        == chunk.count
      {}
    } catch let error where error.code == EAGAIN {}
  }
}
