import HTTPTypes
import JobletModel
import NIOCore
import Synchronization

/// Whether the gateway may be sent requests, and why not.
final class Readiness: Sendable {
  private struct State {
    var hasPassedGate = false
    var isDraining = false
  }

  private let state = Mutex(State())
  private let view: LiveView
  private let persistWatch: PersistWatch?

  init(view: LiveView, persistWatch: PersistWatch?) {
    self.view = view
    self.persistWatch = persistWatch
  }

  func passGate() { state.withLock { $0.hasPassedGate = true } }
  func drain() { state.withLock { $0.isDraining = true } }

  /// Empty when ready.
  var reasons: [String] {
    let state = state.withLock { $0 }
    if state.isDraining { return ["draining: the gateway is stopping"] }
    if !state.hasPassedGate { return ["starting: waiting for joblet-persist"] }
    var reasons: [String] = []
    if !view.isConnected { reasons.append("joblet-exec is away") }
    if let persistWatch, !persistWatch.isConnected { reasons.append("joblet-persist is away") }
    if let refusal = persistWatch?.refusal { reasons.append(refusal) }
    return reasons
  }
}

/// The health listener's routes: plain HTTP, no callers, nothing that names a job.
struct HealthRoutes: Sendable {
  let readiness: Readiness
  let metrics: GatewayMetrics
  let view: LiveView
  let persistWatch: PersistWatch?

  var routes: [Route] {
    let types = ["text/plain", "application/openmetrics-text"]
    return [
      Route(.get, "/healthz", nil, produces: types) { _ in text(.ok, "ok\n") },
      Route(.get, "/readyz", nil, produces: types) { _ in
        let reasons = readiness.reasons
        if reasons.isEmpty { return text(.ok, "ready\n") }
        var reply = text(.serviceUnavailable, reasons.map { $0 + "\n" }.joined())
        reply.headers[.retryAfter] = "2"
        return reply
      },
      Route(.get, "/metrics", nil, produces: types) { _ in
        let statistics = await persistWatch?.statistics()
        let body = metrics.exposition(
          jobs: view.counts, execConnected: view.isConnected,
          persist: persistWatch.map { _ in .init(statistics: statistics) })
        return Reply(.ok, .bytes(ByteBuffer(string: body)), type: "text/plain; version=0.0.4; charset=utf-8")
      },
    ]
  }

  private func text(_ status: HTTPResponse.Status, _ body: String) -> Reply {
    var reply = Reply(status, .bytes(ByteBuffer(string: body)), type: "text/plain; charset=utf-8")
    reply.headers[.cacheControl] = "no-store"
    return reply
  }
}
