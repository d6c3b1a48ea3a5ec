import HTTPTypes
import JobletModel
import JobletWire
import NIOCore

/// `/v1/jobs`: run, list, read, stop, pause, resume, delete.
struct JobRoutes: Sendable {
  let exec: FramePool
  let persist: FramePool?
  let persistWatch: PersistWatch?
  let view: LiveView
  let directory: JobDirectory

  /// exec prepares the job before it answers; more than this and something is wrong. Less than the 60 seconds that clients
  /// commonly wait, rnx among them, so that they hear from here what to do.
  private static let runTimeout: Duration = .seconds(50)

  func run(_ context: RequestContext) async throws -> Reply {
    let caller = try context.authenticatedCaller()
    _ = try QueryReader(context.target, known: [])
    let key = try RequestFields.idempotencyKey(context.request.headerFields[.idempotencyKey])
    let wait = RequestFields.wait(context.request.headerFields[.prefer])
    let body = try await context.body.collect(limit: JSONBody.maxLength)
    let request = try JSONBody.decode(JobRequest.self, from: body)
    try request.validate()
    try requireExec()
    let answer = try await start(RunRequest(request: request, caller: caller, key: key))
    var record = try await admitted(answer)
    // A client sees its own job at once, whenever exec's event comes. What exec no longer knows is no news.
    if answer.payload.readableBytes > 0 { view.apply(record) }
    var isAudited = false
    if let wait, !record.status.isEnded {
      // The job has started, and the wait is long: a kill in between must not leave it without its line.
      await context.audit?(record.id.description, .created, nil)
      isAudited = context.audit != nil
      await view.waitForEnd(of: record.id, atMost: .seconds(wait))
      // Deleted meanwhile, it is as it was last.
      record = view.record(record.id) ?? view.deleted(record.id) ?? record
    }
    var reply = Reply.json(.created, JSONText.encode(record), target: record.id.description)
    reply.headers[.location] = "/v1/jobs/\(record.id)"
    reply.headers[.eTag] = record.entityTag
    if answer.header.flags.contains(.replayed) { reply.headers[.idempotencyReplayed] = "true" }
    reply.isAudited = isAudited
    return waited(reply, wait)
  }

  /// Asks exec to start a job.
  private func start(_ run: RunRequest) async throws -> Frame {
    let frame = try Frame(FrameHeader(.run), json: run)
    let answer: Result<Frame, Problem>
    do {
      // Without a key not repeatable: a second try might be a second job.
      answer = try await exec.converse(timeout: JobRoutes.runTimeout, isRepeatable: run.key != nil) { connection in
        do {
          return .success(try await connection.request(frame))
        } catch let refusal as Problem {
          return .failure(refusal)  // exec's own words: it is there, and started nothing
        }
      }
    } catch let problem as Problem where problem.kind == .unavailable {
      let advice =
        run.key == nil
        ? "if the job was started, GET /v1/jobs lists it"
        : "ask again with the same Idempotency-Key: if the job was started, no second one is"
      throw Problem(.unavailable, "\(problem.detail); \(advice)", retryAfter: problem.retryAfter)
    }
    return try answer.get()
  }

  /// The record of the job that exec's answer names: exec lets go of jobs that have ended, and remembers their keys longer.
  private func admitted(_ answer: Frame) async throws -> JobRecord {
    guard answer.payload.readableBytes == 0 else { return try answer.decode() }
    let id = answer.header.job
    do {
      return try await directory.record(id)
    } catch let problem as Problem where problem.kind == .notFound {
      // No advice to use a new key: that would run the command once more, and it may have done its work.
      throw Problem(
        .conflict,
        "job \(id) was started by this Idempotency-Key; its record is no longer kept (it was deleted, or this node stores nothing)"
      )
    }
  }

  /// Says that a preference to wait was heeded (RFC 7240, section 3).
  private func waited(_ reply: Reply, _ wait: Int?) -> Reply {
    guard let wait else { return reply }
    var reply = reply
    reply.headers[.preferenceApplied] = "wait=\(wait)"
    reply.isLongPoll = true
    return reply
  }

