/// Which of a job's stored lines are asked for.
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
  /// The last so many lines only (counted after every other condition).
  public var tail: Int?
  /// At most so many lines.
  public var limit: Int?
  public var offset: Int?
  /// The store answers only when it has applied everything up to this `seq`: what was acknowledged is visible.
  public var throughSeq: UInt64?

  enum CodingKeys: String, CodingKey {
    case job, stream, after, through, since, until, filter, tail, limit, offset
    case throughSeq = "through_seq"
  }

  public init(
    job: JobID, stream: LogStream? = nil, after: UInt64 = 0, through: UInt64? = nil, since: Timestamp? = nil,
    until: Timestamp? = nil, filter: String? = nil, tail: Int? = nil, limit: Int? = nil, offset: Int? = nil,
    throughSeq: UInt64? = nil
  ) {
    self.job = job
    self.stream = stream?.name
    self.after = after
    self.through = through
    self.since = since
    self.until = until
    self.filter = filter
    self.tail = tail
    self.limit = limit
    self.offset = offset
    self.throughSeq = throughSeq
  }
}

/// Which of the stored records are asked for, newest first.
public struct RecordQuery: Codable, Hashable, Sendable {
  public var status: JobStatus?
  /// Records older than this one.
  public var before: JobID?
  /// 1 to 1000.
  public var limit: Int

  public init(status: JobStatus? = nil, before: JobID? = nil, limit: Int = 100) {
    self.status = status
    self.before = before
    self.limit = limit
  }
}
