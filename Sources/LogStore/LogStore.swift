import JobletModel

/// Where the lines of jobs, logs and metrics, are kept for good. Every backend passes the same suite (Tests/StorageConformance).
///
/// Calls block: they belong on a thread that may. For one job at most one call of ``append(_:job:stream:)``,
/// ``recover(_:_:logFrom:)`` or ``delete(_:)`` runs at a time, which the caller sees to (a ``sync(_:)`` may run beside an
/// append); reading goes on beside them all.
public protocol LogStore: Sendable {
  /// The backend's name as the configuration writes it.
  var name: String { get }

  /// Appends lines above everything the stream has. When it returns, ``pages(_:_:_:_:)`` gives them; after ``sync(_:)`` they are safe.
  /// A failure leaves the stream as it was.
  @discardableResult
  func append(_ chunks: [LogChunk], job: JobID, stream: StoredStream) throws -> LogAppended

  /// Returns when everything appended to the job is on stable storage. Never call it again for a job after it threw: the
  /// kernel may have dropped what it could not write. Only a replay of the log mends that.
  func sync(_ job: JobID) throws

  /// Does for many jobs at once what ``sync(_:)`` does for one, where the store has a cheaper way for that many.
  /// - Returns: true when everything is safe that was appended to them before the call; false if nothing is known: sync each.
  func syncTogether(_ jobs: [JobID]) -> Bool

  /// The `seq` of the stream's last line; 0 if there is none.
  func lastSeq(_ job: JobID, _ stream: StoredStream) throws -> UInt64

  /// Makes a stream sound after a crash: what is torn at its end, or damaged and still in the write-ahead log, goes.
  /// - Parameter logFrom: the first `seq` of the stream that the write-ahead log still holds; everything below is synced.
  /// - Returns: what was cut off, or nil.
  func recover(_ job: JobID, _ stream: StoredStream, logFrom: UInt64) throws -> LogCut?

  /// Opens what the stream has in the range, as it is now: the oldest page first or the newest.
  func pages(_ job: JobID, _ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) throws -> any LogPages

  /// Removes everything of the job. False if there was nothing.
  func delete(_ job: JobID) throws -> Bool

  /// True if the store has anything of the job.
  func contains(_ job: JobID) throws -> Bool

  /// Every job that the store has something of, in no order. What else lies about is passed over.
  func storedJobs() throws -> [JobID]

  /// What a job's data takes. Nil if there is none.
  func usage(_ job: JobID) throws -> LogUsage?

  /// Moves away, with its contents, what stands in a stream's place and is not the store's (a link, a directory, garbage),
  /// so that ``append(_:job:stream:)`` and ``recover(_:_:logFrom:)`` can go on. Called in their turn.
  /// - Returns: where it is now; nil if nothing stands in the way.
  func setAside(_ job: JobID, _ stream: StoredStream) throws -> String?

  /// Drops what is only remembered of the job to be faster.
  func forget(_ job: JobID)

  /// Free bytes where the data goes; nil where that means nothing.
  func freeBytes() throws -> Int64?
}

extension LogStore {
  public func syncTogether(_ jobs: [JobID]) -> Bool { false }
}

/// What ``LogStore/append(_:job:stream:)`` wrote.
public struct LogAppended: Hashable, Sendable {
  /// gzip members, or what else the store keeps lines in.
  public var members: UInt64
  /// Bytes they take.
  public var bytes: UInt64

  public init(members: UInt64 = 0, bytes: UInt64 = 0) {
    self.members = members
    self.bytes = bytes
  }
}

/// What a job's data takes, and when it was written last.
public struct LogUsage: Hashable, Sendable {
  public var bytes: Int64
  public var lastWrite: Timestamp

  public init(bytes: Int64, lastWrite: Timestamp) {
    self.bytes = bytes
    self.lastWrite = lastWrite
  }
}

/// What ``LogStore/recover(_:_:logFrom:)`` cut off.
public struct LogCut: Hashable, Sendable {
  public var bytes: Int
  /// The last whole line before the cut.
  public var lastSeq: UInt64

  public init(bytes: Int, lastSeq: UInt64) {
    self.bytes = bytes
    self.lastSeq = lastSeq
  }
}

/// Bounds of what is wanted of a stream, all inclusive but ``after``.
public struct LogRange: Hashable, Sendable {
  public var after: UInt64
  public var through: UInt64
  public var since: Timestamp?
  public var until: Timestamp?

  public init(after: UInt64 = 0, through: UInt64 = .max, since: Timestamp? = nil, until: Timestamp? = nil) {
    self.after = after
    self.through = through
    self.since = since
    self.until = until
  }

  /// True if a page with these bounds may hold a line of the range.
  public func mayHold(_ page: LogPageInfo) -> Bool {
    guard page.lastSeq > after, page.firstSeq <= through else { return false }
    if page.isMissing { return true }
    if let since, page.latest < since { return false }
    if let until, page.earliest > until { return false }
    return true
  }
}

/// What is known of a page of lines without opening it.
public struct LogPageInfo: Hashable, Sendable {
  public var firstSeq: UInt64
  public var lastSeq: UInt64
  public var count: Int
  public var earliest: Timestamp
  public var latest: Timestamp
  /// The page is damaged: its lines can't be given.
  public var isMissing: Bool
  /// No line of the page is base64: every line's text stands in it as text.
  public var isPlain: Bool

  public init(
    firstSeq: UInt64, lastSeq: UInt64, count: Int, earliest: Timestamp, latest: Timestamp,
    isMissing: Bool = false, isPlain: Bool = false
  ) {
    self.firstSeq = firstSeq
    self.lastSeq = lastSeq
    self.count = count
    self.earliest = earliest
    self.latest = latest
    self.isMissing = isMissing
    self.isPlain = isPlain
  }
}
