import JobletModel

/// Answers a metric query over pages: the stored samples as they are, or one line for each interval of them.
///
/// Its memory is one page and one batch, and what ``JobletModel/MetricAggregate/p95`` needs of an interval's samples, at
/// most 100,000 of them; more are refused with a problem. Used by one caller at a time; calls block, each for a bounded
/// number of pages.
public final class MetricScanner {
  private enum State {
    case samples(BatchCollector)
    case aggregates(AggregateCollector)
  }
  private let state: State

  /// - Parameters:
  ///   - batchSize: a batch ends with the line that reaches so many bytes.
  ///   - open: called once, for ``StoredStream/metrics``.
  /// - Throws: ``JobletModel/Problem`` for a query that makes no sense, and whatever `open` throws.
  public init(_ query: MetricQuery, batchSize: Int = 128 << 10, open: OpenPages) throws {
    for (field, value) in [("limit", query.limit), ("offset", query.offset)] {
      guard let value, value < 0 else { continue }
      throw Problem(.invalidField, "\(field) is \(value); allowed: 0 to 2^63-1", field: field)
    }
    guard query.aggregate != nil || query.intervalMilliseconds == nil else {
      throw Problem(
        .invalidField, "interval needs aggregate (avg, min, max, sum or p95) to say what becomes of its samples",
        field: "interval")
    }
    let aggregation = try query.aggregate.map {
      try MetricAggregation($0, intervalMilliseconds: query.intervalMilliseconds)
    }
    let range = LogRange(after: query.after, since: query.since, until: query.until)
    let order = query.order ?? .ascending
    let merge = LineMerge(
      [try open(.metrics, range, order)], conditions: LineConditions(range: range), order: order)
    let offset = query.offset ?? 0
    let limit = query.limit ?? .max
    if let aggregation {
      state = .aggregates(
        AggregateCollector(merge, aggregation, offset: offset, limit: limit, batchSize: batchSize))
    } else {
      state = .samples(BatchCollector(merge, offset: offset, limit: limit, batchSize: batchSize))
    }
  }

  public func next() throws -> ScanBatch {
    var budget = WorkBudget()
    switch state {
    case .samples(let collector): return try collector.next(&budget)
    case .aggregates(let collector): return try collector.next(&budget)
    }
  }
}

/// Collects an aggregation's lines into batches, `offset` and `limit` applied.
private final class AggregateCollector {
  private var merge: LineMerge
  private var aggregation: MetricAggregation
  private var toSkip: Int
  private var toGive: Int
  private let batchSize: Int
  private var out = RawBuffer(capacity: 4096)
  private var pendingGap: (first: UInt64, last: UInt64)?

  init(_ merge: LineMerge, _ aggregation: MetricAggregation, offset: Int, limit: Int, batchSize: Int) {
    self.merge = merge
    self.aggregation = aggregation
    toSkip = offset
    toGive = limit
    self.batchSize = batchSize
  }

  func next(_ budget: inout WorkBudget) throws -> ScanBatch {
    if let gap = pendingGap {
      pendingGap = nil
      return .gap(first: gap.first, last: gap.last)
    }
    out.removeAll()
    var count = 0
    while toGive > 0, out.count < batchSize {
      switch try merge.next(&budget) {
      case .line(let line): give(try aggregation.add(line), &count)
      case .gap(let first, let last):
        guard count > 0 else { return .gap(first: first, last: last) }
        pendingGap = (first, last)
        return .lines(firstSeq: 0, count: count, out.bytes)
      case .working: return count > 0 ? .lines(firstSeq: 0, count: count, out.bytes) : .working
      case .end:
        give(aggregation.finish(), &count)
        toGive = 0
      }
    }
    return count > 0 ? .lines(firstSeq: 0, count: count, out.bytes) : .end
  }

  private func give(_ line: String?, _ count: inout Int) {
    guard var line else { return }
    if toSkip > 0 {
      toSkip -= 1
      return
    }
    line.withUTF8 { out.append(UnsafeRawBufferPointer($0)) }
    count += 1
    toGive -= 1
  }
}
