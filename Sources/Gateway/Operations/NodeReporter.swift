import DaemonKit
import JobletModel
import JobletWire

/// Puts together how the node stands: what exec sees of the host and its jobs, what persist said last, and what only the
/// gateway knows.
struct NodeReporter: Sendable {
  let persistWatch: PersistWatch?
  let view: LiveView
  let readiness: Readiness
  let metrics: GatewayMetrics
  let certificates: CertificateBoard
  let nodeID: String
  /// `server.advertise`, else where the gateway listens; nil where that names no host.
  let address: String?

  /// exec's last report; nil where it gave none, said as `connected: false`. However many look at the node, exec is asked once.
  private let execReport: SharedLook<NodeStatus?>

  init(
    exec: FramePool, persistWatch: PersistWatch?, view: LiveView, readiness: Readiness, metrics: GatewayMetrics,
    certificates: CertificateBoard, nodeID: String, address: String?
  ) {
    self.persistWatch = persistWatch
    self.view = view
    self.readiness = readiness
    self.metrics = metrics
    self.certificates = certificates
    self.nodeID = nodeID
    self.address = address
    execReport = SharedLook(age: .milliseconds(500), patience: .seconds(6)) {
      do {
        return try await exec.request(Frame(FrameHeader(.nodeStatus)), timeout: .seconds(5)).decode()
      } catch {
        return nil
      }
    }
  }

  func status() async -> NodeStatus {
    let told = view.isConnected ? await execReport.value() ?? nil : nil
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
