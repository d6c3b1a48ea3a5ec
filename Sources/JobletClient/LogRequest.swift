import JobletModel

/// Which of a job's lines are asked for.
public struct LogRequest: Sendable, Hashable {
  /// Goes on with new lines until the job has ended.
  public var follow = false
  /// Nil for both.
  public var stream: LogStream?
  /// Lines after this `seq`.
  public var after: UInt64?
  public var since: Timestamp?
  public var until: Timestamp?
  /// Text that a line must contain.
  public var filter: String?
  /// The last so many lines, and with ``follow`` all that come.
  public var tail: Int?

  public init(follow: Bool = false) { self.follow = follow }

  /// The URL's query. A resumed stream (`lastID`) is told by `Last-Event-ID`; what `tail` asked for came before.
  func query(lastID: UInt64?) -> String {
    var query = URLQuery()
    if follow { query.add("follow", "true") }
    query.add("stream", stream?.name)
    if lastID == nil {
      query.add("after", after.map { "\($0)" })
      query.add("tail", tail.map { "\($0)" })
    }
    query.add("since", since?.description)
    query.add("until", until?.description)
    query.add("filter", filter)
    return query.text
  }
}

/// What a log stream says.
public enum LogEvent: Sendable, Hashable {
  case line(LogLine)
  /// Lines that are lost, first and last `seq`.
  case gap(from: UInt64, to: UInt64)
  /// The job has ended; nothing follows.
  case end(JobEnd)
  /// The connection was lost and is being made anew; no line is lost or doubled by that.
  case reconnecting(why: String)
}
