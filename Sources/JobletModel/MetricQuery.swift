/// How the samples of an interval become one.
public enum MetricAggregate: String, Codable, Sendable, CaseIterable, Hashable {
  case average = "avg"
  case minimum = "min"
  case maximum = "max"
  case sum
  /// The smallest value that at least 95 percent of the samples do not exceed (nearest rank).
  case p95
}

/// Which of a job's stored samples are asked for.
public struct MetricQuery: Codable, Hashable, Sendable {
  public var job: JobID
  /// Samples after this `seq`; 0 for all.
  public var after: UInt64
  public var since: Timestamp?
  public var until: Timestamp?
  /// At most so many lines of the answer, samples or aggregates.
  public var limit: Int?
  public var offset: Int?
  /// Nil for ``QueryOrder/ascending``.
  public var order: QueryOrder?
  /// Nil for the samples themselves.
  public var aggregate: MetricAggregate?
  /// With ``aggregate``: one line for each interval of so many milliseconds that has samples, beginning at whole multiples
  /// of it in Unix time; nil for one line over all.
  public var intervalMilliseconds: Int64?
  /// The store answers only when it has applied everything up to this `seq`.
  public var throughSeq: UInt64?

  enum CodingKeys: String, CodingKey {
    case job, after, since, until, limit, offset, order, aggregate
    case intervalMilliseconds = "interval_ms"
    case throughSeq = "through_seq"
  }

  public init(
    job: JobID, after: UInt64 = 0, since: Timestamp? = nil, until: Timestamp? = nil, limit: Int? = nil,
    offset: Int? = nil, order: QueryOrder? = nil, aggregate: MetricAggregate? = nil,
    intervalMilliseconds: Int64? = nil, throughSeq: UInt64? = nil
  ) {
    self.job = job
    self.after = after
    self.since = since
    self.until = until
    self.limit = limit
    self.offset = offset
    self.order = order
    self.aggregate = aggregate
    self.intervalMilliseconds = intervalMilliseconds
    self.throughSeq = throughSeq
  }
}