  func list(_ context: RequestContext) async throws -> Reply {
    let query = try ListParameters.query(context.target)
    let page = try await directory.page(query)
    var body = ByteBuffer()
    body.writeStaticString("{\"jobs\":[")
    for (index, job) in page.jobs.enumerated() {
      if index > 0 { body.writeStaticString(",") }
      body.writeImmutableBuffer(job.json)
    }
    body.writeStaticString("]")
    if let next = page.next { body.writeString(",\"next_cursor\":\"\(Cursor.encode(next))\"") }
    body.writeStaticString("}\n")
    return markStale(.json(.ok, body))
  }

  func get(_ context: RequestContext) async throws -> Reply {
    _ = try QueryReader(context.target, known: [])
    let id = try context.jobID()
    let wait = RequestFields.wait(context.request.headerFields[.prefer])
    var (body, tag, isEnded) = try await directory.representation(id)
    if let wait, !isEnded {
      await view.waitForEnd(of: id, atMost: .seconds(wait))
      (body, tag, isEnded) = try await directory.representation(id)
    }
    var reply: Reply
    if let known = context.request.headerFields[.ifNoneMatch], RequestFields.hasMatch(known, tag) {
      reply = Reply(.notModified)
    } else {
      body.writeStaticString("\n")
      reply = .json(.ok, body)
    }
    reply.headers[.eTag] = tag
    // A cache may keep it, and has to ask each time.
    reply.headers[.cacheControl] = "no-cache"
    return waited(markStale(reply), wait)
  }

  func stop(_ context: RequestContext) async throws -> Reply {
    let caller = try context.authenticatedCaller()
    _ = try QueryReader(context.target, known: [])
    let id = try context.jobID()
    let body = try await context.body.collect(limit: JSONBody.maxLength)
    let options = body.readableBytes == 0 ? StopOptions() : try JSONBody.decode(StopOptions.self, from: body)
    try requireExec()
    let request = StopRequest(job: id, caller: caller, graceMilliseconds: try options.graceMilliseconds())
    return try await change(id, Frame(FrameHeader(.stop, job: id), json: request), .accepted)
  }

  /// - Parameter type: `pause` or `resume`.
  func setPaused(_ context: RequestContext, _ type: FrameType) async throws -> Reply {
    let caller = try context.authenticatedCaller()
    _ = try QueryReader(context.target, known: [])
    let id = try context.jobID()
    try requireExec()
    return try await change(id, Frame(FrameHeader(type, job: id), json: caller), .ok)
  }

  /// Longer than exec waits for a job to stand still.
  private static let changeTimeout: Duration = .seconds(30)

  /// Asks exec for a change of a job that has not ended.
  private func change(_ id: JobID, _ frame: Frame, _ status: HTTPResponse.Status) async throws -> Reply {
    do {
      let record: JobRecord = try await exec.request(frame, timeout: JobRoutes.changeTimeout).decode()
      view.apply(record)
      return .json(status, JSONText.encode(record), target: id.description)
    } catch let problem as Problem where problem.kind == .notFound {
      // exec lets go of jobs that have ended; to say which it is, the store is asked.
      if let stored = try await directory.stored(id) {
        throw Problem(.conflict, "job \(id) has ended already: \(stored.status.rawValue)")
      }
      throw problem
    }
  }

  func delete(_ context: RequestContext) async throws -> Reply {
    let caller = try context.authenticatedCaller()
    _ = try QueryReader(context.target, known: [])
    let id = try context.jobID()
    try await requireBoth()
    try await remove(id, caller, nil)
    return Reply(.noContent, target: id.description)
  }

  /// How long a call that deletes many jobs goes on before it answers with what it has done.
  private static let deletionTime: Duration = .seconds(20)

