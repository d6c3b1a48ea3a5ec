import HTTPTypes
import JobletModel

/// `/v1/events`: every job's state changes, as they happen.
struct EventRoutes: Sendable {
  let source: EventSource

  func events(_ context: RequestContext) async throws -> Reply {
    let parameters = try EventParameters(context.target, lastEventID: context.request.headerFields[.lastEventID])
    guard let format = EventFormat(rawValue: context.mediaType) else {
      throw Problem(.notAcceptable, "on offer here: \(EventFormat.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let connection = context.connection
    let follower = EventFollower(
      parameters: parameters, format: format, source: source, requestID: context.requestID,
      checkCaller: { _ = try connection.identity() })
    return .live(format.rawValue) { try await follower.run($0) }
  }
}

extension Reply {
  /// A stream that is made while it is read.
  static func live(_ type: String, _ body: @escaping @Sendable (ResponseStream) async throws -> Void) -> Reply {
    var reply = Reply(.ok, .stream(body), type: type)
    // Of the moment, and nobody's to keep; a proxy that collects it first would make it late.
    reply.headers[.cacheControl] = "no-store"
    reply.headers[.accelBuffering] = "no"
    reply.headers[.xContentTypeOptions] = "nosniff"
    return reply
  }
}
