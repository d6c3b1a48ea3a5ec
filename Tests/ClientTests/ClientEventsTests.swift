import HTTPClient
import JobletClient
import JobletModel
import RnxCommands
import Synchronization
import Testing

@Suite struct ClientEventsTests {
  private func client(_ server: TestServer) throws -> JobletClient {
    try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
  }

  private static let id = "019a1234-5678-7abc-8def-001122334455"

  private static func record(_ status: String, version: Int) -> String {
    #"{"id":"\#(id)","command":"sh","args":[],"env":{},"secret_env":{},"limits":{},"labels":{},"status":"\#(status)","#
      + #""created_at":"2026-11-21T20:15:55Z","node_id":"n1","owner":"ci","version":\#(version)}"#
  }

  @Test func `a stream of changes goes on by its last id, and asks for no second snapshot`() async throws {
    let server = TestServer { number, _, connection in
      connection.startStream()
      if number == 0 {
        connection.send("retry: 1\n\nevent: job\nid: a-1\ndata: \(Self.record("RUNNING", version: 2))\n\n")
        connection.send("event: synced\nid: a-1\ndata: {\"jobs\":1}\n\n")
        return
      }
      connection.send(": still here\n\nevent: later-version\ndata: {}\n\n")
      connection.send("event: job\nid: a-2\ndata: \(Self.record("COMPLETED", version: 3))\n\n")
      connection.send("event: deleted\nid: a-3\ndata: {\"id\":\"\(Self.id)\"}\n\n")
      connection.send("event: gap\ndata: {\"since\":\"2026-11-21T20:15:55Z\"}\n\n")
      connection.waitForClose()
    }
    defer { server.stop() }
    var request = JobChangesRequest()
    request.statuses = [.running, .completed]
    request.labels = ["a=b c", "d"]
    request.wantsSnapshot = true
    var seen: [JobChange] = []
    var losses = 0
    reading: for try await batch in try client(server).events(request) {
      for event in batch {
        switch event {
        case .event(let change): seen.append(change)
        case .reconnecting: losses += 1
        }
        if seen.count == 5 { break reading }
      }
    }
    #expect(losses == 1)
    let id = try #require(JobID(Self.id))
    guard case .job(let first) = seen[0], case .job(let second) = seen[2] else {
      Issue.record("\(seen)")
      return
    }
    #expect(first.status == .running && second.status == .completed)
    #expect(seen[1] == .synced(jobs: 1) && seen[3] == .deleted(id))
    #expect(seen[4] == .gap(since: Timestamp(rfc3339: "2026-11-21T20:15:55Z")!))
    let (one, two) = (server.requests[0], server.requests[1])
    #expect(one.target == "/v1/events?status=RUNNING%2CCOMPLETED&label=a%3Db%20c%2Cd&snapshot=true")
    #expect(two.target == "/v1/events?status=RUNNING%2CCOMPLETED&label=a%3Db%20c%2Cd")
    #expect(one.headers["last-event-id"] == nil && two.headers["last-event-id"] == "a-1")
  }

