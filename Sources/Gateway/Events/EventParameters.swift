import JobletModel

/// Which jobs' changes a follower of `/v1/events` wants. Every condition holds at once.
public struct EventFilter: Sendable, Hashable {
  public var statuses: Set<JobStatus>?
  public var owner: String?
  public var name: String?
  /// A label's key and its value; nil for any value.
  public var labels: [Label] = []
  public var jobs: Set<JobID>?

  public struct Label: Sendable, Hashable {
    public var key: String
    public var value: String?
  }

  public init() {}

  public func matches(_ record: JobRecord) -> Bool {
    if let statuses, !statuses.contains(record.status) { return false }
    if let owner, owner != record.owner { return false }
    if let name, name != record.name { return false }
    if let jobs, !jobs.contains(record.id) { return false }
    return labels.allSatisfy { label in
      guard let value = record.labels[label.key] else { return false }
      return label.value.map { $0 == value } ?? true
    }
  }
}

/// What `GET /v1/events` was asked for.
public struct EventParameters: Sendable, Hashable {
  public static let names = ["status", "owner", "name", "label", "job", "snapshot"]
  private static let maxJobs = 100

  public var filter = EventFilter()
  /// Begin with the jobs there are.
  public var snapshot: Bool
  /// Where a client that lost the stream goes on.
  public var cursor: EventCursor?

  /// - Throws: ``JobletModel/Problem`` naming the parameter and what is allowed.
  public init(_ target: RequestTarget, lastEventID: String?) throws(Problem) {
    let query = try QueryReader(target, known: EventParameters.names)
    let statuses = JobStatus.allCases.map(\.rawValue).joined(separator: ", ")
    filter.statuses = try query.value("status", "one or more of \(statuses), with commas between") { text in
      EventParameters.list(text) { JobStatus(rawValue: $0.uppercased()) }.map { Set($0) }
    }
    filter.owner = try query.value("owner", "a common name, 1 to 256 bytes") { EventParameters.text($0, 256) }
    filter.name = try query.value("name", "a job's name, 1 to 128 bytes") { EventParameters.text($0, 128) }
    let labels = try query.value("label", "key or key=value, with commas between; 1 to 1024 bytes") { text in
      EventParameters.text(text, 1024).flatMap { EventParameters.list($0, EventParameters.label) }
    }
    filter.labels = labels ?? []
    let jobs = try query.value("job", "1 to \(EventParameters.maxJobs) IDs of jobs, with commas between") { text in
      EventParameters.list(text) { JobID($0) }.flatMap { $0.count <= EventParameters.maxJobs ? Set($0) : nil }
    }
    filter.jobs = jobs
    snapshot = try query.flag("snapshot") ?? false
    guard let lastEventID, !lastEventID.isEmpty else { return }
    guard let cursor = EventCursor(lastEventID) else {
      throw Problem(
        .invalidField,
        "Last-Event-ID: '\(lastEventID.prefix(64))' is not the id of an event here; leave it out to begin",
        field: "Last-Event-ID")
    }
    self.cursor = cursor
  }

  private static func text(_ text: String, _ limit: Int) -> String? {
    (1...limit).contains(text.utf8.count) ? text : nil
  }

  /// Nil if one of the parts is not what it should be.
  private static func list<Value>(_ text: String, _ read: (String) -> Value?) -> [Value]? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let values = parts.compactMap { read(String($0)) }
    return values.count == parts.count ? values : nil
  }

  private static func label(_ text: String) -> EventFilter.Label? {
    let halves = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard let key = halves.first, !key.isEmpty else { return nil }
    return EventFilter.Label(key: String(key), value: halves.count > 1 ? String(halves[1]) : nil)
  }
}
