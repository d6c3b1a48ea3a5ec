import JobletModel

/// What `GET /v1/jobs/{id}/logs` was asked for.
public struct LogParameters: Sendable, Hashable, StreamParameters {
  public var follow = false
  public var stream: LogStream?
  /// Lines after this `seq`.
  public var after: UInt64 = 0
  /// Lines before this `seq`; only with the newest first, where a reader that comes again has those from here on.
  public var before: UInt64 = .max
  public var since: Timestamp?
  public var until: Timestamp?
  public var filter: String?
  public var regex: String?
  public var order = QueryOrder.ascending
  public var tail: Int?
  public var limit: Int?
  public var offset: Int?

  public static let names = [
    "follow", "stream", "after", "since", "until", "filter", "regex", "order", "tail", "limit", "offset",
  ]
  public static let tailRange = 0...100_000
  public static let maxFilterBytes = 4096

  public init() {}

  /// True if which lines come depends on more than their number: then a missing number means nothing.
  public var isSelective: Bool { stream != nil || since != nil || until != nil || filter != nil || regex != nil }

  /// The parameter that only the store can answer.
  public var storeParameter: String? {
    regex != nil ? "regex" : order == .descending ? "order" : offset != nil ? "offset" : nil
  }

  public var needsStore: Bool { storeParameter != nil }

  /// - Parameters:
  ///   - lastEventID: the header `Last-Event-ID`, which a reconnecting browser sends; it is newer than `?after=`.
  /// - Throws: ``Problem`` naming the parameter and what is allowed.
  public init(_ target: RequestTarget, lastEventID: String?, now: Timestamp = .now()) throws(Problem) {
    let query = try QueryReader(target, known: LogParameters.names)
    let common = try StreamQuery(query, now: now)
    (follow, after, order, limit) = (common.follow, common.after, common.order, common.limit)
    (since, until, offset) = (common.since, common.until, common.offset)
    stream = try query.value("stream", "stdout or stderr") { LogStream(name: $0) }
    filter = try LogParameters.pattern("filter", query)
    regex = try LogParameters.pattern("regex", query)
    tail = try query.number("tail", LogParameters.tailRange)
    if let seq = try StreamQuery.lastEventID(lastEventID) {
      common.resume(at: seq, &after, &before, &since, &until)
      // The client has its tail already, and what was left out; it wants what comes behind.
      tail = nil
      offset = nil
    }
  }

  private static func pattern(_ name: String, _ query: QueryReader) throws(Problem) -> String? {
    try query.value(name, "1 to \(maxFilterBytes) bytes") { text in
      (1...maxFilterBytes).contains(text.utf8.count) ? text : nil
    }
  }
}
