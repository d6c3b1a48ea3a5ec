/// A histogram of durations without a lock: for who has one already, or is alone.
package struct DurationBuckets: Sendable, Hashable {
  /// Upper bounds in seconds; a last bucket without bound stands behind them.
  package let bounds: [Double]
  /// How many fell into each bucket, each counted once.
  package private(set) var buckets: [UInt64]
  /// Seconds in all.
  package private(set) var sum = 0.0

  package init(bounds: [Double]) {
    self.bounds = bounds
    buckets = [UInt64](repeating: 0, count: bounds.count + 1)
  }

  package mutating func record(nanoseconds: Int64) {
    let seconds = Double(nanoseconds) / 1e9
    buckets[bounds.firstIndex { seconds <= $0 } ?? bounds.count] += 1
    sum += seconds
  }
}

extension PrometheusText {
  package mutating func histogram(_ name: String, _ help: String, _ values: DurationBuckets) {
    metric(name, .histogram, help)
    histogram(name, label: nil, bounds: values.bounds, buckets: values.buckets, sum: values.sum)
  }
}
