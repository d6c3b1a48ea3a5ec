import HTTPTypes
import JobletModel
import Logging
import NIOCore

/// From a request to its response: who asks, what for, may they, then the route; then the reply, the counters and the
/// audit line. Nothing below this writes an error of its own.
struct Dispatcher: RequestResponder {
  let router: Router
  let metrics: GatewayMetrics
  /// `server.max_body`: the longest body of any request, in bytes.
  let maxBody: Int
  /// Nil on the health listener.
  let audit: AuditLog?
  let logger: Logger

  func respond(to context: RequestContext, through writer: ResponseWriter) async {
    let started = ContinuousClock.now
    var call = Call(context)
    call.context.body.ceiling = maxBody
    do {
      var reply = try await answer(&call)
      call.target = reply.target ?? call.target
      call.isAudited = reply.isAudited
      await send(&reply, &call, writer)
    } catch {
      var reply = Reply.problem(problem(of: error, &call), requestID: context.requestID)
      if let allow = call.allow { reply.headers[.allow] = allow }
      await send(&reply, &call, writer)
    }
    metrics.record(
      route: call.route?.pattern ?? "none", method: call.method, role: call.context.caller?.role.rawValue ?? "none",
      status: call.status, seconds: call.isStream ? nil : ContinuousClock.now - started)
  }

  /// What is learnt of a call on its way.
  private struct Call {
    var context: RequestContext
    var route: Route?
    var target: String?
    var problem: Problem?
    var allow: String?
    var status = 0
    var isStream = false
    /// Its audit line is written.
    var isAudited = false
    var method: String { route?.method ?? context.request.method.rawValue }

    init(_ context: RequestContext) { self.context = context }
  }

  private func answer(_ call: inout Call) async throws -> Reply {
    // Identity is first: a caller without a role learns nothing, not even which paths exist.
    if let peer = call.context.connection.peer {
      let identity = try peer.get()
      call.context.caller = Caller(
        name: identity.name, role: identity.role, requestID: call.context.requestID,
        traceparent: call.context.traceContext?.description)
      _ = try call.context.connection.identity()
    }
    let request = call.context.request
    // What the server can do at all (RFC 9110, section 9.3.7).
    if request.method == .options, request.path == "*" { return allowed(router.methods, &call) }
    call.context.target = try RequestTarget(request.path ?? "")
    let segments = call.context.target.segments
    let route: Route
    switch router.match(request.method, segments) {
    case .none:
      throw Problem(.notFound, "there is no path '/\(segments.joined(separator: "/").prefix(200))'; \(router.overview)")
    case .otherMethods(let methods):
      if request.method == .options { return allowed(methods, &call) }
      call.allow = methods.joined(separator: ", ")
      throw Problem(
        .methodNotAllowed,
        "\(request.method.rawValue.prefix(32)) is not allowed here; allowed: \(methods.joined(separator: ", "))")
    case .found(let found, let parameter):
      route = found
      call.route = found
      call.context.parameter = parameter
      call.target = parameter
    }
    try authorize(route, call.context.caller)
    if !route.produces.isEmpty {
      guard let mediaType = AcceptHeader.choose(request.headerFields[.accept], from: route.produces) else {
        throw Problem(.notAcceptable, "on offer here: \(route.produces.joined(separator: ", "))")
      }
      call.context.mediaType = mediaType
    }
    // Of routes that take none as well: nobody is to go on sending what nobody will read.
    if let length = request.headerFields[.contentLength].flatMap({ Int($0) }), length > maxBody {
      throw BodyProblem.tooLarge(maxBody)
    }
    if route.takesBody { try checkContentType(request) }
    call.context.audit = audit(ahead: call)
    return try await route.handler(call.context)
  }

  private func allowed(_ methods: [String], _ call: inout Call) -> Reply {
    var reply = Reply(.noContent)
    reply.headers[.allow] = methods.joined(separator: ", ")
    return reply
  }

  private func authorize(_ route: Route, _ caller: Caller?) throws(Problem) {
    guard let operation = route.operation else { return }
    guard let caller else { throw Problem(.unauthenticated, "this needs a client certificate") }
    guard caller.role.operations.contains(operation) else {
      let able = Role.allCases.filter { $0 != .node && $0.operations.contains(operation) }.map(\.rawValue)
      throw Problem(
        .forbidden,
        "role '\(caller.role.rawValue)' may not do '\(operation.rawValue)'; these may: \(able.joined(separator: ", "))")
    }
  }

  private func checkContentType(_ request: HTTPRequest) throws(Problem) {
    // No body, no type: a body that is optional may be left out, and curl names a type for one that is empty.
    let length = request.headerFields[.contentLength].flatMap { Int($0) }
    let type = request.headerFields[.contentType]
    if request.headerFields[.transferEncoding] == nil, length == 0 || length == nil && type == nil { return }
    guard let type else {
      throw Problem(.unsupportedMediaType, "the body has no Content-Type; send Content-Type: application/json")
    }
    let media = type.prefix { $0 != ";" }.filter { !$0.isWhitespace }.lowercased()
    guard media == "application/json" else {
      throw Problem(
        .unsupportedMediaType,
        "Content-Type '\(type.prefix(80))' is not understood; send Content-Type: application/json (curl: --json)")
    }
    if let encoding = request.headerFields[.contentEncoding], encoding.lowercased() != "identity" {
      throw Problem(.unsupportedMediaType, "Content-Encoding '\(encoding.prefix(40))' is not understood; send it plain")
    }
  }

