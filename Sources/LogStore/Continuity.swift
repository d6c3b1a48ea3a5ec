import JobletModel

/// Finds the numbers that no line of some streams has, between the first `seq`, 1, and the last line there is.
///
/// Used by one caller at a time; calls block, each for a bounded number of pages.
public final class ContinuityCheck {
  public enum Step: Hashable, Sendable {
    /// No line has these numbers. Where a page is damaged that is because of it.
    case missing(ClosedRange<UInt64>)
    case working
    /// The last line's number; 0 if there is none.
    case end(lastSeq: UInt64)
  }
  private var merge: LineMerge
  private var last: UInt64 = 0

  /// - Parameter streams: those that share a counter: ``StoredStream/logs``, or metrics alone.
  public init(_ streams: [StoredStream], open: OpenPages) throws {
    let range = LogRange()
    merge = LineMerge(
      try streams.map { try open($0, range, .ascending) }, conditions: LineConditions(range: range), order: .ascending)
  }

  /// Goes on to the end and collects the missing runs: the first `limit` of them, and how many there are.
  public func runs(atMost limit: Int) throws -> (found: [ClosedRange<UInt64>], count: Int) {
    var found: [ClosedRange<UInt64>] = []
    var count = 0
    while true {
      switch try next() {
      case .missing(let run):
        count += 1
        if found.count < limit { found.append(run) }
      case .working: continue
      case .end: return (found, count)
      }
    }
  }

  public func next() throws -> Step {
    var budget = WorkBudget()
    while true {
      switch try merge.next(&budget) {
      case .line(let line):
        let before = last
        last = line.seq
        if line.seq > before + 1 { return .missing((before + 1)...(line.seq - 1)) }
      // What is damaged is missing; the next line tells how much.
      case .gap: continue
      case .working: return .working
      case .end: return .end(lastSeq: last)
      }
    }
  }
}

/// A stored line, checked for its shape.
public struct StoredLine: Hashable, Sendable {
  public var seq: UInt64
  /// The printed form.
  public var timestamp: String
  /// The line's text stands in it as base64.
  public var isBase64: Bool

  /// Nil if the bytes, with their newline, are not a line as the stream's writer makes them.
  public init?(_ bytes: UnsafeRawBufferPointer, of stream: StoredStream) {
    guard let view = LineView(bytes), bytes[bytes.count - 1] == 0x0A else { return nil }
    let time = String(decoding: view.timestamp, as: UTF8.self)
    guard Timestamp(rfc3339: time) != nil else { return nil }
    if stream == .metrics {
      guard MetricFields.isSound(view.rest) else { return nil }
      isBase64 = false
    } else {
      guard let line = LogLine(json: bytes), StoredStream(line.stream) == stream else { return nil }
      isBase64 = view.text.isBase64
    }
    seq = view.seq
    timestamp = time
  }
}
