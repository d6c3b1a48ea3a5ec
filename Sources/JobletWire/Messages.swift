import JobletModel

/// The first frame on a write connection, in both directions.
public struct Hello: Codable, Hashable, Sendable {
  public var protocolVersion: Int
  /// Who speaks, for the journal: `joblet-exec 1.0 pid 4711`.
  public var software: String

  enum CodingKeys: String, CodingKey {
    case software
    case protocolVersion = "protocol_version"
  }

  public init(software: String) {
    protocolVersion = Int(FrameHeader.version)
    self.software = software
  }
}

/// Whether persist can take on more jobs. What runs goes on either way: its rings wait.
public struct StoreCondition: Codable, Hashable, Sendable {
  /// False below the floor of free space (`persist.retention.min_free`).
  public var acceptsJobs: Bool
  /// Why not, and what to do, in a sentence for people.
  public var reason: String?

  enum CodingKeys: String, CodingKey {
    case reason
    case acceptsJobs = "accepts_jobs"
  }

  public init(acceptsJobs: Bool, reason: String? = nil) {
    self.acceptsJobs = acceptsJobs
    self.reason = reason
  }

  public static let good = StoreCondition(acceptsJobs: true)
}

/// persist's answer to ``FrameType/ping``: it can serve queries.
public struct PingReply: Codable, Hashable, Sendable {
  public var version: String
  public var backend: String
  /// Free bytes where the backend keeps its data; absent where that means nothing.
  public var freeBytes: Int64?
  /// When the oldest job began whose data is kept; absent where there is none.
  public var oldest: Timestamp?
  public var condition: StoreCondition

  enum CodingKeys: String, CodingKey {
    case version, backend, oldest, condition
    case freeBytes = "free_bytes"
  }

  public init(
    version: String, backend: String, freeBytes: Int64?, oldest: Timestamp? = nil, condition: StoreCondition = .good
  ) {
    self.version = version
    self.backend = backend
    self.freeBytes = freeBytes
    self.oldest = oldest
    self.condition = condition
  }
}

/// Ends the answer to ``FrameType/listRecords``.
public struct RecordsEnd: Codable, Hashable, Sendable {
  /// Where the listing goes on (``JobletModel/RecordQuery/before``); absent if there is nothing more. A page with less than
  /// it was asked for may have a next one: a search gives what it found when its time is up.
  public var next: JobID?

  public init(next: JobID? = nil) { self.next = next }
}

/// Ends the snapshot of ``FrameType/events``.
public struct SnapshotEnd: Codable, Hashable, Sendable {
  /// Every job that has ended since is in the snapshot; of those before, exec may have forgotten some.
  public var completeSince: Timestamp

  enum CodingKeys: String, CodingKey {
    case completeSince = "complete_since"
  }

  public init(completeSince: Timestamp) { self.completeSince = completeSince }
}

/// Asks exec to run a job.
public struct RunRequest: Codable, Hashable, Sendable {
  public var request: JobRequest
  public var caller: Caller
  /// The caller's name for this request (`Idempotency-Key`): asked for once more within a day, it starts nothing, and the
  /// answer is that of the first.
  public var key: String?

  /// How long a key may be, in bytes.
  public static let keyLength = 1...255

  public init(request: JobRequest, caller: Caller, key: String? = nil) {
    self.request = request
    self.caller = caller
    self.key = key
  }
}

/// Asks exec to stop a job: SIGTERM, the grace, then `cgroup.kill`.
public struct StopRequest: Codable, Hashable, Sendable {
  public var job: JobID
  public var caller: Caller
  /// Nil for the node's `joblet.stopGrace`.
  public var graceMilliseconds: Int64?

  enum CodingKeys: String, CodingKey {
    case job, caller
    case graceMilliseconds = "grace_ms"
  }

  public init(job: JobID, caller: Caller, graceMilliseconds: Int64? = nil) {
    self.job = job
    self.caller = caller
    self.graceMilliseconds = graceMilliseconds
  }
}

/// Asks exec for the next of a job's lines that its ring still holds: the pull of one follower, one batch at a time.
/// Nothing is kept for a follower between two requests, so a stalled one costs nothing.
public struct OutputRequest: Codable, Hashable, Sendable {
  public var job: JobID
  /// Lines after this `seq`.
  public var after: UInt64
  /// Stop collecting chunks after so many payload bytes (at least one chunk is sent).
  public var maxBytes: Int
  /// How long exec may hold the request when there is nothing yet, in milliseconds; then it answers `more` with no lines.
  public var waitMilliseconds: Int64

  enum CodingKeys: String, CodingKey {
    case job, after
    case maxBytes = "max_bytes"
    case waitMilliseconds = "wait_ms"
  }

  public init(job: JobID, after: UInt64, maxBytes: Int = 256 << 10, waitMilliseconds: Int64 = 15_000) {
    self.job = job
    self.after = after
    self.maxBytes = maxBytes
    self.waitMilliseconds = waitMilliseconds
  }
}

/// Ends the answer to an ``OutputRequest``.
public struct OutputState: Codable, Hashable, Sendable {
  public enum State: String, Codable, Sendable {
    /// The lines sent are all there was room or time for; ask again.
    case more
    /// The ring begins after `after + 1`: the lines between are in persist, `oldest` is the first that the ring still has.
    case behind
    /// Every line up to the end was sent (or acknowledged by persist), and the job has ended: `record` says how.
    case ended
    /// exec does not know the job (any more): all there is, is in persist.
    case unknown
  }
  public var state: State
  /// The first `seq` the ring still holds, with `behind`.
  public var oldest: UInt64?
  /// The last `seq` acknowledged by persist, with `behind`: pass it as the query's `through_seq`.
  public var acknowledged: UInt64?
  /// The last `seq` there is, with `more` and no lines: so that whoever wants the newest lines need not look through the others.
  public var last: UInt64?
  /// With `ended`.
  public var record: JobRecord?

  public init(
    _ state: State, oldest: UInt64? = nil, acknowledged: UInt64? = nil, last: UInt64? = nil, record: JobRecord? = nil
  ) {
    self.state = state
    self.last = last
    self.oldest = oldest
    self.acknowledged = acknowledged
    self.record = record
  }
}
