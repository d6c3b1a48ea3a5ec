import DaemonKit
import JobletModel
import Synchronization

/// The gateway's counters, and their Prometheus text form.
final class GatewayMetrics: Sendable {
  private struct Key: Hashable {
    var route: String
    var method: String
    var role: String
    var status: Int
  }

  private struct Histogram {
    var buckets = [UInt64](repeating: 0, count: GatewayMetrics.bounds.count + 1)
    var sum = 0.0
  }

  private struct State {
    var requests: [Key: UInt64] = [:]
    var latency: [String: Histogram] = [:]
    var openStreams = 0
    var streams: UInt64 = 0
    var bytesSent: UInt64 = 0
    var refusedConnections: [String: UInt64] = [:]
    var closedConnections: [String: UInt64] = [:]
    var droppedReplies: UInt64 = 0
    var openConnections = 0
    var connections: UInt64 = 0
  }

  /// Upper bounds of the latency buckets, in seconds.
  static let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

  private let state = Mutex(State())

  var openStreams: Int { state.withLock { $0.openStreams } }
  var openConnections: Int { state.withLock { $0.openConnections } }

  /// - Parameter seconds: nil for a stream, whose length says nothing of speed.
  func record(route: String, method: String, role: String, status: Int, seconds: Duration?) {
    // The method of an unknown route is the client's word: one label for all of them, or a client could make a million.
    let method = route == "none" ? "other" : method
    state.withLock { state in
      state.requests[Key(route: route, method: method, role: role, status: status), default: 0] += 1
      guard let seconds else { return }
      let value = Double(seconds.nanoseconds) / 1e9
      let bucket = GatewayMetrics.bounds.firstIndex { value <= $0 } ?? GatewayMetrics.bounds.count
      state.latency[route, default: Histogram()].buckets[bucket] += 1
      state.latency[route, default: Histogram()].sum += value
    }
  }

  func sent(bytes: Int) { state.withLock { $0.bytesSent += UInt64(bytes) } }

  func streamOpened() {
    state.withLock { state in
      state.openStreams += 1
      state.streams += 1
    }
  }

  func streamClosed(bytes: Int) {
    state.withLock { state in
      state.openStreams -= 1
      state.bytesSent += UInt64(bytes)
    }
  }

  func connectionOpened() {
    state.withLock { state in
      state.openConnections += 1
      state.connections += 1
    }
  }

  func connectionClosed() { state.withLock { $0.openConnections -= 1 } }

  func connectionRefused(_ reason: String) { state.withLock { $0.refusedConnections[reason, default: 0] += 1 } }

  /// The gateway closed it, for a reason that lies with the client.
  func connectionClosed(_ reason: String) { state.withLock { $0.closedConnections[reason, default: 0] += 1 } }

  func replyDropped() { state.withLock { $0.droppedReplies += 1 } }

  /// What a scrape needs of the others.
  struct Surroundings {
    /// Jobs of the live view.
    var jobs: [JobStatus: Int]
    var isExecConnected: Bool
    /// exec's own metrics in the same form; nil if it does not answer.
    var exec: String?
    /// Nil where nothing is persisted.
    var persist: PersistPart?
    var certificates: [CertificateStatus] = []
    var process = ProcessFigures()
  }

  /// What a scrape finds of persist.
  struct PersistPart {
    /// Its own metrics in the same form; nil if it does not answer.
    var statistics: String?
  }

  /// The text exposition format, version 0.0.4: the gateway's own metrics, then exec's and persist's as they give them.
  func exposition(_ around: Surroundings) -> String {
    let state = state.withLock { $0 }
    var out = PrometheusText(prefix: "joblet_")
    GatewayMetrics.writeRequests(state, &out)
    GatewayMetrics.writeConnections(state, &out)
    out.metric(
      "jobs", .gauge, "Jobs by status: all that have not ended, and the newest 1,000 that have.", label: "status",
      JobStatus.allCases.map { ($0.rawValue, around.jobs[$0] ?? 0) })
    out.metric(
      "certificate_expiry_timestamp_seconds", .gauge, "When a certificate of this node ends, in Unix time.",
      label: "certificate", around.certificates.map { ($0.name, $0.notAfter.nanoseconds / 1_000_000_000) })
    out.metric("api_info", .gauge, "What runs; always 1.")
    out.sample("api_info", ["version": jobletVersion], 1)
    var own = PrometheusText(prefix: "joblet_api_")
    around.process.write(to: &own)
    out.metric("api_backend_up", .gauge, "1 if the service answers.")
    out.sample("api_backend_up", ["backend": "exec"], around.isExecConnected ? 1 : 0)
    let isPersistUp = around.persist?.statistics == nil ? 0 : 1
    if around.persist != nil { out.sample("api_backend_up", ["backend": "persist"], isPersistUp) }
    out.gauge("exec_up", "1 if joblet-exec gave its metrics, which follow.", around.exec == nil ? 0 : 1)
    if around.persist != nil {
      out.gauge("persist_up", "1 if joblet-persist gave its metrics, which follow.", isPersistUp)
    }
    return [out.text, own.text, around.exec ?? "", around.persist?.statistics ?? ""].map { part in
      part.isEmpty || part.hasSuffix("\n") ? part : part + "\n"
    }.joined()
  }

  private static func writeRequests(_ state: State, _ out: inout PrometheusText) {
    out.metric("api_requests_total", .counter, "Requests answered, by route, method, role and status.")
    for (key, count) in state.requests.sorted(by: { "\($0.key)" < "\($1.key)" }) {
      let status = "\(key.status)"
      out.sample(
        "api_requests_total", ["route": key.route, "method": key.method, "role": key.role, "status": status], count)
    }
    out.metric("api_request_duration_seconds", .histogram, "Time to answer, streams left out.")
    for (route, histogram) in state.latency.sorted(by: { $0.key < $1.key }) {
      out.histogram(
        "api_request_duration_seconds", label: ("route", route), bounds: bounds, buckets: histogram.buckets,
        sum: histogram.sum)
    }
  }

  private static func writeConnections(_ state: State, _ out: inout PrometheusText) {
    out.gauge("api_open_connections", "Connections open on the API's port.", state.openConnections)
    out.counter("api_connections_total", "Connections accepted on the API's port.", state.connections)
    out.counter(
      "api_refused_connections_total", "Connections closed before a request, by reason.", label: "reason",
      state.refusedConnections.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    out.counter(
      "api_closed_connections_total", "Connections closed for what a client did, by reason.", label: "reason",
      state.closedConnections.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    out.counter(
      "api_dropped_replies_total", "Replies broken off because clients that don't read held too much.",
      state.droppedReplies)
    out.gauge("api_open_streams", "Streamed replies open now.", state.openStreams)
    out.counter("api_streams_total", "Streamed replies begun.", state.streams)
    out.counter("api_sent_bytes_total", "Bytes of bodies sent.", state.bytesSent)
  }
}
