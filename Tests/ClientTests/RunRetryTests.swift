import HTTPClient
import JobletClient
import JobletModel
import RnxCommands
import Testing

@Suite struct RunRetryTests {
  static let away = JobletError.refused(.init(status: 503, kind: .unavailable, retryAfter: 1))
  static let inUse = JobletError.refused(.init(status: 409, kind: .keyInUse, retryAfter: 1))
  static let invalid = JobletError.refused(.init(status: 422, kind: .invalidField, detail: "command: no"))

  static func lost(_ kind: HTTPError.Kind) -> JobletError { .unreachable(HTTPError(kind, "gone")) }

  /// The pause after the last of some failures; each of the others must have had one.
  static func last(_ errors: [JobletError]) throws -> Duration? {
    var retry = RunRetry()
    var pause: Duration? = .zero
    for error in errors {
      _ = try #require(pause)
      pause = retry.pause(after: error, at: .zero)
    }
    return pause
  }

  @Test(arguments: [.cannotResolve, .cannotConnect, .serverNotTrusted, .tls, .other] as [HTTPError.Kind])
  func `a node that was never there is said at once, one that was is tried again`(kind: HTTPError.Kind) throws {
    #expect(try Self.last([Self.lost(kind)]) == nil)
    for before in [Self.lost(.interrupted), Self.away, Self.inUse] {
      #expect(try Self.last([before, Self.lost(kind)]) != nil)
      #expect(try Self.last([before, Self.lost(kind), Self.lost(kind)]) != nil)
    }
  }

  @Test(arguments: [.badRequest, .badCredentials] as [HTTPError.Kind])
  func `what is wrong here stays wrong`(kind: HTTPError.Kind) throws {
    #expect(try Self.last([Self.lost(kind)]) == nil)
    #expect(try Self.last([Self.lost(.interrupted), Self.lost(kind)]) == nil)
  }

  @Test func `no answer in time is asked for once more`() throws {
    #expect(try Self.last([Self.lost(.timedOut)]) != nil)
    #expect(try Self.last([Self.lost(.timedOut), Self.lost(.timedOut)]) == nil)
    #expect(try Self.last([Self.lost(.timedOut), Self.lost(.interrupted), Self.lost(.timedOut)]) == nil)
  }

  @Test func `the node's wish is heeded, within reason`() throws {
    func pause(_ status: Int, _ wish: Int?) throws -> Duration? {
      try Self.last([.refused(.init(status: status, retryAfter: wish))])
    }
    #expect(try pause(503, 1) == .seconds(1) && pause(409, 1) == .seconds(1))
    #expect(try pause(503, 0) == .milliseconds(250) && pause(409, 0) == .milliseconds(250))
    #expect(try pause(503, 3600) == .seconds(5) && pause(409, 3600) == .seconds(5))
    #expect(try pause(429, 1) == .seconds(1) && pause(429, 0) == .milliseconds(250) && pause(429, 60) == .seconds(5))
    #expect(try pause(429, 61) == nil)
    #expect(try pause(503, nil) == nil && pause(409, nil) == nil && pause(422, 1) == nil && pause(429, nil) == nil)
    #expect(try Self.last([.badReply("")]) == nil)
  }

  @Test func `tries are bounded`() {
    for error in [Self.away, Self.lost(.interrupted)] {
      var retry = RunRetry()
      for _ in 1..<RunRetry.maxTries {
        let pause = retry.pause(after: error, at: .zero)
        #expect(pause.map { $0 > .zero && $0 <= .seconds(2) } == true)
      }
      #expect(retry.pause(after: error, at: .zero) == nil)
    }
  }