  /// Deletes every ended job that meets the conditions, oldest pages last. One that can't be deleted does not keep the others.
  func deleteAll(_ context: RequestContext) async throws -> Reply {
    let caller = try context.authenticatedCaller()
    var query = try ListParameters.query(context.target, names: ListParameters.conditions)
    let ended = JobStatus.allCases.filter(\.isEnded)
    if let other = query.statuses?.first(where: { !$0.isEnded }) {
      throw Problem(
        .invalidField,
        "status: a job that is \(other.rawValue) has not ended and can't be deleted; allowed is one or more of "
          + ended.map(\.rawValue).joined(separator: ", "), field: "status")
    }
    query.statuses = query.statuses ?? ended
    query.limit = 200
    try await requireBoth()
    let deadline = ContinuousClock.now + JobRoutes.deletionTime
    var answer = JobsDeleted(deleted: 0, hasMore: false)
    var failure: Problem?
    repeat {
      let page = try await directory.page(query)
      for job in page.jobs {
        guard ContinuousClock.now < deadline else {
          answer.hasMore = true
          break
        }
        // A client that left gets no more done than it saw begin.
        try Task.checkCancellation()
        do {
          try await remove(job.id, caller, context.audit)
          answer.deleted += 1
        } catch let problem as Problem where problem.kind == .notFound {
          // Somebody else was faster.
        } catch let problem as Problem {
          failure = failure ?? JobRoutes.incomplete(problem, job.id)
          // With one of the services away every other job would lose a half.
          if problem.kind == .unavailable, !(await haveBoth()) {
            answer.hasMore = true
            break
          }
        }
      }
      query.before = page.next
    } while query.before != nil && !answer.hasMore
    if var failure {
      failure.detail = "\(answer.deleted) jobs were deleted, but not all: \(failure.detail)"
      throw failure
    }
    return .json(.ok, JSONText.encode(answer))
  }

  private static func incomplete(_ problem: Problem, _ job: JobID) -> Problem {
    var problem = problem
    problem.detail = "job \(job): \(problem.detail)"
    return problem
  }

  private func haveBoth() async -> Bool {
    do { try await requireBoth() } catch { return false }
    return true
  }

  /// Both halves of a job go or none: if its data can't be deleted now, the job stays known too.
  private func requireBoth() async throws {
    try requireExec()
    guard let persistWatch, !(await persistWatch.probe()) else { return }
    throw Problem(
      .unavailable, "joblet-persist does not answer, so jobs' data can't be deleted now", retryAfter: 2)
  }

  /// - Parameter audit: writes the job's own line, where the call is about more than one.
  private func remove(_ id: JobID, _ caller: Caller, _ audit: RequestContext.Audit?) async throws {
    // A task of its own: a client that leaves between the halves leaves no job without its data, or data without its job.
    let removal = Task {
      do {
        try await removeBoth(id, caller)
        await audit?(id.description, .noContent, nil)
      } catch let problem as Problem {
        if problem.kind != .notFound { await audit?(id.description, .init(code: problem.kind.status), problem) }
        throw problem
      }
    }
    try await removal.value
  }

  private func removeBoth(_ id: JobID, _ caller: Caller) async throws {
    var isKnownToExec = true
    do {
      _ = try await exec.request(Frame(FrameHeader(.deleteJob, job: id), json: caller))
    } catch let problem as Problem where problem.kind == .notFound {
      isKnownToExec = false
    }
    do {
      if let persist {
        _ = try await persist.request(Frame(FrameHeader(.deleteJobData, job: id)), timeout: .seconds(30))
      } else if !isKnownToExec {
        throw Problem(.notFound, "there is no job \(id)")
      }
    } catch let problem as Problem where problem.kind == .notFound && isKnownToExec {
      // It had not written anything yet.
    }
    view.delete(id)
  }

  private func requireExec() throws(Problem) {
    guard view.isConnected else {
      throw Problem(
        .unavailable, "joblet-exec is away; jobs go on running and can be changed when it is back", retryAfter: 2)
    }
  }

  /// Says in a header that exec has been away for so many seconds, so that what a running job's record says may be old.
  private func markStale(_ reply: Reply) -> Reply {
    guard let staleness = view.staleness else { return reply }
    var reply = reply
    reply.headers[.stale] = "\(staleness.components.seconds)"
    return reply
  }
}

/// The optional body of `POST /v1/jobs/{id}/stop`.
public struct StopOptions: Codable, Hashable, Sendable {
  /// Between SIGTERM and the kill, `5s`; absent means the node's `joblet.stopGrace`.
  public var grace: String?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case grace
  }

  public init(grace: String? = nil) { self.grace = grace }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseUnknownFields(CodingKeys.self)
    grace = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent(String.self, forKey: .grace)
  }

  static let graceRange: ClosedRange<Duration> = .zero ... .seconds(3600)

  func graceMilliseconds() throws(Problem) -> Int64? {
    guard let grace else { return nil }
    guard let duration = DurationText.parse(grace), StopOptions.graceRange.contains(duration) else {
      throw Problem(
        .invalidField, "grace: '\(grace.prefix(64))' is not allowed; allowed is \(DurationText.allowed), 0 to 1h",
        field: "grace")
    }
    return duration.milliseconds
  }
}
