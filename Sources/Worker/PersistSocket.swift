import Glibc
import LinuxKernel
import JobletModel
import JobletWire

/// The non-blocking write socket to persist and the frames that come back on it.
final class PersistSocket {
  let fd: CInt
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)
  private var filled = 0

  /// Connects to a unix socket. Returns at once: a unix socket connects or refuses without waiting.
  init(path: String) throws(Errno) {
    fd = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    // Every property has its value from here on, so deinit runs when this throws: it closes the descriptor, and a second close
    // could hit one that another thread has just opened.
    guard fd >= 0 else { throw Errno(errno, "socket", path) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw Errno(ENAMETOOLONG, "connect", path)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      throw Errno(errno, "connect", path)
    }
    // A megabyte in flight keeps both ends busy. Asking for more than the host allows gives what it allows.
    var size: CInt = 1 << 20
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<CInt>.size))
  }

  deinit { if fd >= 0 { close(fd) } }

  /// Reads what is there and hands each whole frame to `body`.
  /// - Returns: false when persist closed the connection.
  func receive(_ body: (FrameHeader, UnsafeRawBufferPointer) throws -> Void) throws -> Bool {
    while true {
      let count = buffer.withUnsafeMutableBytes { bytes -> Int in
        guard let base = bytes.baseAddress else { return 0 }
        return recv(fd, base + filled, bytes.count - filled, CInt(MSG_DONTWAIT))
      }
      if count < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN { return true }
        throw Errno(errno, "recv", "persist")
      }
      if count == 0 { return false }
      filled += count
      try takeFrames(body)
    }
  }

  private func takeFrames(_ body: (FrameHeader, UnsafeRawBufferPointer) throws -> Void) throws {
    // Nothing persist sends here is long: acknowledgements, a hello, a problem.
    let maxPayload = buffer.count - FrameHeader.byteCount
    var start = 0
    try buffer.withUnsafeBytes { bytes in
      while true {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[start..<filled])
        guard let header = try FrameHeader.decode(rest, maxPayload: maxPayload) else { break }
        let end = FrameHeader.byteCount + Int(header.length)
        guard rest.count >= end else { break }
        try body(header, UnsafeRawBufferPointer(rebasing: rest[FrameHeader.byteCount..<end]))
        start += end
      }
    }
    guard start > 0 else { return }
    let left = filled - start
    buffer.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress, left > 0 else { return }
      memmove(base, base + start, left)
    }
    filled = left
  }
}