  @Test func `a request that is still being answered is waited for by time, not by tries`() {
    var retry = RunRetry()
    _ = retry.pause(after: Self.lost(.timedOut), at: .seconds(60))
    // The minute begins when the node says so first.
    for second in 61...120 { #expect(retry.pause(after: Self.inUse, at: .seconds(second)) == .seconds(1)) }
    #expect(retry.pause(after: Self.inUse, at: .seconds(121)) == nil)
    #expect(retry.mayHaveStarted)
  }

  @Test func `room for one more is waited for by time, and what takes longer is not waited for`() {
    var retry = RunRetry()
    let full = JobletError.refused(.init(status: 429, kind: .tooManyJobs, retryAfter: 1))
    for second in 0..<60 { #expect(retry.pause(after: full, at: .seconds(second)) == .seconds(1)) }
    #expect(retry.pause(after: full, at: .seconds(60)) == nil)
    #expect(!retry.mayHaveStarted)
  }

  @Test func `a job that there is no room for is posted again with its key, and that is said once`() async throws {
    let server = TestServer { number, _, connection in
      if number < 2 {
        connection.reply(
          "429 Too Many Requests", ["Content-Type: application/problem+json", "Retry-After: 0"],
          "{\"type\":\"urn:joblet:problem:too-many-jobs\",\"detail\":\"8 jobs run and 9 wait\"}")
      } else {
        connection.reply(
          "201 Created", ["Content-Type: application/json"], JobletClientTests.json(JobletClientTests.record()))
      }
    }
    defer { server.stop() }
    let client = try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
    var said: [String] = []
    let record = try await client.run(JobRequest(command: "sh"), key: "k1") { said.append(JobRun.noRoom($0)) }
    #expect(record.id == JobletClientTests.id)
    #expect(server.requests.map { $0.headers["idempotency-key"] } == ["k1", "k1", "k1"])
    #expect(said == ["the node has no room for the job yet (8 jobs run and 9 wait); trying again for a minute"])
  }

  static let outcomes: [([JobletError], Bool)] = [
    ([lost(.cannotConnect)], false), ([lost(.cannotResolve)], false), ([lost(.serverNotTrusted)], false),
    ([lost(.tls)], false), ([lost(.badRequest)], false), ([invalid], false),
    ([lost(.interrupted)], true), ([lost(.timedOut)], true), ([lost(.other)], true), ([.badReply("")], true),
    ([inUse], true), ([away], true), ([.refused(.init(status: 500, kind: .internalError))], true),
    // A node that can't be reached, or that says who may ask, says nothing of the try before.
    ([lost(.interrupted), lost(.cannotConnect)], true),
    ([lost(.interrupted), .refused(.init(status: 403, kind: .forbidden))], true),
    ([lost(.interrupted), .refused(.init(status: 429, kind: .tooManyJobs, retryAfter: 1))], true),
    ([lost(.interrupted), .refused(.init(status: 404))], true),  // a proxy's, of no kind of the node's
    // What it says of the request was as true of the try before.
    ([lost(.interrupted), invalid], false),
    ([lost(.timedOut), .refused(.init(status: 409, kind: .conflict))], false),
  ]

  @Test(arguments: outcomes)
  func `whether the job may have been started is known`(errors: [JobletError], mayHaveStarted: Bool) {
    var retry = RunRetry()
    for error in errors { _ = retry.pause(after: error, at: .zero) }
    #expect(retry.mayHaveStarted == mayHaveStarted)
  }

  @Test func `a lost reply and then the node's no is the node's no`() async throws {
    let server = TestServer { number, _, connection in
      if number == 0 { return }
      connection.reply(
        "422 Unprocessable Content", ["Content-Type: application/problem+json"],
        "{\"type\":\"urn:joblet:problem:invalid-field\",\"detail\":\"command: no\",\"field\":\"command\"}")
    }
    defer { server.stop() }
    let client = try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
    let error = await #expect(throws: JobletError.self) { try await client.run(JobRequest(command: "sh"), key: "k1") }
    guard case .refused(let refusal)? = error else { return #expect(Bool(false), "\(String(describing: error))") }
    #expect(refusal.field == "command" && server.requests.count == 2)
  }

  @Test func `a reply that can't be read after a lost one leaves the start unknown, and rnx says so`() async throws {
    let server = TestServer { number, _, connection in
      if number > 0 { connection.reply("201 Created", ["Content-Type: application/json"], "{}") }
    }
    defer { server.stop() }
    let client = try JobletClient(Endpoint(baseURL: server.url, credentials: TLSCredentials()))
    let thrown = await #expect(throws: JobletError.self) { try await client.run(JobRequest(command: "sh"), key: "k1") }
    let error = try #require(thrown)
    guard case .startUnknown(.badReply) = error else { return #expect(Bool(false), "\(error)") }
    let failure = Explain.failure(error, what: "the job can't be run", address: "n:1")
    #expect(failure.what == "the job can't be run" && failure.why.contains("not as a Joblet node does"))
    #expect(failure.next.hasPrefix("whether the job was started is not known: look with 'rnx job list'"))
    #expect(failure.next.hasSuffix("of like versions"))
    #expect(error.description.hasSuffix("whether the job was started is not known"))
    let plain = Explain.failure(Self.lost(.cannotConnect), what: "the job can't be run", address: "n:1")
    #expect(!plain.next.contains("not known"))
  }
}
