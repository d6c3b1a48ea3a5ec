import FoundationEssentials
import HTTPClient
import JobletClient
import JobletModel
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct JobletClientTests {
  static let id = JobID("019a1234-5678-7abc-8def-001122334455")!

  static func record(_ change: (inout JobRecord) -> Void = { _ in }) -> JobRecord {
    var record = JobRecord(
      id: id, request: JobRequest(command: "sh", args: ["-c", "true"]), status: .running,
      createdAt: Timestamp(nanoseconds: 1_700_000_000_000_000_000), nodeID: "n1", owner: "joblet-admin")
    change(&record)
    return record
  }

  static func json(_ value: some Encodable) -> String {
    do { return String(decoding: try JSONEncoder().encode(value), as: UTF8.self) } catch { return "\(error)" }
  }

  func client(_ server: TestServer) throws -> JobletClient {
    try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
  }

  @Test func `each call has its method, path and body`() async throws {
    let server = TestServer { _, request, connection in
      switch (request.method, request.target) {
      case ("DELETE", _): connection.reply("204 No Content")
      case ("GET", let target) where target.hasPrefix("/v1/jobs?") || target == "/v1/jobs":
        connection.reply("200 OK", [], Self.json(JobPage(jobs: [Self.record()], nextCursor: "c2")))
      case ("POST", "/v1/jobs"): connection.reply("201 Created", [], Self.json(Self.record()))
      case ("POST", _): connection.reply("202 Accepted", [], Self.json(Self.record()))
      default: connection.reply("200 OK", [], Self.json(Self.record()))
      }
    }
    defer { server.stop() }
    let client = try client(server)
    let request = JobRequest(command: "echo", args: ["a"], secretEnv: ["S": "v"], timeout: "30s")
    #expect(try await client.run(request).id == Self.id)
    let page = try await client.jobs(
      JobListRequest(statuses: [.running, .failed], since: "1h", until: "now", text: "a=b"), limit: 10, cursor: "a/b &c"
    )
    #expect(page.jobs == [Self.record()] && page.nextCursor == "c2")
    #expect(try await client.job(Self.id) == Self.record())
    #expect(try await client.stop(Self.id, grace: "5s") == Self.record())
    #expect(try await client.pause(Self.id) == Self.record())
    #expect(try await client.resume(Self.id) == Self.record())
    try await client.delete(Self.id)
    let seen = server.requests
    #expect(
      seen.map { "\($0.method) \($0.target)" } == [
        "POST /v1/jobs", "GET /v1/jobs?status=RUNNING%2CFAILED&since=1h&until=now&q=a%3Db&limit=10&cursor=a%2Fb%20%26c",
        "GET /v1/jobs/\(Self.id)",
        "POST /v1/jobs/\(Self.id)/stop", "POST /v1/jobs/\(Self.id)/pause", "POST /v1/jobs/\(Self.id)/resume",
        "DELETE /v1/jobs/\(Self.id)",
      ])
    #expect(try JSONDecoder().decode(JobRequest.self, from: Data(seen[0].body)) == request)
    #expect(seen[0].headers["content-type"] == "application/json")
    #expect(String(decoding: seen[3].body, as: UTF8.self) == "{\"grace\":\"5s\"}")
  }

  @Test func `a problem document becomes a typed error`() async throws {
    let server = TestServer { _, _, connection in
      connection.reply(
        "422 Unprocessable Content", ["Content-Type: application/problem+json", "X-Request-Id: r1", "Retry-After: 3"],
        #"{"type":"urn:joblet:problem:invalid-field","title":"T","status":422,"detail":"limits.pids: no","field":"limits.pids","more":1}"#
      )
    }
    defer { server.stop() }
    let client = try client(server)
    let error = await #expect(throws: JobletError.self) { try await client.job(Self.id) }
    guard case .refused(let refusal)? = error else { return #expect(Bool(false), "\(String(describing: error))") }
    #expect(refusal.kind == .invalidField && refusal.status == 422 && refusal.field == "limits.pids")
    #expect(refusal.detail == "limits.pids: no" && refusal.retryAfter == 3 && refusal.requestID == "r1")
  }

  @Test func `a strange error page keeps its status and a little of its text`() async throws {
    let server = TestServer { _, _, connection in
      connection.reply("502 Bad Gateway", ["Content-Type: text/html"], "<h1>\u{1B}[31mproxy</h1>")
    }
    defer { server.stop() }
    let client = try client(server)
    let error = await #expect(throws: JobletError.self) { try await client.job(Self.id) }
    guard case .refused(let refusal)? = error else { return #expect(Bool(false), "\(String(describing: error))") }
    #expect(refusal.kind == nil && refusal.status == 502 && refusal.detail == "<h1>[31mproxy</h1>")
  }

  @Test(arguments: ["", "{}", "[1]", "{\"id\":\"x\"}", "\u{0}"])
  func `a reply that is no record is named as such`(body: String) async throws {
    let server = TestServer { _, _, connection in connection.reply("200 OK", [], body) }
    defer { server.stop() }
    let client = try client(server)
    let error = await #expect(throws: JobletError.self) { try await client.job(Self.id) }
    guard case .badReply? = error else { return #expect(Bool(false), "\(String(describing: error))") }
  }

  static func event(_ seq: Int, _ text: String, stream: String = "stdout") -> String {
    "event: log\nid: \(seq)\ndata: {\"seq\":\(seq),\"ts\":\"2026-11-21T20:15:55.123456789Z\",\"stream\":\"\(stream)\",\"line\":\"\(text)\"}\n\n"
  }

  static let end = "event: end\ndata: {\"status\":\"FAILED\",\"exit_code\":3,\"reason\":\"exit_code\"}\n\n"

  func gather(_ logs: LogBatches) async throws -> (lines: [String], ends: [JobEnd], gaps: [[UInt64]], breaks: Int) {
    var lines: [String] = []
    var ends: [JobEnd] = []
    var gaps: [[UInt64]] = []
    var breaks = 0
    for try await batch in logs {
      for event in batch {
        switch event {
        case .record(let line):
          lines.append("\(line.seq) \(line.stream.name) \(String(decoding: line.bytes, as: UTF8.self))")
        case .end(let end): ends.append(end)
        case .gap(let from, let to): gaps.append([from, to])
        case .reconnecting: breaks += 1
        }
      }
    }
    return (lines, ends, gaps, breaks)
  }

  @Test func `a followed stream ends with its end`() async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send("retry: 10\n\n:\n\n" + Self.event(1, "a") + Self.event(2, "b", stream: "stderr"))
      connection.send(
        "event: gap\ndata: {\"from\":3,\"to\":9}\n\nevent: future\ndata: 1\n\n" + Self.event(10, "c") + Self.end)
      connection.waitForClose()
    }
    defer { server.stop() }
    var request = LogRequest(follow: true)
    request.stream = .stdout
    request.filter = "a b"
    request.tail = 5
    request.since = "1h"
    request.regex = "[ab]+"
    let got = try await gather(try client(server).logs(Self.id, request))
    #expect(got.lines == ["1 stdout a", "2 stderr b", "10 stdout c"])
    #expect(got.gaps == [[3, 9]] && got.breaks == 0)
    #expect(got.ends.count == 1 && got.ends.first?.exitCode == 3)
    let seen = try #require(server.requests.first)
    #expect(
      seen.target
        == "/v1/jobs/\(Self.id)/logs?follow=true&stream=stdout&since=1h&filter=a%20b&regex=%5Bab%5D%2B&tail=5"
    )
    #expect(seen.headers["accept"] == "text/event-stream" && seen.headers["last-event-id"] == nil)
  }

  @Test func `a broken stream goes on after the last line, without a line twice`() async throws {
    let server = TestServer { number, request, connection in
      switch number {
      case 0:
        connection.startStream()
        connection.send("retry: 1\n\n" + Self.event(1, "a") + Self.event(2, "b"))
        connection.send("event: log\nid: 3\ndata: {\"seq\":3,\"ts\"")  // cut in the middle of an event
      case 1: connection.reply("503 Service Unavailable", ["Retry-After: 0"])
      case 2:
        connection.startStream()
        connection.send("retry: 1\n\n" + Self.event(2, "b") + Self.event(3, "c"))
        connection.send("event: reconnect\ndata: {}\n\n")
        connection.waitForClose()
      default:
        connection.startStream()
        connection.send(Self.event(4, "d") + Self.end)
      }
    }
    defer { server.stop() }
    var request = LogRequest(follow: true)
    request.tail = 2
    (request.since, request.until) = ("10s", "2030-01-01T00:00:00Z")
    let got = try await gather(try client(server).logs(Self.id, request))
    #expect(got.lines == ["1 stdout a", "2 stdout b", "3 stdout c", "4 stdout d"])
    #expect(got.ends.count == 1 && got.breaks == 3)
    #expect(server.requests.map { $0.headers["last-event-id"] } == [nil, "2", "2", "3"])
    let bound = "&until=2030-01-01T00%3A00%3A00Z"
    let path = "/v1/jobs/\(Self.id)/logs?follow=true"
    #expect(
      server.requests.map(\.target) == [path + "&since=10s\(bound)&tail=2"] + Array(repeating: path + bound, count: 3))
  }

  static func sample(_ seq: Int) -> String {
    "event: metrics\nid: \(seq)\ndata: {\"seq\":\(seq),\"ts\":\"2026-11-21T20:15:55.123456789Z\",\"memory_bytes\":\(seq)}\n\n"
  }

  @Test func `metrics come as they are stored, over a break as well`() async throws {
    let server = TestServer { number, _, connection in
      connection.startStream()
      if number == 0 {
        connection.send("retry: 1\n\n" + Self.sample(1) + Self.sample(2))
      } else {
        connection.send(Self.sample(2) + "event: gap\ndata: {\"from\":3,\"to\":4}\n\n" + Self.sample(5) + Self.end)
        connection.waitForClose()
      }
    }
    defer { server.stop() }
    var request = MetricRequest(follow: true)
    request.since = "1h"
    var lines: [String] = []
    var others = 0
    for try await batch in try client(server).metrics(Self.id, request) {
      for event in batch {
        if case .record(let line) = event {
          lines.append(String(decoding: line.json, as: UTF8.self))
        } else {
          others += 1
        }
      }
    }
    #expect(
      lines == [1, 2, 5].map { "{\"seq\":\($0),\"ts\":\"2026-11-21T20:15:55.123456789Z\",\"memory_bytes\":\($0)}" })
    #expect(others == 3)  // the break, the gap, the end
    #expect(server.requests.map { $0.headers["last-event-id"] } == [nil, "2"])
    // An hour ago is later by now: what is resumed goes on by its number alone.
    let path = "/v1/jobs/\(Self.id)/metrics?follow=true"
    #expect(server.requests.map(\.target) == [path + "&since=1h", path])
  }

  @Test func `aggregates that broke off are counted off`() async throws {
    let point =
      "event: metrics\ndata: {\"ts\":\"2026-11-21T20:15:00.000000000Z\",\"aggregate\":\"avg\",\"samples\":2}\n\n"
    let server = TestServer { number, _, connection in
      if number == 0 {
        // Cut short of its length: broken, not ended.
        connection.send(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\nretry: 1\n\n" + point
            + point)
      } else {
        connection.startStream()
        connection.send(point)
      }
    }
    defer { server.stop() }
    var request = MetricRequest()
    (request.aggregate, request.interval, request.limit, request.offset) = (.average, "1m", 7, 3)
    var count = 0
    for try await batch in try client(server).metrics(Self.id, request) {
      for case .record(let line) in batch {
        count += 1
        #expect(line.point.samples == 2 && line.number == nil)
      }
    }
    #expect(count == 3)
    let path = "/v1/jobs/\(Self.id)/metrics?aggregate=avg&interval=1m"
    #expect(server.requests.map(\.target) == [path + "&offset=3&limit=7", path + "&offset=5&limit=5"])
  }

  @Test func `the newest first goes on below where it broke`() async throws {
    let server = TestServer { number, _, connection in
      if number == 0 {
        connection.send(
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\nretry: 1\n\n"
            + Self.event(9, "i") + Self.event(8, "h"))
      } else {
        connection.startStream()
        connection.send(Self.event(8, "h") + Self.event(7, "g"))
      }
    }
    defer { server.stop() }
    var request = LogRequest()
    (request.isReversed, request.limit, request.offset) = (true, 3, 2)
    (request.since, request.until) = ("1h", "1m")
    let got = try await gather(try client(server).logs(Self.id, request))
    #expect(got.lines == ["9 stdout i", "8 stdout h", "7 stdout g"] && got.breaks == 1)
    let path = "/v1/jobs/\(Self.id)/logs?since="
    let targets = server.requests.map(\.target)
    #expect(targets.first == path + "1h&until=1m&order=desc&offset=2&limit=3")
    // The same moment, which is longer ago by now.
    let again = try #require(targets.last?.split(separator: "&"))
    let since = try #require(DurationText.parse(again[0].dropFirst(path.count)))
    #expect(targets.count == 2 && targets[1].hasPrefix(path) && again.dropFirst() == ["order=desc", "limit=1"])
    #expect(since > .seconds(3600) && since < .seconds(3720))
    #expect(server.requests.last?.headers["last-event-id"] == "8")
  }

  @Test func `a bound of the time stays where it was`() {
    var progress = StreamProgress()
    progress.age = .milliseconds(5000)
    var request = LogRequest()
    (request.since, request.until) = ("1h", "now")
    #expect(request.query(progress) == "?since=3605s&until=5s")
    (request.since, request.until) = ("1795309200", "2026-11-22T01:00:00Z")
    #expect(request.query(progress) == "?since=1795309200&until=2026-11-22T01%3A00%3A00Z")
    var metrics = MetricRequest()
    (metrics.since, metrics.isReversed) = ("100ms", true)
    #expect(metrics.query(progress) == "?since=5100ms&order=desc")
    #expect(metrics.query(StreamProgress()) == "?since=100ms&order=desc")
  }

  @Test func `a problem in the middle of a stream comes behind the lines before it`() async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send(
        Self.event(1, "a")
          + "event: problem\ndata: {\"type\":\"urn:joblet:problem:invalid-field\",\"status\":422,\"detail\":\"regex: no\",\"field\":\"regex\"}\n\n"
      )
      connection.waitForClose()
    }
    defer { server.stop() }
    var logs = try client(server).logs(Self.id, LogRequest(follow: true)).makeAsyncIterator()
    #expect(try await logs.next()?.count == 1)
    let error = await #expect(throws: JobletError.self) { try await logs.next() }
    guard case .refused(let refusal)? = error else { return #expect(Bool(false), "\(String(describing: error))") }
    #expect(refusal.kind == .invalidField && refusal.field == "regex" && refusal.detail == "regex: no")
    #expect(server.requests.count == 1)
  }

  @Test func `without follow the end of the stream is the end`() async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send(Self.event(1, "a"))
    }
    defer { server.stop() }
    let got = try await gather(try client(server).logs(Self.id))
    #expect(got.lines == ["1 stdout a"] && got.ends.isEmpty && got.breaks == 0)
    #expect(server.requests.count == 1)
  }

  @Test func `a stream that can't be opened at first fails at once`() async throws {
    let server = TestServer { _, _, connection in connection.reply("404 Not Found") }
    defer { server.stop() }
    let logs = try client(server).logs(Self.id, LogRequest(follow: true))
    await #expect(throws: JobletError.self) { for try await _ in logs {} }
    #expect(server.requests.count == 1)
  }

  @Test(arguments: ["event: log\ndata: {}\n\n", "event: end\ndata: nonsense\n\n", "event: gap\ndata: {\"from\":1}\n\n"])
  func `events that can't be read are errors, not lines lost`(text: String) async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send(text)
    }
    defer { server.stop() }
    let logs = try client(server).logs(Self.id, LogRequest(follow: true))
    let error = await #expect(throws: JobletError.self) { for try await _ in logs {} }
    guard case .badReply? = error else { return #expect(Bool(false), "\(String(describing: error))") }
  }

  @Test func `tries are spaced, bounded, and start anew after progress`() {
    var plan = Reconnect()
    #expect(plan.lost() == .after(.milliseconds(250)))
    #expect(plan.lost() == .after(.milliseconds(500)))
    #expect(plan.lost(wish: 0) == .after(.zero))
    #expect(plan.lost(retryAfter: 3) == .after(.seconds(3)))
    #expect(plan.lost(retryAfter: 86_400) == .after(.seconds(30)))
    for _ in 6...Reconnect.maxTries {
      guard case .after(let pause) = plan.lost() else { return #expect(Bool(false)) }
      #expect(pause <= .seconds(5))
    }
    #expect(plan.lost() == .giveUp)
    plan.progressed()
    #expect(plan.lost() == .after(.milliseconds(250)))
  }

  @Test func `a comment on a stream that has lasted makes it a good one`() {
    var plan = Reconnect()
    for _ in 1...Reconnect.maxTries { #expect(plan.lost() != .giveUp) }
    plan.heard(at: .seconds(1))
    #expect(plan.lost() == .giveUp)
    plan.heard(at: .seconds(15))
    #expect(plan.lost() == .after(.milliseconds(250)))
  }

  /// Streams that bring a comment and then break, by a clock that goes on by `step` at every look.
  @Test(arguments: [(Duration.seconds(15), true), (.milliseconds(1), false)])
  func `a quiet stream is opened again for ever if it lasts each time`(step: Duration, lasts: Bool) async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send("retry: 0\n\n: nothing new\n\n")
    }
    defer { server.stop() }
    let time = Mutex(ContinuousClock.now)
    var source = StreamSource(now: {
      time.withLock { time in
        time += step
        return time
      }
    })
    let http = try HTTPClient()
    let url = server.url
    var losses = 0
    var failure: (any Error)?
    while failure == nil, losses < Reconnect.maxTries + 5 {
      do {
        let piece = try await source.next(isFollowed: true) { try await http.send(HTTPRequest(url: url)).body }
        if case .lost = piece { losses += 1 }
      } catch {
        failure = error
      }
    }
    #expect(losses == (lasts ? Reconnect.maxTries + 5 : Reconnect.maxTries))
    #expect((failure is JobletError) == !lasts)
  }
}
