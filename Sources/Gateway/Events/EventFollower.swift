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
  /// Followers that ask the store at the same time: after a restart of the gateway all of them come at once.
  let turnstile = Turnstile(limit: 4)
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
  /// What happened before was told, or left out by the client's own wish.
  private var seenAt: Timestamp
  private var out = ByteBuffer()
  private var lastWrite = ContinuousClock.now
  private var lastCheck = ContinuousClock.now

  private static let batchBytes = 64 << 10
  private static let batchChanges = 256
  /// A job's end is known here a moment after it, and clocks can be set: so much before a moment counts as after it.
  private static let slack: Duration = .seconds(60)
  /// How many records of the store are looked at at a time, how many in all, and for how long.
  private static let pageLength = 20
  private static let mostLookedAt = 1000
  private static let searchTime: Duration = .seconds(10)
  /// Timers are early by less.
  private static let timerSlack: Duration = .milliseconds(50)

  init(_ follower: EventFollower, _ stream: ResponseStream) {
    self.follower = follower
    self.stream = stream
    seenAt = follower.source.view.heardUntil
  }

  private var view: LiveView { follower.source.view }
  private var log: ChangeLog { follower.source.view.changes }
  private var filter: EventFilter { follower.parameters.filter }
  private var format: EventFormat { follower.format }

  mutating func run() async throws {
    format.begin(&out)
    seenAt = view.heardUntil
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
    } else {
      // A place to go on from: without one, what changes while the stream is lost before its first event would be missed.
      synced(jobs: 0)
    }
    while true {
      try Task.checkCancellation()
      let now = view.heardUntil
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
      if isWanted { format.event("deleted", id: cursor(change), json: JobDeleted(id: change.job), &out) }
      return
    }
    if let record = view.record(change.job) {
      // A newer version has a change of its own, further on.
      guard record.version == version, filter.matches(record), let json = view.json(change.job) else { return }
      try await append(json, id: cursor(change))
    } else if change.isLast, !view.isDeleted(change.job), filter.jobs?.contains(change.job) ?? true {
      try await tellStored(change, version)
    }
  }

  /// A job that ended and was let go of before this client was told, or that exec forgot.
  private mutating func tellStored(_ change: ChangeLog.Change, _ version: UInt64) async throws {
    // The store takes its time, and there may be many of them.
    try await flush()
    try await beat()
    if let record = try await stored(change.job) {
      // A newer version has a change of its own, further on.
      guard record.version <= version, filter.matches(record) else { return }
      try await append(JSONText.encodeFragment(record), id: cursor(change))
    } else {
      // Whoever waits for it has to look.
      format.event("gap", json: EventsGap(since: change.at), &out)
    }
  }

  /// Nil if the store does not know the job, or does not answer.
  private func stored(_ job: JobID) async throws -> JobRecord? {
    let source = follower.source
    do {
      return try await source.turnstile.pass { try await source.directory.stored(job) }
    } catch is Problem {
      return nil
    }
  }

  /// Where a client goes on that has been told of a change: the change's own time, however late it is told.
  private func cursor(_ change: ChangeLog.Change) -> EventCursor {
    EventCursor(epoch: log.epoch, number: change.number, time: change.at)
  }

  /// The client has been told of everything up to ``position``.
  private mutating func synced(jobs: Int) {
    let cursor = EventCursor(epoch: log.epoch, number: position, time: seenAt)
    format.event("synced", id: cursor, json: EventsSynced(jobs: jobs), &out)
  }

  // MARK: All there is

  /// Tells of the jobs there are: of all that have not ended, and of those that ended since a moment; nil for all that are known.
  /// They have no `id`: a client that loses the stream half-way has to begin again.
  private mutating func resync(since: Timestamp?) async throws {
    seenAt = view.heardUntil
    position = log.last
    let from = since.map { Timestamp(nanoseconds: $0.nanoseconds - EventSession.slack.nanoseconds) }
    let filter = filter
    // Before the store is asked: what the view lets go of meanwhile is in the store by then.
    let ids = view.ids(before: nil, limit: .max) { record in
      guard filter.matches(record) else { return false }
      guard record.status.isEnded, let from, let endedAt = record.endedAt else { return true }
      return endedAt >= from
    }
    var told = 0
    if let since, let from, view.completeSince.map({ $0 > from }) ?? true {
      told += try await tellAllStored(endedSince: from, toldSince: since, but: Set(ids))
    }
    for id in ids.reversed() {
      if let json = view.json(id) {
        try await append(json, id: nil)
      } else if !view.isDeleted(id), let record = try await stored(id) {
        try await append(JSONText.encodeFragment(record), id: nil)
      } else {
        continue
      }
      told += 1
    }
    synced(jobs: told)
    try await flush()
  }

  /// Tells of ended jobs that only the store may know, the newest first, a page at a time. Where it does not answer, or has more
  /// than are looked at, the client is told that something may be missing.
  private mutating func tellAllStored(
    endedSince from: Timestamp, toldSince since: Timestamp, but known: Set<JobID>
  ) async throws -> Int {
    var query = RecordQuery(statuses: JobStatus.allCases.filter(\.isEnded), limit: EventSession.pageLength)
    let deadline = ContinuousClock.now + EventSession.searchTime
    var (looked, told) = (0, 0)
    repeat {
      let page: StoredPage
      do {
        page = try await follower.storedPage(query, endedSince: from, but: known)
      } catch let error where !(error is CancellationError) {
        try Task.checkCancellation()
        format.event("gap", json: EventsGap(since: since), &out)
        return told
      }
      for json in page.jobs { try await append(json, id: nil) }
      looked += page.lookedAt
      told += page.jobs.count
      query.before = page.next
      try await beat()
    } while query.before != nil && looked < EventSession.mostLookedAt && .now < deadline
    if query.before != nil { format.event("gap", json: EventsGap(since: since), &out) }
    return told
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
