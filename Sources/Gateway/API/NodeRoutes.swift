import HTTPTypes
import JobletModel
import NIOCore

/// `/v1/node` and `/v1/nodes`: how this node stands, once or again and again.
struct NodeRoutes: Sendable {
  let reporter: NodeReporter
  let drain: DrainSignal
  /// The longest silence on a stream.
  let heartbeat: Duration

  static let mediaTypes = ["application/json", EventFormat.sse.rawValue]
  static let intervalRange: ClosedRange<Duration> = .seconds(1) ... .seconds(3600)

  func node(_ context: RequestContext) async throws -> Reply {
    let query = try QueryReader(context.target, known: ["stream", "interval"])
    let accept = context.request.headerFields[.accept]
    let wanted = query.text("stream") == "" ? true : try query.flag("stream")
    let isStream = wanted ?? (context.mediaType == EventFormat.sse.rawValue)
    let type = isStream ? EventFormat.sse.rawValue : "application/json"
    guard AcceptHeader.choose(accept, from: [type]) != nil else {
      throw Problem(.notAcceptable, "with stream=\(isStream) only \(type) is on offer, which Accept rules out")
    }
    let interval = try query.value("interval", "1s to 1h") { text in
      DurationText.parse(text).flatMap { NodeRoutes.intervalRange.contains($0) ? $0 : nil }
    }
    guard isStream else {
      guard interval == nil else {
        throw Problem(.invalidField, "interval: has a meaning only with stream=true", field: "interval")
      }
      let status = await reporter.status()
      var reply = Reply.json(.ok, JSONText.encode(status))
      reply.headers[.cacheControl] = "no-store"
      if let away = reporter.view.staleness { reply.headers[.stale] = "\(away.components.seconds)" }
      return reply
    }
    let connection = context.connection
    let session = NodeStream(
      routes: self, interval: interval ?? .seconds(5), requestID: context.requestID,
      checkCaller: { _ = try connection.identity() })
    return .live(type) { try await session.run($0) }
  }

  func nodes(_ context: RequestContext) async throws -> Reply {
    _ = try QueryReader(context.target, known: [])
    var reply = Reply.json(.ok, JSONText.encode(NodeList(nodes: [await reporter.summary()])))
    reply.headers[.cacheControl] = "no-store"
    return reply
  }
}

/// The answer to `GET /v1/nodes`.
struct NodeList: Codable, Hashable, Sendable {
  var nodes: [NodeSummary]
}

/// One stream of `/v1/node`.
private struct NodeStream: Sendable {
  let routes: NodeRoutes
  let interval: Duration
  let requestID: String
  let checkCaller: @Sendable () throws -> Void

  func run(_ stream: ResponseStream) async throws {
    let me = self
    let isDraining = try await routes.drain.interrupting { try await me.send(stream) }
    guard isDraining else { return }
    var farewell = ByteBuffer()
    EventFormat.sse.reconnect(&farewell)
    try await stream.write(farewell)
  }

  private func send(_ stream: ResponseStream) async throws {
    var out = ByteBuffer()
    EventFormat.sse.begin(&out)
    try await stream.start()
    var next = ContinuousClock.now
    while true {
      EventFormat.sse.event("node", json: await routes.reporter.status(), &out)
      try await write(&out, stream)
      // From the last one's time on and not from now, so that figures of many events are evenly spaced; a client that was
      // stalled gets no burst.
      next = max(next + interval, .now)
      while next > .now {
        try await Task.sleep(for: min(next - .now, routes.heartbeat))
        do {
          try checkCaller()
        } catch let problem as Problem {
          EventFormat.sse.event("problem", json: ProblemDocument(problem: problem, requestID: requestID), &out)
          try await write(&out, stream)
          throw problem
        }
        guard next > .now else { break }
        EventFormat.sse.heartbeat(&out)
        try await write(&out, stream)
      }
    }
  }

  private func write(_ out: inout ByteBuffer, _ stream: ResponseStream) async throws {
    do {
      try await stream.write(out)
    } catch {
      throw ClientLeft()
    }
    out.clear()
  }
}
