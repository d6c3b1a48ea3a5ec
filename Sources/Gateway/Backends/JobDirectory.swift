import FoundationEssentials
import JobletModel
import JobletWire
import NIOCore

/// Job records from where they are: the live view first, persist's store for the rest.
struct JobDirectory: Sendable {
  let view: LiveView
  /// Nil where nothing is persisted (`ipc.enabled: false`).
  let persist: FramePool?

  /// A job's record.
  /// - Throws: ``Problem``: `not-found`, or `unavailable` when whoever might know it is away.
  func record(_ id: JobID) async throws -> JobRecord {
    if let record = view.record(id) { return record }
    if let stored = try await stored(id) { return stored }
    throw missing(id)
  }

  /// A job's record as JSON without a newline, its entity tag, and whether the job has ended.
  func representation(_ id: JobID) async throws -> (json: ByteBuffer, tag: String, isEnded: Bool) {
    if let known = view.representation(id) { return known }
    if let stored = try await stored(id) {
      return (JSONText.encodeFragment(stored), stored.entityTag, stored.status.isEnded)
    }
    throw missing(id)
  }

  /// What persist knows of a job; nil if nothing.
  func stored(_ id: JobID) async throws -> JobRecord? {
    guard let persist else { return nil }
    do {
      return try await persist.request(Frame(FrameHeader(.getRecord, job: id))).decode()
    } catch let problem as Problem where problem.kind == .notFound {
      return nil
    }
  }

  private func missing(_ id: JobID) -> Problem {
    // Without exec nobody can say that a job does not exist: it may have been started a moment ago.
    guard view.isConnected else {
      return Problem(
        .unavailable, "job \(id) is not among the stored ones, and joblet-exec, which may know it, is away",
        retryAfter: 2)
    }
    return Problem(.notFound, "there is no job \(id)")
  }

  /// A page of a listing.
  struct Page: Sendable {
    /// Newest first, each with its record as JSON without a newline.
    var jobs: [(id: JobID, json: ByteBuffer)] = []
    /// The next page begins below this one; nil if there is nothing more.
    var next: JobID?
  }

  /// How long persist is asked again for a page that a search has not filled yet.
  private static let searchTime: Duration = .milliseconds(250)

  /// A page of records that match, newest first: the live view's and persist's.
  func page(_ query: RecordQuery) async throws -> Page {
    let live = view.ids(before: query.before, limit: query.limit + 1) { query.matches($0) }
    let stored = try await storedPage(query)
    var page = Page()
    var (a, b) = (live[...], stored.jobs[...])
    while page.jobs.count <= query.limit {
      // Where the search of the stored ones ended, this page ends too: what is older comes in order with the next.
      let id = a.first.flatMap { id in stored.next.map { id >= $0 } ?? true ? id : nil }
      switch (id, b.first) {
      case (let id?, let record?) where record.id > id:
        page.jobs.append(record)
        b.removeFirst()
      case (let id?, _):
        if let json = view.json(id) { page.jobs.append((id, json)) }
        a.removeFirst()
      case (nil, let record?):
        page.jobs.append(record)
        b.removeFirst()
      case (nil, nil):
        page.next = stored.next
        return page
      }
    }
    page.jobs.removeLast()
    page.next = page.jobs.last?.id
    return page
  }

  /// Stored records the live view does not have (of a job that both know, the live one is newer), one more than the page
  /// takes if there are so many. `next` is the last one that was looked at, if there is more to look at.
  private func storedPage(_ query: RecordQuery) async throws -> Page {
    guard persist != nil else { return Page() }
    let deadline = ContinuousClock.now + JobDirectory.searchTime
    var query = query
    let wanted = query.limit + 1
    query.limit = min(wanted, RecordQuery.limitRange.upperBound)
    var found = Page()
    while true {
      let piece = try await ask(query)
      found.jobs += piece.jobs.filter { view.record($0.id) == nil }
      found.next = piece.next
      guard let next = piece.next, found.jobs.count < wanted, ContinuousClock.now < deadline else { return found }
      query.before = next
    }
  }

  /// One answer of the store's to a query; `next` is where it goes on. Empty where nothing is stored.
  func ask(_ query: RecordQuery) async throws -> Page {
    guard let persist else { return Page() }
    return try await persist.converse(timeout: .seconds(15)) { connection in
      try await connection.send(Frame(FrameHeader(.listRecords), json: query))
      var page = Page()
      while true {
        let frame = try await connection.reply()
        switch frame.header.type {
        case .record: page.jobs.append((frame.header.job, frame.payload))
        case .done:
          page.next = try frame.decode(RecordsEnd.self).next
          return page
        default: throw FrameError.unexpected(frame.header.type)
        }
      }
    }
  }
}
