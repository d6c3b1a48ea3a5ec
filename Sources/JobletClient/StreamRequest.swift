import JobletModel

/// What a stream of a job's records is asked for.
package protocol StreamRequest: Sendable {
  /// The last part of its path.
  var path: String { get }
  var follow: Bool { get }
  var since: String? { get set }
  var until: String? { get set }
  var isReversed: Bool { get set }
  var limit: Int? { get set }
  var offset: Int? { get set }
  /// The URL's query, of a stream that has come so far.
  func query(_ progress: StreamProgress) -> String
}

extension StreamRequest {
  /// Adds the bounds of the time. Not the one where the stream began once it is resumed by an ID: what came is beyond it.
  ///
  /// `1h` (ago) is another moment by the time a stream is opened again. It is the node's clock that counts, so the moment of the
  /// first time is named by how much longer ago it is now.
  func addBounds(to query: inout URLQuery, _ progress: StreamProgress) {
    let isResumed = progress.lastID != nil
    if !isResumed || isReversed { query.add("since", since.map { TimeText.sameMoment($0, after: progress.age) }) }
    if !isResumed || !isReversed { query.add("until", until.map { TimeText.sameMoment($0, after: progress.age) }) }
  }
}

/// Which of a job's lines are asked for.
public struct LogRequest: StreamRequest, Hashable {
  /// Goes on with new lines until the job has ended.
  public var follow = false
  /// Nil for both.
  public var stream: LogStream?
  /// Lines after this `seq`.
  public var after: UInt64?
  /// Bounds of the time, in any form of ``JobletModel/TimeText``; the node's clock counts.
  public var since: String?
  public var until: String?
  /// Text that a line must contain.
  public var filter: String?
  /// A regular expression that must match in a line, in PCRE2's syntax.
  public var regex: String?
  /// The newest lines first. Not with ``follow``.
  public var isReversed = false
  /// The last so many lines, and with ``follow`` all that come.
  public var tail: Int?
  /// At most so many lines. Not with ``follow``.
  public var limit: Int?
  /// So many lines of the answer are left out. Not with ``follow``.
  public var offset: Int?

  public init(follow: Bool = false) { self.follow = follow }

  package var path: String { "logs" }

  /// A resumed stream is told by `Last-Event-ID` where to go on; what `tail` and `offset` asked for came before.
  package func query(_ progress: StreamProgress) -> String {
    var query = URLQuery()
    if follow { query.add("follow", "true") }
    query.add("stream", stream?.name)
    query.add("after", after.map { "\($0)" })
    addBounds(to: &query, progress)
    query.add("filter", filter)
    query.add("regex", regex)
    if isReversed { query.add("order", "desc") }
    if progress.lastID == nil {
      query.add("tail", tail.map { "\($0)" })
      query.add("offset", offset.map { "\($0)" })
    }
    // The last one that is left can't have come without the stream's end.
    query.add("limit", limit.map { "\(max(1, $0 - progress.received))" })
    return query.text
  }
}

/// Which of a job's samples are asked for, or what of them.
public struct MetricRequest: StreamRequest, Hashable {
  /// Goes on with new samples until the job has ended. Not with ``aggregate``.
  public var follow = false
  /// Samples after this `seq`.
  public var after: UInt64?
  /// Bounds of the time, in any form of ``JobletModel/TimeText``; the node's clock counts.
  public var since: String?
  public var until: String?
  /// The newest first. Not with ``follow``.
  public var isReversed = false
  /// At most so many. Not with ``follow``.
  public var limit: Int?
  public var offset: Int?
  public var aggregate: MetricAggregate?
  /// With ``aggregate``: one line for each interval of this length, `1m`; nil for one over all.
  public var interval: String?

  public init(follow: Bool = false) { self.follow = follow }

  package var path: String { "metrics" }

  package func query(_ progress: StreamProgress) -> String {
    var query = URLQuery()
    if follow { query.add("follow", "true") }
    query.add("after", after.map { "\($0)" })
    addBounds(to: &query, progress)
    if isReversed { query.add("order", "desc") }
    query.add("aggregate", aggregate?.rawValue)
    query.add("interval", interval)
    // Aggregates have no numbers to go on from: those that came are counted off.
    let received = aggregate == nil ? 0 : progress.received
    if progress.lastID == nil, (offset ?? 0) + received > 0 { query.add("offset", "\((offset ?? 0) + received)") }
    query.add("limit", limit.map { "\(max(1, $0 - progress.received))" })
    return query.text
  }
}
