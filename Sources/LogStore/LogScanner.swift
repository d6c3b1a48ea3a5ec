import JobletModel

/// Answers a log query over pages: both streams merged by `seq`, every condition applied, a batch at a time.
///
/// Its memory is one page a stream and one batch, whatever the query. Used by one caller at a time; calls block, each for a
/// bounded number of pages.
public final class LogScanner {
  public typealias Batch = ScanBatch

  private enum State {
    case searching(TailSearch)
    case giving(BatchCollector)
  }

  private let query: LogQuery
  private let streams: [StoredStream]
  private let open: OpenPages
  private let conditions: LineConditions
  private let batchSize: Int
  private var state: State?

  /// - Parameters:
  ///   - batchSize: a batch ends with the line that reaches so many bytes.
  ///   - open: called for each stream, now and, after a tail was found, once more.
  /// - Throws: ``JobletModel/Problem`` for a query that makes no sense, and whatever `open` throws.
  public init(_ query: LogQuery, batchSize: Int = 128 << 10, open: @escaping OpenPages) throws {
    self.query = query
    self.open = open
    self.batchSize = batchSize
    streams = try query.checkedStreams()
    conditions = LineConditions(
      range: query.range, filter: query.filter.flatMap { $0.isEmpty ? nil : TextFilter($0) },
      regex: try query.regex.flatMap { $0.isEmpty ? nil : try LineRegex($0) })
    switch (query.tail, query.order ?? .ascending) {
    case (let tail?, .ascending):
      state = .searching(TailSearch(try pages(conditions.range, .descending), conditions, count: tail))
    case (let tail?, .descending):
      // Newest first, the tail comes first: it is a limit, which `offset` takes its lines from.
      let offset = query.offset ?? 0
      let limit = min(query.limit ?? .max, max(0, tail - min(tail, offset)))
      state = .giving(try collector(conditions, .descending, limit: limit))
    case (nil, let order):
      state = .giving(try collector(conditions, order, limit: query.limit ?? .max))
    }
  }

  private func pages(_ range: LogRange, _ order: QueryOrder) throws -> [[any LogPages]] {
    try streams.map { try open($0, range, order) }
  }

  private func collector(_ conditions: LineConditions, _ order: QueryOrder, limit: Int) throws -> BatchCollector {
    BatchCollector(
      LineMerge(try pages(conditions.range, order), conditions: conditions, order: order), offset: query.offset ?? 0,
      limit: limit, batchSize: batchSize)
  }

  public func next() throws -> ScanBatch {
    var budget = WorkBudget()
    switch state {
    case .searching(var search):
      state = nil  // so that the search is not copied when it changes
      let outcome = try search.run(&budget)
      guard case .found(let lines) = outcome else {
        state = .searching(search)
        return .working
      }
      guard let lines else { return .end }
      var range = conditions.range
      range.after = lines.lowerBound - 1
      range.through = lines.upperBound
      let collector = try collector(conditions.with(range), .ascending, limit: query.limit ?? .max)
      state = .giving(collector)
      return try collector.next(&budget)
    case .giving(let collector): return try collector.next(&budget)
    case nil: return .end
    }
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
    for (field, value, most) in [
      ("limit", limit, Int.max), ("offset", offset, Int.max), ("tail", tail, TailSearch.maxCount),
    ] {
      guard let value, !(0...most).contains(value) else { continue }
      let text = most == .max ? "2^63-1" : "\(most)"
      throw Problem(.invalidField, "\(field) is \(value); allowed: 0 to \(text)", field: field)
    }
    guard let stream else { return StoredStream.logs }
    guard let known = LogStream(name: stream) else {
      throw Problem(.invalidField, "stream is '\(stream)'; allowed: stdout, stderr", field: "stream")
    }
    return [StoredStream(known)]
  }
}
