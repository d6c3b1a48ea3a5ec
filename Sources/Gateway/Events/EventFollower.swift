import FoundationEssentials
import JobletModel
import NIOCore

/// What a follower of `/v1/events` reads from, and when it speaks.
struct EventSource: Sendable {
  let view: LiveView
  let directory: JobDirectory
  let drain: DrainSignal
  /// The longest silence on a stream.
  let heartbeat: Duration
}

/// Tells one client of all jobs' changes. It is a place in the ``ChangeLog`` and nothing more: the next changes are looked up
/// when the last ones have left, so a client that doesn't read costs one batch.
struct EventFollower: Sendable {
  let parameters: EventParameters
  let format: EventFormat
  let source: EventSource
  let requestID: String
  /// Refuses once the client may not have the stream any more.
  let checkCaller: @Sendable () throws -> Void

  /// Until the client leaves or the gateway stops.
  func run(_ stream: ResponseStream) async throws {
    let me = self
    let isDraining = try await source.drain.interrupting {
      var session = EventSession(me, stream)
      try await session.run()
    }
    guard isDraining else { return }
    var farewell = ByteBuffer()
    format.reconnect(&farewell)
    if farewell.readableBytes > 0 { try await stream.write(farewell) }
  }
}

/// The event `deleted`.
struct JobDeleted: Codable, Hashable, Sendable {
  var id: JobID
}

/// The event `synced`.
struct EventsSynced: Codable, Hashable, Sendable {
  var jobs: Int
}

/// The event `gap` of `/v1/events`.
struct EventsGap: Codable, Hashable, Sendable {
  var since: Timestamp
}

private struct EventSession {
  let follower: EventFollower
  let stream: ResponseStream
  /// Everything up to this change was told, or left out by the client's own wish.
  private var position: UInt64 = 0
  /// When the log was last read to ``position``.
  private var seenAt = Timestamp.now()
  private var out = ByteBuffer()
  private var lastWrite = ContinuousClock.now
  private var lastCheck = ContinuousClock.now

  private static let batchBytes = 64 << 10
  private static let batchChanges = 256
  /// A job's end is known here a moment after it, and clocks can be set: so much before a moment counts as after it.
  private static let slack: Duration = .seconds(60)
  /// Timers are early by less.
  private static let timerSlack: Duration = .milliseconds(50)

  init(_ follower: EventFollower, _ stream: ResponseStream) {
    self.follower = follower
    self.stream = stream
  }

  private var view: LiveView { follower.source.view }
  private var log: ChangeLog { follower.source.view.changes }
  private var filter: EventFilter { follower.parameters.filter }
  private var format: EventFormat { follower.format }

  mutating func run() async throws {
    format.begin(&out)
    position = log.last
    try await stream.start()
    if let cursor = follower.parameters.cursor {
      if cursor.epoch == log.epoch, log.changes(after: cursor.number, limit: 0) != nil {
        position = cursor.number
      } else {
        try await resync(since: min(cursor.time, .now()))
      }
    } else if follower.parameters.snapshot {
      try await resync(since: nil)
    }
    while true {
      try Task.checkCancellation()
      let now = Timestamp.now()
      guard let changes = log.changes(after: position, limit: EventSession.batchChanges) else {
        // So slow that the log has moved on: as one who comes again.
        try await resync(since: seenAt)
        continue
      }
      for change in changes { try await tell(change) }
      if changes.count < EventSession.batchChanges { seenAt = now }
      try await flush()
      try await beat()
      guard changes.isEmpty else { continue }
      await log.wait(after: position, atMost: follower.source.heartbeat - (.now - lastWrite))
    }
  }

  // MARK: Changes

  private mutating func tell(_ change: ChangeLog.Change) async throws {
    position = change.number
    guard let version = change.version else {
      let isWanted = change.deleted.map { filter.matches($0) } ?? filter.matches(unknown: change.job)
      if isWanted { format.event("deleted", id: cursor, json: JobDeleted(id: change.job), &out) }
      return
    }
    if let record = view.record(change.job) {
      // A newer version has a change of its own, further on.
      guard record.version == version, filter.matches(record), let json = view.json(change.job) else { return }
      try await append(json, id: cursor)
    } else if view.deleted(change.job) == nil {
      try await tellStored(change.job, version)
    }
  }

