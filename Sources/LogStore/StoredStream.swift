import JobletModel

/// What is stored of a job as a stream of JSON lines of its own. The raw values stand in ``LocalStore/MemberHeader``.
///
/// `seq` counts the lines of both logs together, and metrics on their own.
public enum StoredStream: UInt8, Sendable, CaseIterable, Hashable {
  case stdout = 1
  case stderr = 2
  case metrics = 3

  /// The streams whose lines share the log's counter.
  public static let logs: [StoredStream] = [.stdout, .stderr]

  public init(_ stream: LogStream) {
    switch stream {
    case .stdout: self = .stdout
    case .stderr: self = .stderr
    }
  }

  public var name: String {
    switch self {
    case .stdout: "stdout"
    case .stderr: "stderr"
    case .metrics: "metrics"
    }
  }
}

/// What a run of a stream's lines says of itself.
public struct StoredChunkInfo: Hashable, Sendable {
  public var stream: StoredStream
  /// The number of the first line; the others follow one by one.
  public var firstSeq: UInt64
  /// Lines in the chunk, at least 1.
  public var count: UInt32
  /// The earliest and the latest time among its lines. All lines of a log chunk share one.
  public var earliest: Timestamp
  public var latest: Timestamp
  /// A log's record without a newline.
  public var isPartial: Bool

  public init(
    stream: StoredStream, firstSeq: UInt64, count: UInt32, earliest: Timestamp, latest: Timestamp,
    isPartial: Bool = false
  ) {
    self.stream = stream
    self.firstSeq = firstSeq
    self.count = count
    self.earliest = earliest
    self.latest = latest
    self.isPartial = isPartial
  }

  public init(_ info: LogChunkInfo) {
    self.init(
      stream: StoredStream(info.stream), firstSeq: info.firstSeq, count: info.count, earliest: info.timestamp,
      latest: info.timestamp, isPartial: info.isPartial)
  }

  public var lastSeq: UInt64 { firstSeq + UInt64(count) - 1 }

  /// The same as the wire and the encoder have it; nil for metrics, whose lines are JSON already.
  public var log: LogChunkInfo? {
    let pipe: LogStream
    switch stream {
    case .stdout: pipe = .stdout
    case .stderr: pipe = .stderr
    case .metrics: return nil
    }
    return LogChunkInfo(stream: pipe, firstSeq: firstSeq, count: count, timestamp: earliest, isPartial: isPartial)
  }
}

/// Why bytes are not the metric lines they are said to be.
public struct MetricLinesFault: Error, Hashable, Sendable, CustomStringConvertible {
  public var description: String
}

extension StoredChunkInfo {
  /// Checks that a payload is `count` whole metric lines numbered from `firstSeq` on, each beginning
  /// `{"seq":N,"ts":"<30 characters>"` and ending in `}` and a newline, and reads the times it spans. What stands between
  /// is not parsed here: it is stored as it came.
  public init(metrics payload: UnsafeRawBufferPointer, firstSeq: UInt64, count: UInt32) throws(MetricLinesFault) {
    guard count >= 1, firstSeq >= 1, firstSeq <= UInt64.max - UInt64(count) else {
      throw MetricLinesFault(description: "\(count) samples from number \(firstSeq) on are impossible")
    }
    self.init(
      stream: .metrics, firstSeq: firstSeq, count: count, earliest: Timestamp(nanoseconds: .max),
      latest: Timestamp(nanoseconds: .min))
    var position = 0
    var seq = firstSeq
    while position < payload.count {
      let end = payload.lineEnd(from: position)
      let line = UnsafeRawBufferPointer(rebasing: payload[position..<end])
      guard seq <= lastSeq else { throw MetricLinesFault(description: "more than the \(count) samples it says") }
      guard let sample = LineView(line), line.count >= 2, line[line.count - 1] == 0x0A,
        line[line.count - 2] == UInt8(ascii: "}")
      else { throw MetricLinesFault(description: "sample \(seq) is no line {\"seq\":…,\"ts\":\"…\"…}") }
      guard sample.seq == seq else {
        throw MetricLinesFault(description: "sample \(seq) says that it is number \(sample.seq)")
      }
      guard let time = Timestamp(rfc3339: String(decoding: sample.timestamp, as: UTF8.self)) else {
        throw MetricLinesFault(description: "the time of sample \(seq) is no RFC 3339 time of 30 characters")
      }
      earliest = min(earliest, time)
      latest = max(latest, time)
      seq += 1
      position = end
    }
    guard seq == lastSeq + 1 else {
      throw MetricLinesFault(description: "it says \(count) samples and has \(seq - firstSeq)")
    }
  }
}
