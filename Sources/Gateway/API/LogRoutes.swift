import HTTPTypes
import JobletModel

/// `/v1/jobs/{id}/logs`: the output, live and stored, in three formats.
struct LogRoutes: Sendable {
  let exec: FramePool
  let directory: JobDirectory
  let drain: DrainSignal

  func logs(_ context: RequestContext) async throws -> Reply {
    let id = try context.jobID()
    let parameters = try LogParameters(
      context.target, lastEventID: context.request.headerFields[.lastEventID])
    // Before the head goes out: a job that is not there is a 404, not an empty log.
    let record = try await directory.record(id)
    guard let format = LogFormat(rawValue: context.mediaType) else {
      throw Problem(.notAcceptable, "on offer here: \(LogFormat.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    let peer = try context.connection.peer?.get()
    let follower = LogFollower(
      job: record.id, format: format, parameters: parameters, exec: exec, directory: directory, drain: drain,
      checkCaller: { try peer?.checkExpiry() })
    let type = format == .text ? "text/plain; charset=utf-8" : format.rawValue
    var reply = Reply(.ok, .stream { try await follower.run($0) }, type: type)
    // A job's output is nobody's to keep, and a proxy that collects it first would make it late.
    reply.headers[.cacheControl] = "no-store"
    reply.headers[.accelBuffering] = "no"
    // What a job prints must not become a page in somebody's browser.
    reply.headers[.xContentTypeOptions] = "nosniff"
    return reply
  }
}
