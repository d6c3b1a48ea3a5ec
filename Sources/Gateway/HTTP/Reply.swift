import HTTPTypes
import JobletModel
import NIOCore

/// What a route answers.
struct Reply: Sendable {
  var status: HTTPResponse.Status
  var headers = HTTPFields()
  var content: Content
  /// What the call was about, for the audit line: a job's ID.
  var target: String?
  /// The client asked to be kept waiting: how long it took says nothing of speed.
  var isLongPoll = false
  /// The route has written the call's audit line itself.
  var isAudited = false

  enum Content: Sendable {
    case none
    case bytes(ByteBuffer)
    /// A body that is made while it is sent. The head goes out with the first bytes, or when the body says so; what it
    /// throws before that is answered as a problem, after that it breaks the connection off: a client must be able to tell
    /// a body that is whole from one that is not.
    case stream(@Sendable (ResponseStream) async throws -> Void)
  }

  init(_ status: HTTPResponse.Status, _ content: Content = .none, type: String? = nil, target: String? = nil) {
    self.status = status
    self.content = content
    self.target = target
    if let type { headers[.contentType] = type }
  }

  /// A JSON reply.
  static func json(_ status: HTTPResponse.Status, _ bytes: ByteBuffer, target: String? = nil) -> Reply {
    Reply(status, .bytes(bytes), type: "application/json", target: target)
  }
}

extension JobRecord {
  /// The entity tag of a record's JSON, weak: the same for every content coding (RFC 9110, section 8.8.3).
  var entityTag: String { "W/\"\(version)\"" }
}

extension HTTPField.Name {
  static let requestID = known("X-Request-Id")
  static let lastEventID = known("Last-Event-ID")
  static let stale = known("X-Joblet-Stale")
  static let accelBuffering = known("X-Accel-Buffering")
}
