import DaemonKit
import HTTPTypes
import JobletModel
import JobletWire
import NIOCore
import NIOPosix
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
  private let certificates: CertificateBoard

  init(view: LiveView, persistWatch: PersistWatch?, certificates: CertificateBoard) {
    self.view = view
    self.persistWatch = persistWatch
    self.certificates = certificates
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
    return reasons + certificates.reasons()
  }
}

/// The health listener's routes: plain HTTP, no callers, nothing that names a job.
struct HealthRoutes: Sendable {
  let readiness: Readiness
  let metrics: GatewayMetrics
  let view: LiveView
  let persistWatch: PersistWatch?
  let exec: FramePool
  let certificates: CertificateBoard

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
        async let execStatistics = execStatistics()
        let statistics = await persistWatch?.statistics()
        let body = metrics.exposition(
          GatewayMetrics.Surroundings(
            jobs: view.counts, isExecConnected: view.isConnected, exec: await execStatistics,
            persist: persistWatch.map { _ in .init(statistics: statistics) }, certificates: certificates.statuses(),
            process: await processFigures()))
        return Reply(.ok, .bytes(ByteBuffer(string: body)), type: "text/plain; version=0.0.4; charset=utf-8")
      },
    ]
  }

  private func processFigures() async -> ProcessFigures {
    // It reads files: not on a loop.
    do { return try await NIOThreadPool.singleton.runIfActive { .own() } } catch { return ProcessFigures() }
  }

  /// exec's own metrics in the same form; nil if it gives none soon.
  private func execStatistics() async -> String? {
    guard view.isConnected else { return nil }
    do {
      return String(buffer: try await exec.request(Frame(FrameHeader(.statistics)), timeout: .seconds(2)).payload)
    } catch {
      return nil  // said as joblet_exec_up 0
    }
  }

  private func text(_ status: HTTPResponse.Status, _ body: String) -> Reply {
    var reply = Reply(status, .bytes(ByteBuffer(string: body)), type: "text/plain; charset=utf-8")
    reply.headers[.cacheControl] = "no-store"
    return reply
  }
}