  @Test func `a problem in the stream ends it in the node's words, an event that can't be read too`() async throws {
    for (text, said) in [
      ("event: problem\ndata: {\"type\":\"urn:joblet:problem:forbidden\",\"detail\":\"no more\"}\n\n", "no more"),
      ("event: job\ndata: {}\n\n", "'job' can't be read"),
    ] {
      let server = TestServer { _, _, connection in
        connection.startStream()
        connection.send(text)
        connection.waitForClose()
      }
      defer { server.stop() }
      let error = await #expect(throws: JobletError.self) {
        for try await _ in try client(server).events() {}
      }
      #expect(error?.description.contains(said) == true)
    }
  }

  @Test func `the node again and again`() async throws {
    let server = TestServer { _, _, connection in
      connection.startStream()
      for load in 1...3 {
        connection.send(
          "event: node\ndata: {\"time\":\"2026-11-21T20:15:5\(load)Z\",\"node_id\":\"n1\",\"versions\":{\"api\":\"1\"},"
            + "\"load\":{\"one_minute\":\(load),\"five_minutes\":1,\"fifteen_minutes\":1}}\n\n")
      }
      connection.waitForClose()
    }
    defer { server.stop() }
    var loads: [Double] = []
    reading: for try await batch in try client(server).nodeEvents(interval: "2s") {
      for case .event(let node) in batch {
        loads.append(try #require(node.load?.oneMinute))
        if loads.count == 3 { break reading }
      }
    }
    #expect(loads == [1, 2, 3])
    #expect(server.requests.first?.target == "/v1/node?stream=true&interval=2s")
  }

  @Test func `a lost reply to a posted job is asked for again with the same key`() async throws {
    let server = TestServer { number, _, connection in
      switch number {
      case 0: break  // closed without a word
      case 1:
        connection.reply(
          "409 Conflict", ["Content-Type: application/problem+json", "Retry-After: 0"],
          "{\"type\":\"urn:joblet:problem:conflict\",\"detail\":\"under way\"}")
      default: connection.reply("201 Created", ["Content-Type: application/json"], Self.record("RUNNING", version: 1))
      }
    }
    defer { server.stop() }
    let record = try await client(server).run(JobRequest(command: "sh"), key: "k1")
    #expect(record.id.description == Self.id)
    #expect(server.requests.map { $0.headers["idempotency-key"] } == ["k1", "k1", "k1"])
  }

  @Test func `without a key a job is posted once`() async throws {
    let server = TestServer { _, _, _ in }
    defer { server.stop() }
    let error = await #expect(throws: JobletError.self) { try await client(server).run(JobRequest(command: "sh")) }
    guard case .startUnknown(.unreachable)? = error else { return #expect(Bool(false), "\(String(describing: error))") }
    #expect(server.requests.count == 1 && server.requests[0].headers["idempotency-key"] == nil)
  }

  @Test func `waiting looks first, then at changes, and again where some may be missing`() async throws {
    let looks = Atomic(0)
    let server = TestServer { _, request, connection in
      if request.target.hasPrefix("/v1/events") {
        connection.startStream()
        connection.send("event: job\nid: a\ndata: \(Self.record("RUNNING", version: 2))\n\n")
        connection.send("event: synced\nid: a\ndata: {\"jobs\":1}\n\n")
        connection.send("event: gap\ndata: {\"since\":\"2026-11-21T20:15:55Z\"}\n\n")
        connection.waitForClose()
      } else {
        let status = looks.add(1, ordering: .relaxed).oldValue == 0 ? "RUNNING" : "STOPPED"
        connection.reply("200 OK", ["Content-Type: application/json"], Self.record(status, version: 2))
      }
    }
    defer { server.stop() }
    let id = try #require(JobID(Self.id))
    var told: [JobStatus] = []
    let ended = try await JobWait.wait(for: [id], client(server)) { told.append($0.status) }
    #expect(ended[id]?.status == .stopped && told == [.stopped])
    #expect(server.requests.map(\.target).contains("/v1/events?job=\(Self.id)&snapshot=true"))
  }

  @Test func `waiting for a job that is deleted ends with words`() async throws {
    let server = TestServer { _, request, connection in
      if request.target.hasPrefix("/v1/events") {
        connection.startStream()
        connection.send("event: deleted\nid: a\ndata: {\"id\":\"\(Self.id)\"}\n\n")
        connection.waitForClose()
      } else {
        connection.reply("200 OK", ["Content-Type: application/json"], Self.record("RUNNING", version: 2))
      }
    }
    defer { server.stop() }
    let id = try #require(JobID(Self.id))
    let failure = await #expect(throws: Failure.self) { try await JobWait.wait(for: [id], client(server)) { _ in } }
    #expect(failure?.why == "it was deleted")
  }

  /// A stream whose snapshot is complete without the job, which was there before.
  private func syncedWithoutTheJob(_ later: @escaping @Sendable (TestServer.Connection) -> Void) -> TestServer {
    let looks = Mutex(0)
    return TestServer { _, request, connection in
      if request.target.hasPrefix("/v1/events") {
        connection.startStream()
        connection.send("event: synced\nid: a\ndata: {\"jobs\":0}\n\n")
        connection.waitForClose()
        return
      }
      let isFirst = looks.withLock { count in
        count += 1
        return count == 1
      }
      if isFirst {
        connection.reply("200 OK", ["Content-Type: application/json"], Self.record("RUNNING", version: 2))
      } else {
        later(connection)
      }
    }
  }

  @Test(.timeLimit(.minutes(1)))
  func `a job that ended unseen, or is gone, is found when the changes are complete`() async throws {
    let id = try #require(JobID(Self.id))
    let ended = syncedWithoutTheJob { connection in
      connection.reply("200 OK", ["Content-Type: application/json"], Self.record("STOPPED", version: 3))
    }
    defer { ended.stop() }
    let records = try await JobWait.wait(for: [id], client(ended)) { _ in }
    #expect(records[id]?.status == .stopped)

    let gone = syncedWithoutTheJob { connection in
      connection.reply(
        "404 Not Found", ["Content-Type: application/problem+json"],
        "{\"type\":\"urn:joblet:problem:not-found\",\"detail\":\"no such job\"}")
    }
    defer { gone.stop() }
    let failure = await #expect(throws: Failure.self) { try await JobWait.wait(for: [id], client(gone)) { _ in } }
    #expect(failure?.why == "it was deleted")
  }

  @Test func `delete all says what it means and how far it came`() async throws {
    let server = TestServer { _, _, connection in
      connection.reply("200 OK", ["Content-Type: application/json"], "{\"deleted\":7,\"more\":true}")
    }
    defer { server.stop() }
    let answer = try await client(server).deleteAll(JobListRequest(statuses: [.failed], until: "7d"))
    #expect(answer == JobsDeleted(deleted: 7, hasMore: true))
    #expect(server.requests[0].method == "DELETE" && server.requests[0].target == "/v1/jobs?status=FAILED&until=7d")
  }
}
