/// Writes the text exposition format 0.0.4 of Prometheus: a pure builder.
///
/// Each metric is a `# HELP` and a `# TYPE` line, then its samples; metrics with several samples are written in one go, as
/// the format wants them together.
package struct PrometheusText: Sendable {
  package private(set) var text = ""
  private let prefix: String

  /// - Parameter prefix: stands before every name.
  package init(prefix: String) { self.prefix = prefix }

  package enum Kind: String { case counter, gauge, histogram }

  package mutating func metric(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(prefix)\(name) \(PrometheusText.escaped(help, quotes: false))\n"
    text += "# TYPE \(prefix)\(name) \(kind.rawValue)\n"
  }

  package mutating func sample(_ name: String, _ labels: KeyValuePairs<String, String> = [:], _ value: some Numeric) {
    text += prefix + name
    if !labels.isEmpty {
      let pairs = labels.map { "\($0.key)=\"\(PrometheusText.escaped($0.value, quotes: true))\"" }
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

  /// A gauge of what may not be measured: without a value, nothing is written.
  package mutating func gauge(_ name: String, _ help: String, ifKnown value: (some Numeric)?) {
    if let value { gauge(name, help, value) }
  }

  /// A counter with a sample for each value of one label that was counted so far; it is named before it counts.
  package mutating func counter(_ name: String, _ help: String, label: String, _ values: [(String, UInt64)]) {
    metric(name, .counter, help)
    for (value, count) in values { sample(name, [label: value], count) }
  }

  /// A metric with a sample for each value of one label. Nothing is written where there is none.
  package mutating func metric(
    _ name: String, _ kind: Kind, _ help: String, label: String, _ values: [(label: String, value: (some Numeric)?)]
  ) {
    guard values.contains(where: { $0.value != nil }) else { return }
    metric(name, kind, help)
    for (value, number) in values { if let number { sample(name, [label: value], number) } }
  }

  /// The samples of a histogram for one value of a label; nil for one without labels. ``metric(_:_:_:)`` goes before.
  /// - Parameters:
  ///   - bounds: upper bounds of the buckets, ascending; `buckets` has one more, without bound.
  ///   - buckets: how many fell into each, each counted once.
  package mutating func histogram(
    _ name: String, label: (name: String, value: String)?, bounds: [Double], buckets: [UInt64], sum: Double
  ) {
    var total: UInt64 = 0
    for (index, count) in buckets.enumerated() {
      total += count
      let bound = index < bounds.count ? "\(bounds[index])" : "+Inf"
      if let label {
        sample("\(name)_bucket", [label.name: label.value, "le": bound], total)
      } else {
        sample("\(name)_bucket", ["le": bound], total)
      }
    }
    let labels: KeyValuePairs<String, String> = label.map { [$0.name: $0.value] } ?? [:]
    sample("\(name)_sum", labels, sum)
    sample("\(name)_count", labels, total)
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
