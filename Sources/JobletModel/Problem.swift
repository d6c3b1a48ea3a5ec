/// An error as a client sees it: RFC 9457 `application/problem+json`. The same type crosses the internal sockets, so that
/// what exec or persist refuse reaches the client in their words.
public struct Problem: Error, Codable, Hashable, Sendable, CustomStringConvertible {
  /// A stable name clients may switch on; printed as `urn:joblet:problem:<kind>` in `type`.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case badRequest = "bad-request"
    case invalidField = "invalid-field"
    case unauthenticated
    case forbidden
    case notFound = "not-found"
    case methodNotAllowed = "method-not-allowed"
    case notAcceptable = "not-acceptable"
    case conflict
    /// The `Idempotency-Key` was used for another request.
    case keyReused = "idempotency-key-reused"
    /// The first request with this `Idempotency-Key` is still being answered.
    case keyInUse = "idempotency-key-in-use"
    case tooLarge = "too-large"
    case unsupportedMediaType = "unsupported-media-type"
    case tooManyJobs = "too-many-jobs"
    case internalError = "internal-error"
    case unavailable

    /// The HTTP status that goes with it.
    public var status: Int {
      switch self {
      case .badRequest: 400
      case .invalidField: 422
      case .unauthenticated: 401
      case .forbidden: 403
      case .notFound: 404
      case .methodNotAllowed: 405
      case .notAcceptable: 406
      case .conflict, .keyInUse: 409
      case .keyReused: 422
      case .tooLarge: 413
      case .unsupportedMediaType: 415
      case .tooManyJobs: 429
      case .internalError: 500
      case .unavailable: 503
      }
    }

    /// The URN that clients see in `type`.
    public var type: String { "urn:joblet:problem:\(rawValue)" }

    /// The short title, the same for every problem of the kind.
    public var title: String {
      switch self {
      case .badRequest: "The request can't be read"
      case .invalidField: "A field has a wrong value"
      case .unauthenticated: "The certificate names no known role"
      case .forbidden: "The role may not do this"
      case .notFound: "There is no such thing"
      case .methodNotAllowed: "The method is not allowed here"
      case .notAcceptable: "None of the accepted formats is on offer"
      case .conflict: "The state does not allow this"
      case .keyReused: "The key was used for another request"
      case .keyInUse: "The request with this key is still being answered"
      case .tooLarge: "The request is too large"
      case .unsupportedMediaType: "The body's format is not understood"
      case .tooManyJobs: "The node has no room for another job now"
      case .internalError: "Something failed here that should not"
      case .unavailable: "A part of the service is away"
      }
    }
  }

  public var kind: Kind
  /// What happened and what to do, for a person.
  public var detail: String
  /// The field that was wrong, where there is one.
  public var field: String?
  /// Seconds after which a new try makes sense.
  public var retryAfter: Int?

  public init(_ kind: Kind, _ detail: String, field: String? = nil, retryAfter: Int? = nil) {
    self.kind = kind
    self.detail = detail
    self.field = field
    self.retryAfter = retryAfter
  }

  public init(_ error: ValidationError) {
    self.init(.invalidField, error.description, field: error.field)
  }

  enum CodingKeys: String, CodingKey {
    case kind, detail, field
    case retryAfter = "retry_after"
  }

  public var description: String { "\(kind.rawValue): \(detail)" }
}