  /// A job that ended and was let go of before this client was told.
  private mutating func tellStored(_ job: JobID, _ version: UInt64) async throws {
    do {
      guard let record = try await follower.source.directory.stored(job), filter.matches(record) else { return }
      try await append(JSONText.encodeFragment(record), id: cursor)
    } catch is Problem {
      format.event("gap", json: EventsGap(since: seenAt), &out)
    }
  }

  private var cursor: EventCursor { EventCursor(epoch: log.epoch, number: position, time: .now()) }

  // MARK: All there is

  /// Tells of the jobs there are: of all that have not ended, and of those that ended since a moment; nil for all that are known.
  /// They have no `id`: a client that loses the stream half-way has to begin again.
  private mutating func resync(since: Timestamp?) async throws {
    position = log.last
    seenAt = .now()
    let from = since.map { Timestamp(nanoseconds: $0.nanoseconds - EventSession.slack.nanoseconds) }
    var told = 0
    if let since, let from, view.completeSince.map({ $0 > from }) ?? true {
      for json in try await stored(endedSince: from, toldSince: since) {
        try await append(json, id: nil)
        told += 1
      }
    }
    let filter = filter
    let ids = view.ids(before: nil, limit: .max) { record in
      guard filter.matches(record) else { return false }
      guard record.status.isEnded, let from, let endedAt = record.endedAt else { return true }
      return endedAt >= from
    }
    for id in ids.reversed() {
      guard let json = view.json(id) else { continue }
      try await append(json, id: nil)
      told += 1
    }
    format.event("synced", id: cursor, json: EventsSynced(jobs: told), &out)
    try await flush()
  }

  /// Records of ended jobs that only the store may know, oldest first. Where it does not answer, or has more than are looked at,
  /// the client is told that something may be missing.
  private mutating func stored(endedSince from: Timestamp, toldSince since: Timestamp) async throws -> [ByteBuffer] {
    let query = RecordQuery(
      statuses: JobStatus.allCases.filter(\.isEnded), limit: RecordQuery.limitRange.upperBound)
    do {
      let page = try await follower.source.directory.ask(query)
      if page.next != nil { format.event("gap", json: EventsGap(since: since), &out) }
      return try page.jobs.reversed().compactMap { job in
        guard view.record(job.id) == nil else { return nil }
        let record = try JSONDecoder().decode(JobRecord.self, from: Data(job.json.readableBytesView))
        guard let endedAt = record.endedAt, endedAt >= from, filter.matches(record) else { return nil }
        return job.json
      }
    } catch let error where !(error is CancellationError) {
      try Task.checkCancellation()
      format.event("gap", json: EventsGap(since: since), &out)
      return []
    }
  }

  // MARK: The client

  private mutating func append(_ json: ByteBuffer, id: EventCursor?) async throws {
    format.event("job", id: id, json, &out)
    if out.readableBytes >= EventSession.batchBytes { try await flush() }
  }

  private mutating func flush() async throws {
    guard out.readableBytes > 0 else { return }
    do {
      try await stream.write(out)
    } catch {
      throw ClientLeft()
    }
    out.clear()
    lastWrite = .now
  }

  /// Keeps a silent stream alive, and looks whether its client may still have it.
  private mutating func beat() async throws {
    let (now, heartbeat) = (ContinuousClock.now, follower.source.heartbeat)
    if now - lastCheck >= heartbeat - EventSession.timerSlack {
      lastCheck = now
      do {
        try follower.checkCaller()
      } catch let problem as Problem {
        format.event("problem", json: ProblemDocument(problem: problem, requestID: follower.requestID), &out)
        try await flush()
        throw problem
      }
    }
    guard now - lastWrite >= heartbeat - EventSession.timerSlack else { return }
    format.heartbeat(&out)
    lastWrite = .now
    try await flush()
  }
}

extension EventFilter {
  /// Whether a job is wanted of which only the ID is known.
  func matches(unknown job: JobID) -> Bool {
    var others = self
    others.jobs = nil
    return others == EventFilter() && jobs?.contains(job) ?? true
  }
}
