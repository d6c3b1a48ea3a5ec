import HTTPClient
import JobletClient
import JobletModel

/// Turns a client's error into three parts.
package enum Explain {
  /// - Parameter conflict: what to do where the state of the job is in the way; nil to look at it.
  package static func failure(
    _ error: JobletError, what: String, address: String, conflict: String? = nil
  ) -> Failure {
    switch error {
    case .refused(let refusal): refused(refusal, what: what, conflict: conflict)
    case .unreachable(let error): unreachable(error, address: address)
    case .badReply(let text):
      Failure(
        what, why: "\(address) answered, but not as a Joblet node does: \(text)",
        next: "check the address in the configuration, and that rnx and the node are of like versions")
    case .startUnknown(let last): startUnknown(failure(last, what: what, address: address))
    }
  }

  private static func refused(_ refusal: JobletError.Refusal, what: String, conflict: String?) -> Failure {
    let detail = refusal.detail.isEmpty ? refusal.title : refusal.detail
    let next: String =
      switch refusal.kind {
      case .notFound: "'rnx job list' shows the jobs there are"
      case .forbidden: "use a configuration with a higher role: rnx-config-<role>.yml on the node, with --config"
      case .unauthenticated: "get a new rnx-config.yml from the node; 'joblet-certs init' makes them"
      case .invalidField, .badRequest: "correct it and try again"
      case .conflict: conflict ?? "look at the job with 'rnx job status'"
      case .tooManyJobs: "try again\(refusal.retryAfter.map { " in \($0) seconds" } ?? " later"), or stop a job"
      case .unavailable:
        "try again\(refusal.retryAfter.map { " in \($0) seconds" } ?? " shortly"); on the node, 'systemctl status joblet' tells more"
      default:
        refusal.requestID.map { "on the node, 'journalctl -u joblet-api' tells more; the request is \($0)" }
          ?? "on the node, 'journalctl -u joblet-api' tells more"
      }
    return Failure(what, why: refusal.kind == nil ? "HTTP status \(refusal.status): \(detail)" : detail, next: next)
  }

  private static func startUnknown(_ last: Failure) -> Failure {
    var failure = last
    failure.next =
      "whether the job was started is not known: look with 'rnx job list' before you run it again; \(last.next)"
    return failure
  }

  /// How libcurl and OpenSSL word a connection that the other side ended while something was still being sent: a node that
  /// refuses our certificate closes at once, and whether its alert is read before that is chance.
  private static let closings = ["getpeername()", "not connected", "reset by peer", "broken pipe", "ssl_error_syscall"]

  private static func unreachable(_ error: HTTPError, address: String) -> Failure {
    Failure("the node at \(address) can't be reached", why: error.message, next: next(after: error))
  }

  private static func next(after error: HTTPError) -> String {
    let words = error.message.lowercased()
    if words.contains("wrong version number") {
      return "there is no TLS at this address: a wrong port? (the API's port is 50051)"
    }
    if closings.contains(where: { words.contains($0) }) {
      return
        "the node may not accept your certificate: get a new rnx-config.yml from the node; or it went away: try again"
    }
    return switch error.kind {
    case .cannotResolve, .badRequest: "check the address in the configuration"
    case .cannotConnect, .timedOut:
      "check that the node runs ('systemctl status joblet' there) and that its port can be reached"
    case .serverNotTrusted:
      "the node's certificate is of another CA, has run out, or is not for this address: get a new rnx-config.yml from the "
        + "node, or add the name there with JOBLET_ADDITIONAL_NAMES and 'joblet-certs init'"
    case .badCredentials:
      "cert and key in the configuration can't be used together: get a new rnx-config.yml from the node"
    case .tls: "the node may not accept your certificate: get a new rnx-config.yml from the node"
    case .interrupted, .other: "try again; on the node, 'journalctl -u joblet-api' tells more"
    }
  }
}
