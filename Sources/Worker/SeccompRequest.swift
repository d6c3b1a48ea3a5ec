import JobletModel
import Sandbox

extension SeccompFilters {
  /// A request with the profile it gets, so that its record says under which it ran.
  /// - Throws: `Problem` for a profile that allows more than this node's, and for one that does not exist.
  func effective(_ request: JobRequest) throws(Problem) -> JobRequest {
    var request = request
    do {
      request.seccomp = try profile(asked: request.seccomp).rawValue
    } catch {
      throw Problem(.invalidField, "\(error)", field: error.field)
    }
    return request
  }
}
