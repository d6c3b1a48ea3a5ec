import Glibc

/// What a network namespace received and sent since it was made, over every interface but `lo`.
public struct NetworkCounters: Hashable, Sendable {
  public var receivedBytes: Int64
  public var sentBytes: Int64

  public init(receivedBytes: Int64, sentBytes: Int64) {
    self.receivedBytes = receivedBytes
    self.sentBytes = sentBytes
  }

  /// Reads `/proc/PID/net/dev` (proc_pid_net(5)): a pure function over its bytes. Nil if there is no interface but `lo`, for
  /// then there is nothing to measure, or if the text is not in the kernel's form.
  public init?(deviceTable bytes: UnsafeRawBufferPointer) {
    var (received, sent): (Int64, Int64) = (0, 0)
    var isMeasured = false
    // Two lines of headings, then `name: ` and sixteen numbers: bytes received are the first, bytes sent the ninth.
    for line in bytes.split(separator: UInt8(ascii: "\n")).dropFirst(2) {
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
      let name = line[..<colon].drop { $0 == UInt8(ascii: " ") }
      if name.elementsEqual("lo".utf8) { continue }
      let fields = line[(colon + 1)...].split(separator: UInt8(ascii: " "))
      guard fields.count >= 16, let rx = NetworkCounters.number(fields[0]), let tx = NetworkCounters.number(fields[8])
      else { return nil }
      let (newReceived, over) = received.addingReportingOverflow(rx)
      let (newSent, overAgain) = sent.addingReportingOverflow(tx)
      guard !over, !overAgain else { return nil }
      (received, sent, isMeasured) = (newReceived, newSent, true)
    }
    guard isMeasured else { return nil }
    self.init(receivedBytes: received, sentBytes: sent)
  }

  private static func number(_ digits: Slice<UnsafeRawBufferPointer>) -> Int64? {
    Int64(String(decoding: digits, as: UTF8.self)).flatMap { $0 >= 0 ? $0 : nil }
  }
}

extension ProcessHandle {
  /// The counters of the process's network namespace. Nil once it has ended, or if there is nothing to measure.
  public borrowing func networkCounters() throws(Errno) -> NetworkCounters? {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 8)
    defer { buffer.deallocate() }
    let counters: NetworkCounters?
    do {
      let bytes = try FileDescriptor.open("/proc/\(pid)/net/dev", O_RDONLY).read(into: buffer)
      counters = bytes.count < buffer.count ? NetworkCounters(deviceTable: bytes) : nil
    } catch  where [ENOENT, ESRCH, EINVAL].contains(error.code) {
      return nil  // it ended meanwhile
    }
    // The check after the reading: a process that lives now has had its PID all the while, so nobody else's file was read.
    return try isAlive() ? counters : nil
  }
}
