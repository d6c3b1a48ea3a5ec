import JobletModel

/// Charts of a job's CPU and memory over its samples, for a terminal.
package struct MetricCharts {
  private struct Point {
    var time: Timestamp
    var cpu: Double?
    var memory: Double?
  }

  private var points: [Point] = []
  /// More samples than any terminal has columns; the newest are kept.
  static let mostPoints = 100_000
  static let height = 6

  package init() {}

  package mutating func add(_ point: MetricPoint) {
    if points.count >= 2 * MetricCharts.mostPoints { points.removeFirst(MetricCharts.mostPoints) }
    points.append(
      Point(time: point.ts, cpu: point.values[.cpuPercent], memory: point.values[.memoryBytes]))
  }

  /// Nothing for fewer than three samples: the table says it all.
  package func lines(width: Int, style: Style) -> [String] {
    guard points.count > 2 else { return [] }
    // The newest may stand first in the table; a chart's time goes to the right.
    let points = points.sorted { $0.time < $1.time }
    var lines: [String] = []
    for (title, values, unit) in [
      ("CPU", points.map(\.cpu), { "\(Words.decimal($0)) %" }),
      ("MEMORY", points.map(\.memory), { Words.size(Int64(min($0, 9e18))) }),
    ] as [(String, [Double?], (Double) -> String)] {
      guard values.contains(where: { $0 != nil }) else { continue }
      lines.append("")
      lines.append(style.paint(title, .strong))
      lines += Chart.lines(values, width: width, height: MetricCharts.height, label: unit).map { row in
        row.label + " " + style.paint(row.bars, .busy)
      }
    }
    guard !lines.isEmpty, let first = points.first?.time, let last = points.last?.time else { return [] }
    return lines + ["\(first.description.prefix(19))Z to \(last.description.prefix(19))Z"]
  }
}

/// Values over time as columns of block characters. Pure.
package enum Chart {
  package struct Row: Hashable {
    /// The axis, of one width in all rows.
    package var label: String
    package var bars: String
  }

  private static let eighths = Array(" ▁▂▃▄▅▆▇█")

  /// - Parameters:
  ///   - values: in time's order, nil for what was not measured.
  ///   - width: of the whole, labels included.
  ///   - label: of the largest value, and of 0.
  package static func lines(
    _ values: [Double?], width: Int, height: Int, label: (Double) -> String
  ) -> [Row] {
    let known = values.compactMap { $0.flatMap { $0.isFinite ? max(0, $0) : nil } }
    let top = max(known.max() ?? 0, .leastNormalMagnitude)
    let labels = (label(known.max() ?? 0), label(0))
    let margin = max(labels.0.count, labels.1.count)
    let columns = resampled(values, to: max(8, width - margin - 1))
    return (0..<height).map { row in
      let text = row == 0 ? labels.0 : row == height - 1 ? labels.1 : ""
      let bars = columns.map { value -> Character in
        guard let value, value.isFinite else { return " " }
        // How full the column is here, in eighths of a row; what is not nothing is seen.
        let whole = max(0, value) / top * Double(height * 8)
        let here = Int(whole.rounded(.up)) - (height - 1 - row) * 8
        return eighths[min(max(here, 0), 8)]
      }
      return Row(label: String(repeating: " ", count: margin - text.count) + text, bars: String(bars))
    }
  }

  /// So many columns at most; each stands for the largest of its values, so that no peak is lost.
  static func resampled(_ values: [Double?], to columns: Int) -> [Double?] {
    guard values.count > columns else { return values }
    return (0..<columns).map { column in
      let range = column * values.count / columns..<(column + 1) * values.count / columns
      return values[range].compactMap(\.self).max()
    }
  }
}
