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

  /// What a scrape finds of persist.
  struct PersistPart {
    /// Its own metrics in the same form; nil if it does not answer.
    var statistics: String?
  }

  /// The text exposition format, version 0.0.4.
  /// - Parameter persist: nil where nothing is persisted.
  func exposition(jobs: [JobStatus: Int], execConnected: Bool, persist: PersistPart?) -> String {
    let state = state.withLock { $0 }
    var out = Exposition()
    out.family("joblet_api_requests_total", "counter", "Requests answered, by route, method, role and status.")
    for (key, count) in state.requests.sorted(by: { "\($0.key)" < "\($1.key)" }) {
      let labels = [("route", key.route), ("method", key.method), ("role", key.role), ("status", "\(key.status)")]
      out.sample("joblet_api_requests_total", labels, "\(count)")
    }
    out.family("joblet_api_request_duration_seconds", "histogram", "Time to answer, streams left out.")
    for (route, histogram) in state.latency.sorted(by: { $0.key < $1.key }) {
      out.histogram(route, histogram.buckets, histogram.sum)
    }
    out.gauge("joblet_api_open_connections", "Connections open on the API's port.", state.openConnections)
    out.family("joblet_api_connections_total", "counter", "Connections accepted on the API's port.")
    out.sample("joblet_api_connections_total", [], "\(state.connections)")
    out.family("joblet_api_refused_connections_total", "counter", "Connections closed before a request, by reason.")
    for (reason, count) in state.refusedConnections.sorted(by: { $0.key < $1.key }) {
      out.sample("joblet_api_refused_connections_total", [("reason", reason)], "\(count)")
    }
    out.family("joblet_api_closed_connections_total", "counter", "Connections closed for what a client did, by reason.")
    for (reason, count) in state.closedConnections.sorted(by: { $0.key < $1.key }) {
      out.sample("joblet_api_closed_connections_total", [("reason", reason)], "\(count)")
    }
    out.family(
      "joblet_api_dropped_replies_total", "counter", "Replies broken off because clients that don't read held too much."
    )
    out.sample("joblet_api_dropped_replies_total", [], "\(state.droppedReplies)")
    out.gauge("joblet_api_open_streams", "Streamed replies open now.", state.openStreams)
    out.family("joblet_api_streams_total", "counter", "Streamed replies begun.")
    out.sample("joblet_api_streams_total", [], "\(state.streams)")
    out.family("joblet_api_sent_bytes_total", "counter", "Bytes of bodies sent.")
    out.sample("joblet_api_sent_bytes_total", [], "\(state.bytesSent)")
    out.family("joblet_jobs", "gauge", "Jobs the live view knows, by status.")
    for status in JobStatus.allCases {
      out.sample("joblet_jobs", [("status", status.rawValue)], "\(jobs[status] ?? 0)")
    }
    out.family("joblet_api_backend_up", "gauge", "1 if the service answers.")
    out.sample("joblet_api_backend_up", [("backend", "exec")], execConnected ? "1" : "0")
    guard let persist else { return out.text }
    let isUp = persist.statistics == nil ? 0 : 1
    out.sample("joblet_api_backend_up", [("backend", "persist")], "\(isUp)")
    out.gauge("joblet_persist_up", "1 if joblet-persist gave its metrics, which follow.", isUp)
    let statistics = persist.statistics ?? ""
    return out.text + statistics + (statistics.isEmpty || statistics.hasSuffix("\n") ? "" : "\n")
  }
}

/// Writes Prometheus text.
private struct Exposition {
  var text = ""

  mutating func family(_ name: String, _ type: String, _ help: String) {
    text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
  }

  mutating func sample(_ name: String, _ labels: [(String, String)], _ value: String) {
    let list = labels.map { "\($0.0)=\"\(Exposition.escape($0.1))\"" }.joined(separator: ",")
    text += list.isEmpty ? "\(name) \(value)\n" : "\(name){\(list)} \(value)\n"
  }

  mutating func gauge(_ name: String, _ help: String, _ value: Int) {
    family(name, "gauge", help)
    sample(name, [], "\(value)")
  }

  mutating func histogram(_ route: String, _ buckets: [UInt64], _ sum: Double) {
    let name = "joblet_api_request_duration_seconds"
    var total: UInt64 = 0
    for (index, count) in buckets.enumerated() {
      total += count
      let bound = index < GatewayMetrics.bounds.count ? "\(GatewayMetrics.bounds[index])" : "+Inf"
      sample("\(name)_bucket", [("route", route), ("le", bound)], "\(total)")
    }
    sample("\(name)_sum", [("route", route)], "\(sum)")
    sample("\(name)_count", [("route", route)], "\(total)")
  }

  private static func escape(_ text: String) -> String {
    var escaped = ""
    for character in text {
      switch character {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.append(character)
      }
    }
    return escaped
  }
}
