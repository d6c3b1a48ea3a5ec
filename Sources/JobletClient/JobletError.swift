import HTTPClient
import JobletModel

/// Why a call failed.
public enum JobletError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The node answered with an error.
  case refused(Refusal)
  /// The node could not be reached, or the connection failed.
  case unreachable(HTTPError)
  /// The node's answer is not one a Joblet node gives.
  case badReply(String)
  /// A job could not be posted, for this reason at last, and one of the tries may have reached the node: whether it started
  /// the job is not known.
  indirect case startUnknown(JobletError)

  /// What an error reply said.
  public struct Refusal: Sendable, Hashable {
    public var status: Int
    /// Nil for a reply that is no problem document of Joblet's, of a proxy for instance.
    public var kind: Problem.Kind?
    public var title: String
    public var detail: String
    public var field: String?
    /// Seconds after which a new try makes sense.
    public var retryAfter: Int?
    /// By which the node's journal knows the request.
    public var requestID: String?

    package init(
      status: Int, kind: Problem.Kind? = nil, title: String = "", detail: String = "", field: String? = nil,
      retryAfter: Int? = nil, requestID: String? = nil
    ) {
      self.status = status
      self.kind = kind
      self.title = title
      self.detail = detail
      self.field = field
      self.retryAfter = retryAfter
      self.requestID = requestID
    }
  }

  public var description: String {
    switch self {
    case .refused(let refusal): refusal.detail.isEmpty ? refusal.title : refusal.detail
    case .unreachable(let error): error.message
    case .badReply(let text): text
    case .startUnknown(let error): "\(error.description); whether the job was started is not known"
    }
  }
}
