import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// A client that posts short jobs for a time and sees each of them end; several of these run at once, each a process of its own:
/// `--post FOLDER BASE SECONDS WINDOW BODY`. Prints how many jobs it ran.
struct Poster {
  private let client: HTTP
  private let body: String
  private let window: Int
  private var open: [String] = []
  private var count = 0

  static func run(_ arguments: ArraySlice<String>) throws {
    let arguments = Array(arguments)
    guard arguments.count == 5, let seconds = Int64(arguments[2]), let window = Int(arguments[3]) else {
      throw BenchmarkError("--post FOLDER BASE SECONDS WINDOW BODY")
    }
    let folder = "\(arguments[0])/config"
    var poster = Poster(
      client: try HTTP(
        base: arguments[1], ca: "\(folder)/ca.pem", certificate: "\(folder)/client.pem", key: "\(folder)/client.key"),
      body: arguments[4], window: window)
    let deadline = monotonicNow() + seconds * 1_000_000_000
    while monotonicNow() < deadline {
      if poster.open.count >= window { try poster.waitForOldest() }
      poster.open.append(try poster.client.post(poster.body))
    }
    while !poster.open.isEmpty { try poster.waitForOldest() }
    print(poster.count)
  }

  private init(client: HTTP, body: String, window: Int) {
    self.client = client
    self.body = body
    self.window = window
  }

  private mutating func waitForOldest() throws {
    let id = open.removeFirst()
    let deadline = monotonicNow() + 30_000_000_000
    while true {
      let reply = try client.request("GET", "/v1/jobs/\(id)")
      let status = stringField("status", in: reply.body)
      if status == "COMPLETED" { break }
      guard reply.status == 200, let status, ["QUEUED", "INITIALIZING", "RUNNING"].contains(status) else {
        throw BenchmarkError("job \(id): \(reply.status) \(reply.body)")
      }
      guard monotonicNow() < deadline else { throw BenchmarkError("job \(id) did not end within 30 s: \(reply.body)") }
      usleep(3000)
    }
    count += 1
    // Its line is there to be read, now and then looked at.
    guard count % 50 == 0 else { return }
    let log = try client.request("GET", "/v1/jobs/\(id)/logs", accept: "text/plain")
    guard Int64(log.body.prefix { $0.isNumber }) != nil else {
      throw BenchmarkError("job \(id) has no line: \(log.body)")
    }
  }
}

/// Runs a command again and again for a time, one after the other: `--loop SECONDS COMMAND…`; `%` in it becomes a number that no
/// other run has. Prints how often.
enum Loop {
  static func run(_ arguments: ArraySlice<String>) throws {
    guard let seconds = arguments.first.flatMap({ Int64($0) }), arguments.count > 1 else {
      throw BenchmarkError("--loop SECONDS COMMAND…")
    }
    let deadline = monotonicNow() + seconds * 1_000_000_000
    var count = 0
    while monotonicNow() < deadline {
      let command = arguments.dropFirst().map { $0 == "%" ? "joblet-bench-\(getpid())-\(count)" : $0 }
      let child = try Child(command, output: .pipe)
      let text = child.readAll()
      guard child.wait() == 0, !text.isEmpty else { throw BenchmarkError("\(command.joined(separator: " ")) failed") }
      count += 1
    }
    print(count)
  }
}
