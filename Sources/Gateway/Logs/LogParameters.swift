import JobletModel

/// What `GET /v1/jobs/{id}/logs` was asked for.
public struct LogParameters: Sendable, Hashable {
  public var follow = false
  public var stream: LogStream?
  /// Lines after this `seq`.
  public var after: UInt64 = 0
  public var since: Timestamp?
  public var until: Timestamp?
  public var filter: String?
  public var tail: Int?
  public var limit: Int?

  public static let names = ["follow", "stream", "after", "since", "until", "filter", "tail", "limit"]
  public static let tailRange = 0...100_000
  public static let limitRange = 1...10_000_000
  public static let maxFilterBytes = 4096

  public init() {}

  /// True if which lines come depends on more than their number: then a missing number means nothing.
  public var isSelective: Bool { stream != nil || since != nil || until != nil || filter != nil }

  /// - Parameters:
  ///   - lastEventID: the header `Last-Event-ID`, which a reconnecting browser sends; it is newer than `?after=`.
  /// - Throws: ``Problem`` naming the parameter and what is allowed.
  public init(_ target: RequestTarget, lastEventID: String?, now: Timestamp = .now()) throws(Problem) {
    let query = try QueryReader(target, known: LogParameters.names)
    follow = try query.flag("follow") ?? false
    stream = try query.value("stream", "stdout or stderr") { LogStream(name: $0) }
    after = try query.value("after", "the number of a line, 0 or more") { LogParameters.number($0) } ?? 0
    let time = "an RFC 3339 time or how long ago, like 10m"
    since = try query.value("since", time) { LogParameters.time($0, now) }
    until = try query.value("until", time) { LogParameters.time($0, now) }
    filter = try query.value("filter", "1 to \(LogParameters.maxFilterBytes) bytes") { text in
      (1...LogParameters.maxFilterBytes).contains(text.utf8.count) ? text : nil
    }
    tail = try query.number("tail", LogParameters.tailRange)
    limit = try query.number("limit", LogParameters.limitRange)
    if follow, until != nil || limit != nil {
      let name = until != nil ? "until" : "limit"
      throw Problem(.invalidField, "\(name): can't be combined with follow=true, which ends with the job", field: name)
    }
    if let lastEventID, !lastEventID.isEmpty {
      guard let seq = LogParameters.number(lastEventID) else {
        throw Problem(
          .invalidField, "Last-Event-ID: '\(lastEventID.prefix(64))' is not the number of a line",
          field: "Last-Event-ID")
      }
      after = seq
      tail = nil  // the client has its tail already; it wants what came since
    }
  }

  private static func number(_ text: String) -> UInt64? {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let value = UInt64(text),
      value < UInt64.max / 2
    else { return nil }
    return value
  }

  private static func time(_ text: String, _ now: Timestamp) -> Timestamp? {
    if let time = Timestamp(rfc3339: text) { return time }
    guard let ago = DurationText.parse(text) else { return nil }
    let (nanoseconds, overflow) = now.nanoseconds.subtractingReportingOverflow(ago.nanoseconds)
    return overflow ? nil : Timestamp(nanoseconds: nanoseconds)
  }
}
