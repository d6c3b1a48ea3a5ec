import HTTPTypes
import JobletModel
import NIOCore

/// What is known of a connection once it is set up.
struct ConnectionInfo: Sendable {
  enum Version: String, Sendable {
    case http1 = "HTTP/1.1"
    case http2 = "HTTP/2"
  }

  var version: Version
  /// From the client certificate; a problem where it names no role, which every request then gets. Nil on the plain health
  /// listener, whose routes ask for nobody.
  var peer: Result<PeerIdentity, Problem>?
  var remote: String
  /// Knows which certificates are no longer taken.
  var tls: CurrentTLS?

  /// Who is at the other end, if they may still be; nil on the health listener. To be asked for each request, and now and
  /// then on a stream.
  /// - Throws: ``JobletModel/Problem`` `unauthenticated`: no role, expired, revoked.
  func identity() throws(Problem) -> PeerIdentity? {
    guard let identity = try peer?.get() else { return nil }
    if let tls { try tls.check(identity) } else { try identity.checkExpiry() }
    return identity
  }
}

/// One request, as a route sees it.
struct RequestContext: Sendable {
  var request: HTTPRequest
  var connection: ConnectionInfo
  var requestID: String
  var body: RequestBody
  var target = RequestTarget()
  /// Who asks; on the health listener nobody.
  var caller: Caller?
  /// The path's `{id}`.
  var parameter: String?
  /// Writes an audit line about one job before the call is answered.
  typealias Audit = @Sendable (_ target: String, _ status: HTTPResponse.Status, _ problem: Problem?) async -> Void
  /// For routes that change more than one job, or answer long after the change. Nil where nothing is audited.
  var audit: Audit?
  /// The media type the client prefers of those the route offers.
  var mediaType = ""

  /// - Throws: ``Problem`` `not-found`: what is not an ID is the name of no job.
  func jobID() throws(Problem) -> JobID {
    let text = parameter ?? ""
    guard let id = JobID(text) else {
      throw Problem(.notFound, "'\(text.prefix(64))' is not a job's ID; IDs are UUIDs, see GET /v1/jobs")
    }
    return id
  }

  /// Which trace the call belongs to; nil where it came with none that can be read.
  var traceContext: TraceContext? { request.headerFields[.traceparent].flatMap { TraceContext($0) } }

  func authenticatedCaller() throws(Problem) -> Caller {
    guard let caller else { throw Problem(.unauthenticated, "this needs a client certificate") }
    return caller
  }
}

extension RequestTarget {
  /// The target of no request.
  init() {
    segments = []
    query = []
  }
}

/// Answers requests; one instance serves every connection of a listener.
protocol RequestResponder: Sendable {
  func respond(to context: RequestContext, through writer: ResponseWriter) async
}

/// A request's body, not read before somebody asks for it: until then it waits in the socket.
struct RequestBody: Sendable {
  let handler: NIOLoopBound<ExchangeHandler>
  let loop: any EventLoop
  let exchange: UInt64
  /// `server.max_body`, whatever the route would take.
  var ceiling = Int.max

  /// The whole body.
  /// - Throws: ``Problem`` `too-large` beyond `limit` bytes or the ceiling, by `Content-Length` before one is read.
  func collect(limit: Int) async throws -> ByteBuffer {
    let limit = min(limit, ceiling)
    let promise = loop.makePromise(of: ByteBuffer.self)
    loop.execute { handler.value.collectBody(exchange: exchange, limit: limit, promise: promise) }
    return try await promise.futureResult.get()
  }
}

/// Writes one response. Every call returns when its bytes have left: on HTTP/1.1 they are with the kernel, on HTTP/2 flow
/// control has let them out. So a response has one batch in flight, whoever reads it and however slowly.
struct ResponseWriter: Sendable {
  let handler: NIOLoopBound<ExchangeHandler>
  let loop: any EventLoop
  let exchange: UInt64

  func send(head: HTTPResponse? = nil, body: consuming ByteBuffer? = nil, isEnd: Bool = false) async throws {
    let promise = loop.makePromise(of: Void.self)
    hand(over: ResponseParts(head: head, body: consume body, isEnd: isEnd), promise)
    try await promise.futureResult.get()
  }

  /// A function of its own, so that nothing holds the bytes while they leave.
  private func hand(over parts: consuming ResponseParts, _ promise: EventLoopPromise<Void>) {
    let parts = consume parts
    if loop.inEventLoop {
      handler.value.send(parts, exchange: exchange, promise: promise)
    } else {
      loop.execute { handler.value.send(parts, exchange: exchange, promise: promise) }
    }
  }

  /// Breaks the response off so that the client sees it is not whole.
  func abort() {
    loop.execute { handler.value.abort(exchange: exchange) }
  }
}

struct ResponseParts: Sendable {
  var head: HTTPResponse?
  var body: ByteBuffer?
  var isEnd: Bool
}
