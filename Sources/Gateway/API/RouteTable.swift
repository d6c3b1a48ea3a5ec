import HTTPTypes
import JobletModel
import NIOCore

/// Every route of the API, in one table: what the document `openapi/joblet.yaml` describes, and nothing else.
struct RouteTable: Sendable {
  let jobs: JobRoutes
  let streams: StreamRoutes
  let events: EventRoutes
  let node: NodeRoutes

  var routes: [Route] {
    [
      Route(.post, "/v1/jobs", .runJob, takesBody: true) { try await jobs.run($0) },
      Route(.get, "/v1/jobs", .readJobs) { try await jobs.list($0) },
      Route(.delete, "/v1/jobs", .deleteAllJobs) { try await jobs.deleteAll($0) },
      Route(.get, "/v1/jobs/{id}", .readJobs) { try await jobs.get($0) },
      Route(.delete, "/v1/jobs/{id}", .deleteJob, produces: []) { try await jobs.delete($0) },
      Route(.post, "/v1/jobs/{id}/stop", .stopJob, takesBody: true) { try await jobs.stop($0) },
      Route(.post, "/v1/jobs/{id}/pause", .pauseJob) { try await jobs.setPaused($0, .pause) },
      Route(.post, "/v1/jobs/{id}/resume", .resumeJob) { try await jobs.setPaused($0, .resume) },
      Route(.get, "/v1/jobs/{id}/logs", .readJobs, produces: StreamFormat.allCases.map(\.rawValue)) {
        try await streams.logs($0)
      },
      Route(.get, "/v1/jobs/{id}/metrics", .readJobs, produces: StreamFormat.allCases.map(\.rawValue)) {
        try await streams.metrics($0)
      },
      Route(.get, "/v1/events", .readJobs, produces: EventFormat.allCases.map(\.rawValue)) {
        try await events.events($0)
      },
      Route(.get, "/v1/node", .readNode, produces: NodeRoutes.mediaTypes) { try await node.node($0) },
      Route(.get, "/v1/nodes", .readNode) { try await node.nodes($0) },
      Route(.get, "/v1/problems", .readNode) { try ProblemRoutes().list($0) },
      Route(.get, "/openapi.yaml", .readNode, produces: ["application/yaml", "text/plain"]) { context in
        Reply(.ok, .bytes(ByteBuffer(string: openAPIDocument)), type: context.mediaType)
      },
    ]
  }
}
