import JobletModel
import Synchronization

/// Counts of durations in fixed buckets, in the form Prometheus has them.
///
/// One lock a duration: it is for what happens thousands of times a second at most (a sync, a query), not for lines.
package final class Histogram: Sendable {
  /// The buckets' upper bounds in seconds; a last one without bound stands behind them.
  package static let bounds: [Double] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10]

  package struct Counts: Sendable, Hashable {
    /// How many fell into each bucket, each counted once.
    package var buckets = [UInt64](repeating: 0, count: Histogram.bounds.count + 1)
    /// Nanoseconds in all.
    package var sum: UInt64 = 0
    package var count: UInt64 { buckets.reduce(0, +) }
  }
  private let state = Mutex(Counts())

  package init() {}

  package func record(nanoseconds: UInt64) {
    let seconds = Double(nanoseconds) / 1e9
    let bucket = Histogram.bounds.firstIndex { seconds <= $0 } ?? Histogram.bounds.count
    state.withLock { counts in
      counts.buckets[bucket] += 1
      counts.sum &+= nanoseconds
    }
  }

  /// Runs `body` and records how long it took, whether it succeeds or not.
  func time<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    let start = Moment.now
    defer { record(nanoseconds: Moment.now - start) }
    return try body()
  }

  package var counts: Counts { state.withLock { $0 } }
}

extension PrometheusText {
  /// A histogram of durations for each value of one label. Nothing is written where there is none.
  package mutating func histogram(
    _ name: String, _ help: String, label: String, _ values: [(label: String, counts: Histogram.Counts)]
  ) {
    guard !values.isEmpty else { return }
    metric(name, .histogram, help)
    for value in values {
      histogram(
        name, label: (label, value.label), bounds: Histogram.bounds, buckets: value.counts.buckets,
        sum: Double(value.counts.sum) / 1e9)
    }
  }
}
