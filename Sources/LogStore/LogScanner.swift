import JobletModel

/// Answers a log query over pages: both streams merged by `seq`, every condition applied, a batch at a time.
///
/// Its memory is one page a stream and one batch, whatever the query. Used by one caller at a time; calls block.
public final class LogScanner {
  /// What comes next.
  public enum Batch {
    /// `count` JSON lines, the first of them `firstSeq`; the bytes are valid until the next call.
    case lines(firstSeq: UInt64, count: Int, UnsafeRawBufferPointer)
    /// Lines from `first` to `last` are lost: their page is damaged. (Where one stream was asked for, some of these
    /// numbers may be the other stream's.)
    case gap(first: UInt64, last: UInt64)
    /// Nothing yet: much was read and nothing matched. Ask again.
    case working
    case end
  }

  private var cursors: [LineCursor]
  private var isStarted: [Bool]
  private var toSkip: Int
  private var toGive: Int
  private let batchSize: Int
  private var out: RawBuffer

  /// Pages opened in one call at most, so that a caller who no longer wants the answer can stop soon.
  private static let pagesPerCall = 16

  /// - Parameters:
  ///   - streams: for each stream its sources, oldest lines first.
  ///   - batchSize: a batch ends with the line that reaches so many bytes.
  public init(streams: [[any LogPages]], query: LogQuery, batchSize: Int = 128 << 10) throws {
    var range = query.range
    let filter = query.filter.flatMap { $0.isEmpty ? nil : TextFilter($0) }
    if let tail = query.tail {
      range.after = try TailSearch.start(streams, LineConditions(range: range, filter: filter), count: tail)
    }
    let conditions = LineConditions(range: range, filter: filter)
    cursors = streams.map { LineCursor($0, conditions: conditions) }
    isStarted = streams.map { _ in false }
    toSkip = query.offset ?? 0
    toGive = query.limit ?? .max
    self.batchSize = batchSize
    out = RawBuffer(capacity: batchSize + (64 << 10))
  }

  public func next() throws -> Batch {
    out.removeAll()
    var firstSeq: UInt64 = 0
    var count = 0
    var budget = LogScanner.pagesPerCall
    for index in cursors.indices where !isStarted[index] {
      guard try cursors[index].advance(budget: &budget) else { return .working }
      isStarted[index] = true
    }
    while toGive > 0, out.count < batchSize, let index = lowest() {
      switch cursors[index].current {
      case .gap(let first, let last):
        // What was collected goes out first; the gap is met again at the next call.
        if count > 0 { return lines(firstSeq, count) }
        isStarted[index] = try cursors[index].advance(budget: &budget)
        return .gap(first: first, last: last)
      case .line(let line):
        if toSkip > 0 {
          toSkip -= 1
        } else {
          if count == 0 { firstSeq = line.seq }
          out.append(line.bytes)
          count += 1
          toGive -= 1
        }
      case nil: break
      }
      // A merge needs the next line of every stream: without it there is nothing to compare with.
      guard try cursors[index].advance(budget: &budget) else {
        isStarted[index] = false
        return count > 0 ? lines(firstSeq, count) : .working
      }
    }
    return count > 0 ? lines(firstSeq, count) : .end
  }

  private func lines(_ firstSeq: UInt64, _ count: Int) -> Batch {
    .lines(firstSeq: firstSeq, count: count, out.bytes)
  }

  /// The cursor whose line comes next, nil when all are at their end.
  private func lowest() -> Int? {
    var best: (index: Int, seq: UInt64)?
    for index in cursors.indices {
      guard let seq = cursors[index].seq else { continue }
      if best.map({ seq < $0.seq }) ?? true { best = (index, seq) }
    }
    return best?.index
  }
}

extension LogQuery {
  /// The query's bounds.
  public var range: LogRange {
    LogRange(after: after, through: through ?? .max, since: since, until: until)
  }

  /// Streams the query asks for.
  /// - Throws: ``JobletModel/Problem`` for a stream there is not, or numbers that make no sense.
  public func checkedStreams() throws(Problem) -> [StoredStream] {
    for (field, value) in [("limit", limit), ("offset", offset), ("tail", tail)] {
      guard let value else { continue }
      let allowed = field == "tail" ? 0...TailSearch.maxCount : 0...Int.max
      guard allowed.contains(value) else {
        let most = field == "tail" ? "\(TailSearch.maxCount)" : "2^63-1"
        throw Problem(.invalidField, "\(field) is \(value); allowed: 0 to \(most)", field: field)
      }
    }
    guard let stream else { return StoredStream.logs }
    guard let known = LogStream(name: stream) else {
      throw Problem(.invalidField, "stream is '\(stream)'; allowed: stdout, stderr", field: "stream")
    }
    return [StoredStream(known)]
  }
}
