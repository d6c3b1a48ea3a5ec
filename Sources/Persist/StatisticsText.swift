/// Writes the text exposition format 0.0.4 of Prometheus: a pure builder.
///
/// Each metric is a `# HELP` and a `# TYPE` line, then its samples; metrics with several samples are written in one go, as
/// the format wants them together.
package struct StatisticsText {
  package private(set) var text = ""
  private let prefix: String

  package init(prefix: String) { self.prefix = prefix }

  package enum Kind: String { case counter, gauge, histogram }

  package mutating func metric(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(prefix)\(name) \(StatisticsText.escaped(help, quotes: false))\n"
    text += "# TYPE \(prefix)\(name) \(kind.rawValue)\n"
  }

  package mutating func sample(_ name: String, _ labels: KeyValuePairs<String, String> = [:], _ value: some Numeric) {
    text += prefix + name
    if !labels.isEmpty {
      let pairs = labels.map { "\($0.key)=\"\(StatisticsText.escaped($0.value, quotes: true))\"" }
      text += "{\(pairs.joined(separator: ","))}"
    }
    text += " \(value)\n"
  }

  package mutating func counter(_ name: String, _ help: String, _ value: some Numeric) {
    metric(name, .counter, help)
    sample(name, [:], value)
  }

  package mutating func gauge(_ name: String, _ help: String, _ value: some Numeric) {
    metric(name, .gauge, help)
    sample(name, [:], value)
  }

  /// A histogram of durations for each value of one label. Nothing is written where there is none.
  package mutating func histogram(
    _ name: String, _ help: String, label: String, _ values: [(label: String, counts: Histogram.Counts)]
  ) {
    guard !values.isEmpty else { return }
    metric(name, .histogram, help)
    for value in values {
      var total: UInt64 = 0
      for (index, count) in value.counts.buckets.enumerated() {
        total += count
        let bound = index < Histogram.bounds.count ? "\(Histogram.bounds[index])" : "+Inf"
        sample("\(name)_bucket", [label: value.label, "le": bound], total)
      }
      sample("\(name)_sum", [label: value.label], Double(value.counts.sum) / 1e9)
      sample("\(name)_count", [label: value.label], total)
    }
  }

  /// Backslash and line feed, and in a label's value the quotation mark, are written with a backslash.
  private static func escaped(_ text: String, quotes: Bool) -> String {
    var out = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\"" where quotes: out += "\\\""
      default: out.unicodeScalars.append(character)
      }
    }
    return out
  }
}
