import BenchmarkKit
import JobletModel
import JobletWire

#if canImport(Glibc)
  import Glibc
#endif

/// One end of a frame connection, without any event loop between the clock and the socket.
final class FrameSocket {
  let descriptor: CInt
  private var buffer: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0

  static let maxPayload = 128 << 20

  /// Connects; throws at once where nobody listens.
  init(_ path: String) throws {
    buffer = .allocate(byteCount: 1 << 20, alignment: 16)
    descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw BenchmarkError("socket: errno \(errno)") }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw BenchmarkError("\(path) is too long for a socket's address; set JOBLET_BENCH_TMP to a shorter folder")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard code == 0 else { throw BenchmarkError("connect \(path): \(String(cString: strerror(errno)))") }
    // As exec asks for: a megabyte in flight keeps both ends busy.
    var size: CInt = 1 << 20
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<CInt>.size))
  }

  deinit {
    close(descriptor)
    buffer.deallocate()
  }

  /// Waits for what the connection is ready for: `POLLIN`, `POLLOUT`, or nothing within the time.
  func wait(reading: Bool = true, writing: Bool, milliseconds: CInt) -> (canRead: Bool, canWrite: Bool) {
    let events = (reading ? Int16(POLLIN) : 0) | (writing ? Int16(POLLOUT) : 0)
    var waits = [pollfd(fd: descriptor, events: events, revents: 0)]
    guard poll(&waits, 1, milliseconds) > 0 else { return (false, false) }
    let end = Int16(POLLERR | POLLHUP)
    return (waits[0].revents & (Int16(POLLIN) | end) != 0, waits[0].revents & (Int16(POLLOUT) | end) != 0)
  }

  /// Sends header and payload from where they are, as far as the socket takes them, from `offset` of the two on.
  /// - Returns: bytes that went; 0 when the socket is full. Nil when the peer is gone.
  func send(_ header: UnsafeRawBufferPointer, _ payload: UnsafeRawBufferPointer, from offset: Int) -> Int? {
    var parts: [iovec] = []
    for (bytes, skipped) in [(header, min(offset, header.count)), (payload, max(0, offset - header.count))] {
      guard let base = bytes.baseAddress, skipped < bytes.count else { continue }
      parts.append(iovec(iov_base: UnsafeMutableRawPointer(mutating: base + skipped), iov_len: bytes.count - skipped))
    }
    return parts.withUnsafeMutableBufferPointer { parts in
      var message = msghdr()
      message.msg_iov = parts.baseAddress
      message.msg_iovlen = parts.count
      while true {
        let count = sendmsg(descriptor, &message, CInt(MSG_DONTWAIT | MSG_NOSIGNAL))
        if count >= 0 { return count }
        if errno == EINTR { continue }
        return errno == EAGAIN ? 0 : nil
      }
    }
  }

  /// Sends a small frame whole, waiting as long as it takes.
  func send(_ header: FrameHeader, _ payload: [UInt8] = []) throws {
    var header = header
    header.length = UInt32(payload.count)
    var head = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    head.withUnsafeMutableBytes { header.encode(into: $0) }
    var sent = 0
    while sent < head.count + payload.count {
      let count = head.withUnsafeBytes { head in payload.withUnsafeBytes { send(head, $0, from: sent) } }
      guard let count else { throw BenchmarkError("the connection is gone") }
      sent += count
      if count == 0 { _ = wait(reading: false, writing: true, milliseconds: 1000) }
    }
  }

  /// Reads what has come and hands on every whole frame; with `blocks` it waits for some bytes first.
  /// - Returns: false when the peer closed the connection.
  func receive(blocks: Bool, _ body: (FrameHeader, UnsafeRawBufferPointer) throws -> Void) throws -> Bool {
    if start > 0, let base = buffer.baseAddress {
      memmove(base, base + start, end - start)
      (start, end) = (0, end - start)
    }
    if end == buffer.count {
      let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: buffer.count * 2, alignment: 16)
      larger.copyMemory(from: UnsafeRawBufferPointer(buffer))
      buffer.deallocate()
      buffer = larger
    }
    let count = recv(descriptor, buffer.baseAddress.map { $0 + end }, buffer.count - end, blocks ? 0 : dontWait)
    if count < 0 {
      guard errno == EAGAIN || errno == EINTR else { return false }
      return true
    }
    if count == 0 { return false }
    end += count
    while true {
      let bytes = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[start..<end])
      guard let header = try FrameHeader.decode(bytes, maxPayload: FrameSocket.maxPayload) else { return true }
      let length = FrameHeader.byteCount + Int(header.length)
      guard bytes.count >= length else { return true }
      start += length
      try body(header, UnsafeRawBufferPointer(rebasing: bytes[FrameHeader.byteCount..<length]))
    }
  }
}

private let dontWait = CInt(MSG_DONTWAIT)
