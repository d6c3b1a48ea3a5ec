import JobletModel
import JobletWire
import Synchronization

/// Puts together how the node stands: what exec sees of the host and its jobs, what persist said last, and what only the
/// gateway knows.
struct NodeReporter: Sendable {
  let exec: FramePool
  let persistWatch: PersistWatch?
  let view: LiveView
  let readiness: Readiness
  let metrics: GatewayMetrics
  let certificates: CertificateBoard
  let nodeID: String
  /// `server.advertise`, else where the gateway listens; nil where that names no host.
  let address: String?

  private let cache = ExecReport()

  init(
    exec: FramePool, persistWatch: PersistWatch?, view: LiveView, readiness: Readiness, metrics: GatewayMetrics,
    certificates: CertificateBoard, nodeID: String, address: String?
  ) {
    self.exec = exec
    self.persistWatch = persistWatch
    self.view = view
    self.readiness = readiness
    self.metrics = metrics
    self.certificates = certificates
    self.nodeID = nodeID
    self.address = address
  }

  /// exec's last report, kept for a moment: however many look at the node, exec does it once.
  private final class ExecReport: Sendable {
    static let age: Duration = .milliseconds(500)
    private let state = Mutex<(report: NodeStatus, taken: ContinuousClock.Instant)?>(nil)

    var fresh: NodeStatus? {
      state.withLock { $0.flatMap { .now - $0.taken < ExecReport.age ? $0.report : nil } }
    }
    func keep(_ report: NodeStatus) { state.withLock { $0 = (report, .now) } }
  }

  func status() async -> NodeStatus {
    let told = await execReport()
    var status = told ?? NodeStatus(nodeID: nodeID)
    status.address = address
    let reasons = readiness.reasons
    status.isReady = reasons.isEmpty
    status.reasons = reasons.isEmpty ? nil : reasons
    status.versions.api = jobletVersion
    var jobs = status.jobs ?? NodeStatus.JobsFigures()
    jobs.byStatus = Dictionary(
      uniqueKeysWithValues: view.counts.filter { $0.value > 0 }.map { ($0.key.rawValue, $0.value) })
    status.jobs = jobs
    status.services = NodeStatus.Services(exec: .init(isConnected: told != nil), persist: persistState(&status))
    status.certificates = certificates.statuses()
    status.gateway = NodeStatus.GatewayFigures(connections: metrics.openConnections, streams: metrics.openStreams)
    return status
  }

  func summary() async -> NodeSummary { NodeSummary(await status(), version: jobletVersion) }

  private func execReport() async -> NodeStatus? {
    guard view.isConnected else { return nil }
    if let fresh = cache.fresh { return fresh }
    do {
      let report: NodeStatus = try await exec.request(Frame(FrameHeader(.nodeStatus)), timeout: .seconds(5)).decode()
      cache.keep(report)
      return report
    } catch {
      return nil  // said as `connected: false`
    }
  }

  private func persistState(_ status: inout NodeStatus) -> NodeStatus.Services.Persist? {
    guard let persistWatch else { return nil }
    guard let reply = persistWatch.lastReply, persistWatch.isConnected else { return .init(isConnected: false) }
    status.versions.persist = reply.version
    var persist = NodeStatus.Services.Persist(isConnected: true)
    persist.backend = reply.backend
    persist.freeBytes = reply.freeBytes
    persist.oldest = reply.oldest
    persist.acceptsJobs = reply.condition.acceptsJobs
    persist.reason = reply.condition.acceptsJobs ? nil : reply.condition.reason
    return persist
  }
}
