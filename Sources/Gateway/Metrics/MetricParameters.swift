import JobletModel

/// What `GET /v1/jobs/{id}/metrics` was asked for.
public struct MetricParameters: Sendable, Hashable, StreamParameters {
  public var follow = false
  /// Samples after this `seq`.
  public var after: UInt64 = 0
  /// Samples before this `seq`; see ``LogParameters/before``.
  public var before: UInt64 = .max
  public var since: Timestamp?
  public var until: Timestamp?
  public var limit: Int?
  public var offset: Int?
  public var order = QueryOrder.ascending
  public var aggregate: MetricAggregate?
  /// With ``aggregate``; nil for one line over all.
  public var interval: Duration?

  public static let names = [
    "follow", "after", "since", "until", "limit", "offset", "order", "aggregate", "interval",
  ]
  public static let intervalRange: ClosedRange<Duration> = .seconds(1) ... .seconds(365 * 86_400)

  public init() {}

  var tail: Int? { nil }
  public var isSelective: Bool { since != nil || until != nil }

  /// The parameter that only the store can answer.
  public var storeParameter: String? {
    aggregate != nil ? "aggregate" : order == .descending ? "order" : offset != nil ? "offset" : nil
  }

  public var needsStore: Bool { storeParameter != nil }

  /// - Throws: ``Problem`` naming the parameter and what is allowed.
  public init(_ target: RequestTarget, lastEventID: String?, now: Timestamp = .now()) throws(Problem) {
    let query = try QueryReader(target, known: MetricParameters.names)
    let common = try StreamQuery(query, now: now)
    (follow, after, order, limit) = (common.follow, common.after, common.order, common.limit)
    (since, until, offset) = (common.since, common.until, common.offset)
    let aggregates = MetricAggregate.allCases.map(\.rawValue).joined(separator: ", ")
    aggregate = try query.value("aggregate", "one of \(aggregates)") { MetricAggregate(rawValue: $0) }
    interval = try query.value("interval", "\(DurationText.allowed), 1s to 365d") { text in
      DurationText.parse(text).flatMap { MetricParameters.intervalRange.contains($0) ? $0 : nil }
    }
    if interval != nil, aggregate == nil {
      throw Problem(
        .invalidField, "interval: says what to aggregate over, so it needs aggregate, one of \(aggregates)",
        field: "interval")
    }
    if follow, aggregate != nil { throw StreamQuery.notWithFollow("aggregate") }
    if let seq = try StreamQuery.lastEventID(lastEventID) {
      common.resume(at: seq, &after, &before, &since, &until)
      offset = nil
    }
  }
}
