import BenchmarkKit

/// `status_requests_per_s`, `status_p99_ms`, `handshakes_per_s` and `handshakes_ratio`: the record of a running job, beside nginx
/// that serves the same bytes from a file with the same certificates. Rounds alternate, so that both have the same weather.
func measureRequests(_ bed: Bed, _ options: Options) throws {
  let client = try bed.client()
  let id = try client.post(bed.job("pacer", ["0", "1", "1000"]))
  try waitUntil("the job runs", seconds: 30) {
    stringField("status", in: try client.request("GET", "/v1/jobs/\(id)").body) == "RUNNING"
  }
  let record = try client.request("GET", "/v1/jobs/\(id)").body
  let nginx = try Nginx(bed, file: record)
  defer { nginx.stop() }
  let ours = Side(clients: bed.clients, path: "/v1/jobs/\(id)")
  let theirs = nginx.port.map { Side(clients: bed.clients.at(port: $0), path: "/record.json") }
  if options.includes("status") { try status(ours, theirs, nginx, options) }
  if options.includes("handshakes") { try handshakes(ours, theirs, nginx, options) }
}

private struct Side {
  var clients: Clients
  var path: String
}

private let rounds = 3

private func status(_ ours: Side, _ theirs: Side?, _ nginx: Nginx, _ options: Options) throws {
  let connections = 64
  func round(_ side: Side) throws -> (perSecond: Double, p99: Double) {
    let load = try side.clients.requests(
      side.path, connections: connections, seconds: Double(options.seconds) / Double(rounds))
    return (Double(load.count) / load.seconds, load.p99)
  }
  var results: [(perSecond: Double, p99: Double)] = []
  var others: [(perSecond: Double, p99: Double)] = []
  for _ in 0..<rounds {
    if let theirs { others.append(try round(theirs)) }
    results.append(try round(ours))
  }
  func figure(_ name: String, _ unit: String, _ value: (((perSecond: Double, p99: Double)) -> Double)) {
    var figure = Figure(name, percentile(50, of: results.map(value)), unit, count: rounds)
    figure.note = "\(connections) connections kept alive, mTLS; the clients run on the same cores"
    figure.print(
      beside: theirs == nil
        ? .absent("nginx", why: nginx.absence) : .measured("nginx", percentile(50, of: others.map(value))))
  }
  figure("status_requests_per_s", "requests/s") { $0.perSecond }
  figure("status_p99_ms", "ms") { $0.p99 }
}

private func handshakes(_ ours: Side, _ theirs: Side?, _ nginx: Nginx, _ options: Options) throws {
  func round(_ side: Side) throws -> Double {
    let load = try side.clients.handshakes(
      side.path, connections: 16, seconds: Double(options.seconds) / Double(rounds))
    return Double(load.count) / load.seconds
  }
  var results: [Double] = []
  var others: [Double] = []
  for _ in 0..<rounds {
    if let theirs { others.append(try round(theirs)) }
    results.append(try round(ours))
  }
  let rate = percentile(50, of: results)
  let note = "full TLS 1.3 handshakes with a client certificate, each with one request"
  var figure = Figure("handshakes_per_s", rate, "handshakes/s", count: rounds)
  figure.note = note
  guard theirs != nil else { return figure.print(beside: .absent("nginx", why: nginx.absence)) }
  let other = percentile(50, of: others)
  figure.print(beside: .measured("nginx", other))
  var ratio = Figure("handshakes_ratio", rate / other, "of nginx", count: rounds)
  ratio.note = note
  ratio.print()
}
