import Glibc
import LinuxKernel
import JobletWire

/// Frames gathered for writev(2): headers in one block, log payloads straight from their rings. Confined to one thread.
///
/// A batch is built, then flushed to its end, then built anew; so nothing is queued beyond it and memory is bounded.
final class FrameBatch {
  static let maxFrames = 256
  static let maxBytes = 1 << 20

  private let headers = UnsafeMutableRawBufferPointer.allocate(
    byteCount: maxFrames * FrameHeader.byteCount, alignment: 16)
  private let vectors = UnsafeMutableBufferPointer<iovec>.allocate(capacity: maxFrames * 2)
  private var frames = 0
  private var vectorCount = 0
  private var firstVector = 0
  private(set) var bytes = 0
  /// What the vectors point into: rings, and copies of control payloads.
  private var rings: [RingMapping] = []
  private var copies: [UnsafeMutableRawPointer] = []

  deinit {
    clear()
    headers.deallocate()
    vectors.deallocate()
  }

  var isEmpty: Bool { firstVector == vectorCount }
  var isFull: Bool { frames == FrameBatch.maxFrames || bytes >= FrameBatch.maxBytes }

  /// Adds a control frame; the payload is copied.
  func add(_ header: FrameHeader, payload: [UInt8] = []) {
    var header = header
    header.length = UInt32(payload.count)
    addHeader(header)
    guard !payload.isEmpty else { return }
    let copy = UnsafeMutableRawPointer.allocate(byteCount: payload.count, alignment: 1)
    payload.withUnsafeBytes { copy.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(copy), byteCount: $0.count) }
    copies.append(copy)
    addVector(copy, payload.count)
  }

  /// Adds a log frame whose payload the kernel will take from the ring.
  func add(_ header: FrameHeader, entry: RingEntry, of ring: RingMapping) {
    addHeader(header)
    if rings.last !== ring { rings.append(ring) }
    addVector(ring.address(entry.payloadOffset), entry.length)
  }

  private func addHeader(_ header: FrameHeader) {
    precondition(frames < FrameBatch.maxFrames)
    let offset = frames * FrameHeader.byteCount
    let place = UnsafeMutableRawBufferPointer(rebasing: headers[offset..<(offset + FrameHeader.byteCount)])
    header.encode(into: place)
    frames += 1
    addVector(place.baseAddress, FrameHeader.byteCount)
  }

  private func addVector(_ base: UnsafeMutableRawPointer?, _ length: Int) {
    vectors[vectorCount] = iovec(iov_base: base, iov_len: length)
    vectorCount += 1
    bytes += length
  }

  /// Writes what the socket takes.
  /// - Returns: true when the batch is empty, false when the socket is full.
  func flush(to fd: CInt) throws(Errno) -> Bool {
    while firstVector < vectorCount {
      let count = min(vectorCount - firstVector, 1024)
      guard let base = vectors.baseAddress else { return true }
      // sendmsg and not writev: a peer that is gone is an error to handle, not a SIGPIPE.
      var message = msghdr()
      message.msg_iov = base + firstVector
      message.msg_iovlen = count
      let written = sendmsg(fd, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
      if written < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN { return false }
        throw Errno(errno, "sendmsg", "persist")
      }
      advance(written)
    }
    clear()
    return true
  }

  private func advance(_ count: Int) {
    var left = count
    while left > 0, firstVector < vectorCount {
      let length = vectors[firstVector].iov_len
      if left < length {
        vectors[firstVector].iov_base = vectors[firstVector].iov_base?.advanced(by: left)
        vectors[firstVector].iov_len = length - left
        return
      }
      left -= length
      firstVector += 1
    }
  }

  /// Forgets everything, sent or not.
  func clear() {
    for copy in copies { copy.deallocate() }
    copies.removeAll(keepingCapacity: true)
    rings.removeAll(keepingCapacity: true)
    frames = 0
    vectorCount = 0
    firstVector = 0
    bytes = 0
  }
}
