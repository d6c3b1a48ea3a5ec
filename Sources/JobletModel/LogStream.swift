/// Which of the job's pipes a line came from. The raw values stand in frames and in the ring.
public enum LogStream: UInt8, Sendable, CaseIterable, Hashable {
  case stdout = 1
  case stderr = 2

  public var name: String {
    switch self {
    case .stdout: "stdout"
    case .stderr: "stderr"
    }
  }

  public init?(name: some StringProtocol) {
    switch name {
    case "stdout": self = .stdout
    case "stderr": self = .stderr
    default: return nil
    }
  }
}

/// A run of a stream's lines that were read together: the unit of the ring, of a log frame and of the write-ahead log.
///
/// A whole chunk holds `count` lines, each with its newline. A partial chunk holds one record without one: part of a
/// line longer than 64 KiB, a prompt flushed early, or the last bytes of a stream that did not end in a newline.
public struct LogChunkInfo: Hashable, Sendable {
  public var stream: LogStream
  /// The number of the first line; the others follow one by one.
  public var firstSeq: UInt64
  /// Lines in the chunk, at least 1.
  public var count: UInt32
  /// When the chunk was read; all its lines share it.
  public var timestamp: Timestamp
  public var isPartial: Bool

  public init(stream: LogStream, firstSeq: UInt64, count: UInt32, timestamp: Timestamp, isPartial: Bool) {
    self.stream = stream
    self.firstSeq = firstSeq
    self.count = count
    self.timestamp = timestamp
    self.isPartial = isPartial
  }

  public var lastSeq: UInt64 { firstSeq + UInt64(count) - 1 }
}
