import HTTPTypes
import JobletModel
import JobletWire

/// `/v1/jobs/{id}/logs` and `/v1/jobs/{id}/metrics`: a job's records, live and stored, in three formats.
struct StreamRoutes: Sendable {
  let source: StreamSource

  func logs(_ context: RequestContext) async throws -> Reply {
    let id = try context.jobID()
    let parameters = try LogParameters(context.target, lastEventID: context.request.headerFields[.lastEventID])
    try requireStore(parameters.storeParameter)
    // Before the head goes out: a job that is not there is a 404, not an empty log.
    let record = try await source.directory.record(id)
    if parameters.follow, let regex = parameters.regex { try await check(regex) }
    return try stream(record, parameters, context, formatter: LogFormatter.self)
  }

  func metrics(_ context: RequestContext) async throws -> Reply {
    let id = try context.jobID()
    let parameters = try MetricParameters(context.target, lastEventID: context.request.headerFields[.lastEventID])
    try requireStore(parameters.storeParameter)
    let record = try await source.directory.record(id)
    return try stream(record, parameters, context, formatter: MetricFormatter.self)
  }

  private func requireStore(_ parameter: String?) throws(Problem) {
    if let parameter, source.directory.persist == nil { throw StreamQuery.needsStore(parameter) }
  }

  /// A followed stream's head goes out before its first query: what is wrong with an expression must be known by then.
  private func check(_ regex: String) async throws {
    guard let persist = source.directory.persist else { return }
    let query = LogQuery(job: .none, regex: regex, limit: 1)
    do {
      _ = try await persist.request(Frame(FrameHeader(.queryLogs), json: query))
    } catch let problem as Problem where problem.kind == .notFound {
      // It was read, and no job of the name was found: as meant.
    }
  }

  private func stream<Formatter: RecordFormatter & ~Copyable>(
    _ record: JobRecord, _ parameters: Formatter.Parameters, _ context: RequestContext, formatter: Formatter.Type
  ) throws -> Reply {
    guard let format = StreamFormat(rawValue: context.mediaType) else {
      throw Problem(.notAcceptable, "on offer here: \(StreamFormat.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let connection = context.connection
    let follower = Follower<Formatter>(
      record: record, format: format, parameters: parameters, source: source,
      requestID: context.requestID,
      checkCaller: { _ = try connection.identity() })
    var reply = Reply(.ok, .stream { try await follower.run($0) }, type: format.contentType)
    // A job's output is nobody's to keep, and a proxy that collects it first would make it late.
    reply.headers[.cacheControl] = "no-store"
    reply.headers[.accelBuffering] = "no"
    // What a job prints must not become a page in somebody's browser.
    reply.headers[.xContentTypeOptions] = "nosniff"
    return reply
  }
}
