import JobletModel

/// Makes one line of the samples of an interval: a pure state machine over lines.
///
/// Its memory is a few numbers a field; for ``JobletModel/MetricAggregate/p95`` it is the interval's samples, at most
/// ``maxSamples`` of them.
struct MetricAggregation {
  /// Samples of one interval that a 95th percentile may need at once: 16 fields of eight bytes each make 13 MB.
  static let maxSamples = 100_000

  private struct Field {
    var count = 0
    var sum = 0.0
    var low = Double.infinity
    var high = -Double.infinity
    var values: [Double] = []
  }

  private let kind: MetricAggregate
  /// In nanoseconds; nil for one line over everything.
  private let interval: Int64?
  private var fields = [Field](repeating: Field(), count: MetricFields.all.count)
  private var samples = 0
  private var start: Timestamp?
  /// The oldest sample so far, by number: its time is the line's where there is no interval.
  private var oldest: (seq: UInt64, time: Timestamp)?

  /// - Throws: a problem for an interval that is none.
  init(_ kind: MetricAggregate, intervalMilliseconds: Int64?) throws(Problem) {
    self.kind = kind
    guard let intervalMilliseconds else {
      interval = nil
      return
    }
    let (nanoseconds, isOver) = intervalMilliseconds.multipliedReportingOverflow(by: 1_000_000)
    guard intervalMilliseconds > 0, !isOver else {
      throw Problem(
        .invalidField, "interval is \(intervalMilliseconds) ms; allowed: 1 to \(Int64.max / 1_000_000)",
        field: "interval")
    }
    interval = nanoseconds
  }

  /// Takes a sample. Answers the line of the interval that ended with it, if one did.
  ///
  /// Samples come in the order of the answer; an interval ends with the first sample of another one. Where the clock ran
  /// back, an interval can so appear more than once.
  mutating func add(_ line: LineView) throws(Problem) -> String? {
    guard let time = Timestamp(rfc3339: String(decoding: line.timestamp, as: UTF8.self)) else { return nil }
    let start = interval.map { MetricAggregation.start(of: time, $0) }
    var finished: String?
    if samples > 0, start != self.start { finished = finish() }
    self.start = start
    guard kind != .p95 || samples < MetricAggregation.maxSamples else {
      throw Problem(
        .invalidField,
        "p95 over more than \(MetricAggregation.maxSamples) samples at once is too much; ask for a shorter interval",
        field: "interval")
    }
    samples += 1
    if oldest.map({ line.seq < $0.seq }) ?? true { oldest = (line.seq, time) }
    MetricFields.read(line.rest) { index, value in
      fields[index].count += 1
      fields[index].sum += value
      fields[index].low = min(fields[index].low, value)
      fields[index].high = max(fields[index].high, value)
      if kind == .p95 { fields[index].values.append(value) }
    }
    return finished
  }

  /// The beginning of the interval a time is in: a whole multiple of it in Unix time.
  private static func start(of time: Timestamp, _ interval: Int64) -> Timestamp {
    let rest = time.nanoseconds % interval
    let offset = rest < 0 ? rest + interval : rest
    let (start, isOver) = time.nanoseconds.subtractingReportingOverflow(offset)
    return Timestamp(nanoseconds: isOver ? .min : start)
  }

  /// The line of what was added since the last one, and begins anew. Nil if nothing was.
  mutating func finish() -> String? {
    guard samples > 0, let time = start ?? oldest?.time else { return nil }
    var line = "{\"ts\":\"\(time)\",\"aggregate\":\"\(kind.rawValue)\",\"samples\":\(samples)"
    for (index, field) in MetricFields.all.enumerated() {
      guard let value = value(index), value.isFinite else { continue }
      line += ",\"\(field.name)\":"
      // Whole things stay whole numbers, but for their average.
      if field.isWhole, kind != .average, let whole = Int64(exactly: value) {
        line += "\(whole)"
      } else {
        line += "\(value)"
      }
    }
    for index in fields.indices {
      fields[index].count = 0
      fields[index].sum = 0
      fields[index].low = .infinity
      fields[index].high = -.infinity
      fields[index].values.removeAll(keepingCapacity: true)
    }
    samples = 0
    oldest = nil
    start = nil
    return line + "}\n"
  }

  private mutating func value(_ index: Int) -> Double? {
    let count = fields[index].count
    guard count > 0 else { return nil }
    switch kind {
    case .average: return fields[index].sum / Double(count)
    case .minimum: return fields[index].low
    case .maximum: return fields[index].high
    case .sum: return fields[index].sum
    case .p95:
      fields[index].values.sort()
      // Nearest rank: the smallest value that at least 95 percent do not exceed.
      return fields[index].values[(count * 95 + 99) / 100 - 1]
    }
  }
}
