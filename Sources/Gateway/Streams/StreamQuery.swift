import JobletModel

/// What a reader of any kind of a job's records is asked for.
protocol StreamParameters: Sendable {
  /// Stay until the job has ended.
  var follow: Bool { get }
  /// The last so many only, and with ``follow`` all that come.
  var tail: Int? { get }
  /// True if only the store can choose the records: the gateway then passes on its answers and takes exec's word only for
  /// how far the records go.
  var needsStore: Bool { get }
  /// True if which records come depends on more than their number.
  var isSelective: Bool { get }
}

/// The query parameters that logs and metrics have in common.
struct StreamQuery {
  static let limitRange = 1...10_000_000
  static let offsetRange = 0...1_000_000_000

  let follow: Bool
  let after: UInt64
  let since: Timestamp?
  let until: Timestamp?
  let order: QueryOrder
  let limit: Int?
  /// Nil for 0, which leaves out nothing.
  let offset: Int?

  /// - Throws: ``Problem`` naming the parameter and what is allowed.
  init(_ query: QueryReader, now: Timestamp) throws(Problem) {
    follow = try query.flag("follow") ?? false
    after = try query.value("after", "a number, 0 or more") { StreamQuery.number($0) } ?? 0
    since = try query.value("since", TimeText.allowed) { TimeText.parse($0, now: now) }
    until = try query.value("until", TimeText.allowed) { TimeText.parse($0, now: now) }
    order = try query.value("order", "asc or desc") { QueryOrder(rawValue: $0) } ?? .ascending
    limit = try query.number("limit", StreamQuery.limitRange)
    let offset = try query.number("offset", StreamQuery.offsetRange)
    self.offset = offset == 0 ? nil : offset
    guard follow else { return }
    let given = [
      ("until", until != nil), ("limit", limit != nil), ("offset", self.offset != nil), ("order", order == .descending),
    ]
    if let (name, _) = given.first(where: \.1) { throw StreamQuery.notWithFollow(name) }
  }

  /// Goes on behind the last record that came (`Last-Event-ID`). The bound of the time where the answer began is passed, and it
  /// must not leave out records that have not come yet: who comes again with the same `since=10m` names a later moment by it.
  func resume(
    at seq: UInt64, _ after: inout UInt64, _ before: inout UInt64, _ since: inout Timestamp?, _ until: inout Timestamp?
  ) {
    if order == .descending {
      (before, until) = (seq, nil)
    } else {
      (after, since) = (seq, nil)
    }
  }

  static func notWithFollow(_ name: String) -> Problem {
    Problem(
      .invalidField, "\(name): can't be combined with follow=true, which goes on until the job has ended", field: name)
  }

  /// What only the store can answer, on a node that has none.
  static func needsStore(_ name: String) -> Problem {
    Problem(
      .invalidField, "\(name): this node stores nothing (ipc.enabled: false), so it can only show what is live",
      field: name)
  }

  /// - Throws: ``Problem`` if the header is there and no number.
  static func lastEventID(_ header: String?) throws(Problem) -> UInt64? {
    guard let header, !header.isEmpty else { return nil }
    guard let seq = number(header) else {
      throw Problem(
        .invalidField, "Last-Event-ID: '\(header.prefix(64))' is not the id of an event here", field: "Last-Event-ID")
    }
    return seq
  }

  private static func number(_ text: String) -> UInt64? {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let value = UInt64(text),
      value < UInt64.max / 2
    else { return nil }
    return value
  }
}
