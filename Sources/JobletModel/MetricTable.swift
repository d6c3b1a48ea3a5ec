/// A line of metrics read back: a sample, or the samples of an interval made into one.
public struct MetricPoint: Decodable, Sendable, Hashable {
  /// Nil for an aggregate.
  public var seq: UInt64?
  public var ts: Timestamp
  /// How the samples became one; nil for a sample.
  public var aggregate: String?
  /// How many there were.
  public var samples: Int?
  /// What was measured; what was not is absent.
  public var values: [MetricSample.CodingKeys: Double]

  private enum OwnKeys: String, CodingKey {
    case seq, ts, aggregate, samples
  }

  public init(from decoder: any Decoder) throws {
    let own = try decoder.container(keyedBy: OwnKeys.self)
    seq = try own.decodeIfPresent(UInt64.self, forKey: .seq)
    ts = try own.decode(Timestamp.self, forKey: .ts)
    aggregate = try own.decodeIfPresent(String.self, forKey: .aggregate)
    samples = try own.decodeIfPresent(Int.self, forKey: .samples)
    let container = try decoder.container(keyedBy: MetricSample.CodingKeys.self)
    values = [:]
    for key in MetricSample.CodingKeys.allCases where key != .seq && key != .ts {
      values[key] = try container.decodeIfPresent(Double.self, forKey: key)
    }
  }
}

/// Metrics as people read them: columns of a fixed width, so that rows can be printed as they come.
///
/// Operations of block devices are in the JSON forms only; a dash stands for what was not measured.
public struct MetricTable: Sendable {
  private struct Column: Sendable {
    var title: String
    var width: Int
    var cell: @Sendable (MetricPoint) -> String
  }

  private let columns: [Column]

  /// - Parameters:
  ///   - isAggregated: true for a column that says how many samples a row stands for.
  ///   - width: columns of a terminal; what has no room is left out, from the right. Nil leaves nothing out.
  public init(isAggregated: Bool = false, width: Int? = nil) {
    var columns = [Column(title: "TIME", width: 20) { MetricTable.time($0.ts) }]
    if isAggregated { columns.append(Column(title: "SAMPLES", width: 8) { $0.samples.map { "\($0)" } ?? "-" }) }
    func add(
      _ title: String, _ width: Int, _ key: MetricSample.CodingKeys, _ text: @escaping @Sendable (Double) -> String
    ) {
      columns.append(Column(title: title, width: width) { $0.values[key].map(text) ?? "-" })
    }
    add("CPU", 8, .cpuPercent) { MetricTable.percent($0) }
    add("CPU-TIME", 9, .cpuUsec) { MetricTable.time(microseconds: $0) }
    add("MEMORY", 10, .memoryBytes) { MetricTable.size($0) }
    add("PEAK", 10, .memoryPeakBytes) { MetricTable.size($0) }
    add("READ", 10, .ioReadBytes) { MetricTable.size($0) }
    add("WRITTEN", 10, .ioWriteBytes) { MetricTable.size($0) }
    add("NET-RX", 10, .netRxBytes) { MetricTable.size($0) }
    add("NET-TX", 10, .netTxBytes) { MetricTable.size($0) }
    add("PIDS", 6, .pids) { MetricTable.fixed($0, decimals: $0 == $0.rounded() ? 0 : 1) }
    add("PSI-CPU", 8, .psiCPU) { MetricTable.percent($0) }
    add("PSI-MEM", 8, .psiMemory) { MetricTable.percent($0) }
    add("PSI-IO", 8, .psiIO) { MetricTable.percent($0) }
    columns.append(
      Column(title: "GPU", width: 6) { point in
        let parts = [
          point.values[.gpuPercent].map(MetricTable.percent), point.values[.gpuMemoryBytes].map(MetricTable.size),
        ].compactMap(\.self)
        return parts.isEmpty ? "-" : parts.joined(separator: " ")
      })
    if let width {
      while columns.count > 3, columns.map(\.width).reduce(0, +) > width { columns.removeLast() }
    }
    self.columns = columns
  }

  /// The columns' names, without a newline.
  public var header: String { line(columns.map(\.title)) }

  /// A row, without a newline.
  public func row(_ point: MetricPoint) -> String { line(columns.map { $0.cell(point) }) }

  private func line(_ cells: [String]) -> String {
    var line = ""
    for (column, cell) in zip(columns, cells) {
      let padding = String(repeating: " ", count: max(column.width - cell.utf8.count, line.isEmpty ? 0 : 1))
      // The time stands left, numbers right.
      line += line.isEmpty ? cell + padding : padding + cell
    }
    return line
  }

  // MARK: Units

  /// To the second: the JSON forms have the rest.
  private static func time(_ moment: Timestamp) -> String { moment.description.prefix(19) + "Z" }

  private static func percent(_ value: Double) -> String { fixed(value, decimals: 1) + "%" }

  private static func time(microseconds: Double) -> String {
    let seconds = microseconds / 1e6
    if seconds < 100 { return fixed(seconds, decimals: 2) + "s" }
    let whole = bounded(seconds)
    if whole < 6000 { return "\(whole / 60)m\(twoDigits(whole % 60))s" }
    return "\(whole / 3600)h\(twoDigits(whole / 60 % 60))m"
  }

  private static func size(_ bytes: Double) -> String {
    if bytes < 1024 { return fixed(bytes, decimals: 0) + "B" }
    var value = bytes
    var unit = "B"
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] where value >= 1023.95 {
      value /= 1024
      unit = next
    }
    return fixed(value, decimals: 1) + unit
  }

  private static func twoDigits(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }

  /// A number that came from outside as an integer, whatever it is.
  private static func bounded(_ value: Double) -> Int64 {
    value.isNaN ? 0 : Int64(min(max(value.rounded(), -1e15), 1e15))
  }

  private static func fixed(_ value: Double, decimals: Int) -> String {
    let scale: Int64 = decimals == 0 ? 1 : decimals == 1 ? 10 : 100
    let scaled = bounded(value * Double(scale))
    let sign = scaled < 0 ? "-" : ""
    let whole = "\(sign)\(abs(scaled) / scale)"
    if scale == 1 { return whole }
    let rest = abs(scaled) % scale
    return whole + "." + (scale == 100 ? twoDigits(rest) : "\(rest)")
  }
}
