import JobletModel

/// Asks persist to remove what retention's bounds do not keep.
public struct SweepRequest: Codable, Hashable, Sendable {
  /// Only say what would go.
  public var dryRun: Bool
  /// Bounds in place of those of `persist.retention`, for this one sweep; 0 for no bound.
  public var days: Int?
  public var maxBytesPerJob: Int64?
  public var maxBytes: Int64?

  enum CodingKeys: String, CodingKey {
    case days
    case dryRun = "dry_run"
    case maxBytesPerJob = "max_bytes_per_job"
    case maxBytes = "max_bytes"
  }

  public init(dryRun: Bool, days: Int? = nil, maxBytesPerJob: Int64? = nil, maxBytes: Int64? = nil) {
    self.dryRun = dryRun
    self.days = days
    self.maxBytesPerJob = maxBytesPerJob
    self.maxBytes = maxBytes
  }

  public static let daysRange = 0...36_500

  /// - Throws: ``Problem`` naming the field that is out of range and what is allowed.
  public func check() throws(Problem) {
    if let days, !SweepRequest.daysRange.contains(days) {
      throw Problem(.invalidField, "days is \(days); allowed: 0 to 36500", field: "days")
    }
    for (field, value) in [("max_bytes_per_job", maxBytesPerJob), ("max_bytes", maxBytes)] {
      guard let value, value < 0 else { continue }
      throw Problem(.invalidField, "\(field) is \(value); allowed: 0 to 2^63-1", field: field)
    }
  }
}

/// Which of the bounds a job is beyond.
public enum SweepReason: String, Codable, Sendable, CaseIterable, Hashable {
  /// It ended more than `days` ago.
  case age
  /// Its files are larger than `max_bytes_per_job`.
  case jobBytes = "job_bytes"
  /// All jobs together are larger than `max_bytes`, and it is among the oldest.
  case totalBytes = "total_bytes"
}

/// A job that goes, or would.
public struct SweptJob: Codable, Hashable, Sendable {
  public var job: JobID
  /// Bytes of its files.
  public var bytes: Int64
  /// When it ended; when it was last written if there is no record of it.
  public var endedAt: Timestamp
  public var reason: SweepReason

  enum CodingKeys: String, CodingKey {
    case job, bytes, reason
    case endedAt = "ended_at"
  }

  public init(job: JobID, bytes: Int64, endedAt: Timestamp, reason: SweepReason) {
    self.job = job
    self.bytes = bytes
    self.endedAt = endedAt
    self.reason = reason
  }
}

/// The bounds a sweep went by; 0 for none.
public struct SweepBounds: Codable, Hashable, Sendable {
  public var days: Int
  public var maxBytesPerJob: Int64
  public var maxBytes: Int64

  enum CodingKeys: String, CodingKey {
    case days
    case maxBytesPerJob = "max_bytes_per_job"
    case maxBytes = "max_bytes"
  }

  public init(days: Int = 0, maxBytesPerJob: Int64 = 0, maxBytes: Int64 = 0) {
    self.days = days
    self.maxBytesPerJob = maxBytesPerJob
    self.maxBytes = maxBytes
  }
}

/// What a sweep came to. In a dry run "removed" is what would be.
public struct SweepTotals: Codable, Hashable, Sendable {
  public var removedJobs = 0
  public var removedBytes: Int64 = 0
  public var keptJobs = 0
  public var keptBytes: Int64 = 0
  /// Among those kept.
  public var runningJobs = 0
  /// Jobs whose removal failed; persist's journal says why. They are tried again at the next sweep.
  public var failedJobs = 0
  public var bounds = SweepBounds()

  enum CodingKeys: String, CodingKey {
    case bounds
    case removedJobs = "removed_jobs"
    case removedBytes = "removed_bytes"
    case keptJobs = "kept_jobs"
    case keptBytes = "kept_bytes"
    case runningJobs = "running_jobs"
    case failedJobs = "failed_jobs"
  }

  public init() {}
}
