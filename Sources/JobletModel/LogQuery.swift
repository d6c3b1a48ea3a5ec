/// Which way a query's answer runs: `asc` gives the oldest first, `desc` the newest.
public enum QueryOrder: String, Codable, Sendable, CaseIterable, Hashable {
  case ascending = "asc"
  case descending = "desc"
}

/// Which of a job's stored lines are asked for.
///
/// Every condition holds at once; `offset` and `limit` count what meets them, in the answer's order.
public struct LogQuery: Codable, Hashable, Sendable {
  public var job: JobID
  /// Nil for both streams, merged in order of `seq`.
  public var stream: String?
  /// Lines after this `seq`; 0 for all.
  public var after: UInt64
  /// Lines up to and including this `seq`; nil for no bound.
  public var through: UInt64?
  public var since: Timestamp?
  public var until: Timestamp?
  /// Text a line's own bytes must contain.
  public var filter: String?
  /// A regular expression that must match somewhere in the line's own bytes, in PCRE2's syntax (pcre2pattern(3)).
  public var regex: String?
  /// The last so many lines only (counted after every other condition).
  public var tail: Int?
  /// At most so many lines.
  public var limit: Int?
  public var offset: Int?
  /// Nil for ``QueryOrder/ascending``.
  public var order: QueryOrder?
  /// The store answers only when it has applied everything up to this `seq`: what was acknowledged is visible.
  public var throughSeq: UInt64?

  enum CodingKeys: String, CodingKey {
    case job, stream, after, through, since, until, filter, regex, tail, limit, offset, order
    case throughSeq = "through_seq"
  }

  public init(
    job: JobID, stream: LogStream? = nil, after: UInt64 = 0, through: UInt64? = nil, since: Timestamp? = nil,
    until: Timestamp? = nil, filter: String? = nil, regex: String? = nil, tail: Int? = nil, limit: Int? = nil,
    offset: Int? = nil, order: QueryOrder? = nil, throughSeq: UInt64? = nil
  ) {
    self.job = job
    self.stream = stream?.name
    self.after = after
    self.through = through
    self.since = since
    self.until = until
    self.filter = filter
    self.regex = regex
    self.tail = tail
    self.limit = limit
    self.offset = offset
    self.order = order
    self.throughSeq = throughSeq
  }
}