  private func problem(of error: any Error, _ call: inout Call) -> Problem {
    let problem: Problem
    switch error {
    case let error as Problem: problem = error
    case let error as ValidationError: problem = Problem(error)
    case BodyProblem.tooLarge(let limit):
      let source = limit == maxBody ? "server.max_body" : "the limit here"
      problem = Problem(.tooLarge, "the body is larger than \(limit) bytes, which is \(source)")
    case BodyProblem.crowded:
      problem = Problem(
        .unavailable, "too many unfinished bodies are being received at once; send fewer at a time", retryAfter: 1)
    case BodyProblem.late: problem = Problem(.badRequest, "the body did not arrive in time")
    case is CancellationError, is ChannelError, is ClientLeft:
      problem = Problem(.internalError, "the client left")
    default:
      logger.error("request \(call.context.requestID): \(error)")
      problem = Problem(
        .internalError, "an error that should not happen was logged as request \(call.context.requestID)")
    }
    call.problem = problem
    return problem
  }

  private func send(_ reply: inout Reply, _ call: inout Call, _ writer: ResponseWriter) async {
    reply.headers[.requestID] = call.context.requestID
    call.status = reply.status.code
    call.isStream = reply.isLongPoll
    // Before the answer leaves: whoever has one can find the line of it, even if the gateway is killed in between.
    await writeAudit(call)
    do {
      switch reply.content {
      case .none:
        if reply.status != .noContent, reply.status != .notModified { reply.headers[.contentLength] = "0" }
        try await writer.send(head: HTTPResponse(status: reply.status, headerFields: reply.headers), isEnd: true)
      case .bytes(let plain):
        let bytes = await encode(plain, &reply, call)
        reply.headers[.contentLength] = "\(bytes.readableBytes)"
        metrics.sent(bytes: bytes.readableBytes)
        try await writer.send(
          head: HTTPResponse(status: reply.status, headerFields: reply.headers), body: bytes, isEnd: true)
      case .stream(let body):
        call.isStream = true
        await send(body, reply, &call, writer)
      }
    } catch {
      writer.abort()  // the client is gone; there is nobody to tell
    }
  }

  /// Packs a body for whoever asks for it, where it is worth it, and says on what that hung.
  private func encode(_ plain: ByteBuffer, _ reply: inout Reply, _ call: Call) async -> ByteBuffer {
    let isWorthwhile = plain.readableBytes >= GzipEncoder.worthwhile
    let varies = [
      call.route.map { $0.produces.count > 1 } ?? false ? "Accept" : nil, isWorthwhile ? "Accept-Encoding" : nil,
    ]
    if varies.contains(where: { $0 != nil }) {
      reply.headers[.vary] = varies.compactMap(\.self).joined(separator: ", ")
    }
    guard isWorthwhile, RequestFields.acceptsGzip(call.context.request.headerFields[.acceptEncoding]),
      let packed = await GzipEncoder.body(plain)
    else { return plain }
    reply.headers[.contentEncoding] = "gzip"
    return packed
  }

  private func send(
    _ body: @Sendable (ResponseStream) async throws -> Void, _ reply: Reply, _ call: inout Call,
    _ writer: ResponseWriter
  ) async {
    var head = HTTPResponse(status: reply.status, headerFields: reply.headers)
    head.headerFields[.vary] = "Accept, Accept-Encoding"
    let request = call.context.request
    let stream = ResponseStream(
      writer, head: head, packing: RequestFields.acceptsGzip(request.headerFields[.acceptEncoding]),
      isHead: request.method == .head)
    metrics.streamOpened()
    defer { metrics.streamClosed(bytes: stream.bytesSent) }
    do {
      if !stream.isHead { try await body(stream) }
      try await stream.end()
    } catch {
      guard !stream.isStarted else {
        if !(error is CancellationError || error is ChannelError || error is ClientLeft) {
          logger.warning("request \(call.context.requestID): the stream broke off: \(error)")
        }
        return writer.abort()
      }
      var refusal = Reply.problem(problem(of: error, &call), requestID: call.context.requestID)
      call.isStream = false
      await send(&refusal, &call, writer)
    }
  }

  private func writeAudit(_ call: Call) async {
    guard let audit, !call.isAudited else { return }
    guard Dispatcher.isRefusal(call.status) || call.route?.isMutating == true else { return }
    await audit.write(Dispatcher.line(call))
  }

  /// What a route writes its own lines with.
  private func audit(ahead call: Call) -> RequestContext.Audit? {
    guard let audit, call.route?.isMutating == true else { return nil }
    return { [call] target, status, problem in
      var call = call
      call.target = target
      call.status = status.code
      call.problem = problem
      await audit.write(Dispatcher.line(call))
    }
  }

  private static func isRefusal(_ status: Int) -> Bool { status == 401 || status == 403 }

  private static func line(_ call: Call) -> AuditRecord {
    let path = String((call.context.request.path ?? "").prefix { $0 != "?" }.prefix(200))
    return AuditRecord(
      who: call.context.caller?.name ?? "unknown", role: call.context.caller?.role.rawValue ?? "none",
      operation: call.route?.operation?.rawValue ?? "none", method: call.method, path: path, target: call.target,
      outcome: isRefusal(call.status) ? .refused : call.status < 400 ? .ok : .failed, status: call.status,
      problem: call.problem?.kind.rawValue, requestID: call.context.requestID, remote: call.context.connection.remote,
      traceparent: call.context.traceContext?.description)
  }
}
