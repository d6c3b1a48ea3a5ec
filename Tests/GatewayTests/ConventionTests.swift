import FoundationEssentials
import Gateway
import HTTPClient
import JobletModel
import JobletWire
import NIOCore
import Testing

/// What every reply keeps to: keys, waits, tags, traces, codings.
@Suite(.timeLimit(.minutes(2))) struct ConventionTests {
  private let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

  @Test func aKeyIsGivenToExecAndAReplayIsMarked() async throws {
    try await Fixture.run { f in
      let headers = [(name: "Idempotency-Key", value: "\"5a1c-1\"")]
      let first = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(first.status == 201 && first.header("idempotency-replayed") == nil)
      let record: JobRecord = try first.decode()
      #expect(await f.exec.requests.last?.key == "5a1c-1", "the quotes are the field's, not the key's")
      let again = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(again.status == 201 && again.header("idempotency-replayed") == "true")
      #expect(again.header("location") == "/v1/jobs/\(record.id)" && again.text == first.text)
      // Ended and let go of by exec, it is in the store.
      var ended = record
      ended.status = .completed
      ended.version = 4
      await f.persist.store(ended)
      await f.exec.end(record.id)
      await f.exec.forget(record.id)
      try await f.until("the gateway has heard of its end") {
        try await f.call("GET", "/v1/jobs/\(record.id)").decode(JobRecord.self).status == .completed
      }
      let late = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(late.status == 201 && late.header("idempotency-replayed") == "true")
      #expect(try late.decode(JobRecord.self).status == .completed)
      #expect(try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#).status == 201)
      #expect(await f.exec.requests.last?.key == nil)
    }
  }

  @Test func aDeletedJobsKeyStartsNoOther() async throws {
    try await Fixture.run { f in
      let headers = [(name: "Idempotency-Key", value: "k")]
      let record: JobRecord = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers).decode()
      await f.exec.end(record.id)
      try await f.until("it has ended") {
        try await f.call("GET", "/v1/jobs/\(record.id)").decode(JobRecord.self).status == .completed
      }
      #expect(try await f.call("DELETE", "/v1/jobs/\(record.id)").status == 204)
      let late = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(late.status == 409 && late.problem?.detail.contains("\(record.id)") == true)
      // Which would run the command again: not for us to recommend.
      #expect(late.problem?.detail.contains("new key") == false)
    }
  }

  /// exec started the job and died before it said so. Without a key nobody may ask again; with one the gateway itself does.
  @Test func aLostAnswerIsAskedForAgain() async throws {
    try await Fixture.run { f in
      // A connection that the pool keeps: one that was just made is not tried twice.
      #expect(try await f.call("POST", "/v1/jobs", #"{"command":"warm"}"#).status == 201)
      await f.exec.lose(1)
      let headers = [(name: "Idempotency-Key", value: "k")]
      let answer = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(answer.status == 201 && answer.header("idempotency-replayed") == "true")
      #expect(await f.exec.jobs.count == 2)
      #expect(try await f.call("POST", "/v1/jobs", #"{"command":"warm"}"#).status == 201)
      await f.exec.lose(2)
      let unknown = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#)
      #expect(unknown.status == 503 && unknown.header("retry-after") == "2")
      #expect(unknown.problem?.detail.contains("GET /v1/jobs lists it") == true)
    }
  }

  @Test(arguments: ["", "\"\"", "a b", "a,b", "\"a", "a\\b", String(repeating: "k", count: 256)])
  func whatIsNoKeyIsRefused(_ key: String) async throws {
    #expect(throws: Problem.self) { try RequestFields.idempotencyKey(key) }
    try await Fixture.run { f in
      let headers = [(name: "Idempotency-Key", value: key.isEmpty ? ";" + "," : key)]
      let answer = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      #expect(answer.status == 400 && answer.problem?.field == "Idempotency-Key")
      #expect(await f.exec.requests.isEmpty)
    }
  }

  @Test func execsWordOnKeysReachesTheClient() async throws {
    try await Fixture.run { f in
      for (problem, status, type) in [
        (Problem(.keyReused, "another request"), 422, "urn:joblet:problem:idempotency-key-reused"),
        (Problem(.keyInUse, "being answered", retryAfter: 1), 409, "urn:joblet:problem:idempotency-key-in-use"),
      ] {
        await f.exec.refuse(problem)
        let answer = try await f.call(
          "POST", "/v1/jobs", #"{"command":"x"}"#, headers: [(name: "Idempotency-Key", value: "k")])
        #expect(answer.status == status && answer.problem?.type == type)
        #expect(answer.header("retry-after") == problem.retryAfter.map { "\($0)" })
      }
    }
  }

  @Test(arguments: [Problem.Kind.tooManyJobs, .unavailable])
  func whoeverIsToComeAgainIsToldWhen(_ kind: Problem.Kind) async throws {
    try await Fixture.run { f in
      await f.exec.refuse(Problem(kind, "not now"))
      let answer = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#)
      #expect(answer.status == kind.status && answer.header("retry-after") == "2")
      #expect(answer.problem?.retry_after == 2)
    }
  }

  // MARK: Waiting

  @Test func aRunWaitsForTheEnd() async throws {
    try await Fixture.run { f in
      let exec = f.exec
      async let answer = f.call(
        "POST", "/v1/jobs", #"{"command":"x"}"#, headers: [(name: "Prefer", value: "respond-async, wait=\"20\"; x")])
      try await f.until("it runs") { await exec.jobs.count == 1 }
      let job = try #require(await exec.jobs.keys.first)
      await exec.end(job, exitCode: 3)
      let reply = try await answer
      #expect(reply.status == 201 && reply.header("preference-applied") == "wait=20")
      let record: JobRecord = try reply.decode()
      #expect(record.status == .failed && record.exitCode == 3)
      #expect(reply.header("etag") == "W/\"\(record.version)\"")
      // An ended one is not waited for.
      let read = try await f.call("GET", "/v1/jobs/\(job)", headers: [(name: "Prefer", value: "wait=60")])
      #expect(read.status == 200 && read.header("preference-applied") == "wait=60")
      #expect(try await f.health("/metrics").text.contains("joblet_api_requests_total"))
    }
  }

  /// A kill during the wait must not leave a job without its line.
  @Test func aRunThatWaitsIsInTheAuditBeforeTheEndAndOnce() async throws {
    try await Fixture.run { f in
      async let answer = f.call(
        "POST", "/v1/jobs", #"{"command":"x"}"#, headers: [(name: "Prefer", value: "wait=20")])
      try await f.until("it waits") { f.gateway.waitingRequests == 1 }
      let job = try #require(await f.exec.jobs.keys.first)
      let during = try String(contentsOfFile: f.directory + "/audit", encoding: .utf8)
      #expect(during.contains("\"target\":\"\(job)\"") && during.contains("\"status\":201"))
      await f.exec.end(job)
      #expect(try await answer.status == 201)
      #expect(try String(contentsOfFile: f.directory + "/audit", encoding: .utf8) == during)
    }
  }

  /// What exec has let go of is no news to those who follow events, and does not come back into the live view.
  @Test func aReplayOfAnEndedJobChangesNothing() async throws {
    try await Fixture.run { f in
      let key = [(name: "Idempotency-Key", value: "k")]
      let job: JobRecord = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: key).decode()
      await f.exec.end(job.id)
      let ended = try #require(await f.exec.jobs[job.id]?.record)
      await f.persist.store(ended)
      await f.exec.forget(job.id)
      await f.exec.hangUp()
      try await f.until("exec is asked again") { await f.exec.subscriptions == 2 }
      try await f.untilReady()
      var events = EventReader(try await f.open("/v1/events"))
      #expect(try await events.next()?.name == "synced")
      let replay = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: key)
      #expect(replay.status == 201 && replay.header("idempotency-replayed") == "true")
      #expect(try replay.decode(JobRecord.self).status == .completed)
      let next = try await f.runJob("news")
      #expect(try await events.next()?.data.contains("\(next.id)") == true)
    }
  }

  @Test func anEndedJobIsNotWaitedForWhileExecIsAway() async throws {
    try await Fixture.run(withExec: false) { f in
      let record = RouteTests.record(1, .completed)
      await f.persist.store(record)
      let start = ContinuousClock.now
      let read = try await f.call("GET", "/v1/jobs/\(record.id)", headers: [(name: "Prefer", value: "wait=60")])
      #expect(read.status == 200 && read.header("preference-applied") == "wait=60")
      #expect(ContinuousClock.now - start < .seconds(15))
    }
  }

  @Test func aReadWaitsAndTheWaitHasAnEnd() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let start = ContinuousClock.now
      let early = try await f.call("GET", "/v1/jobs/\(job.id)", headers: [(name: "Prefer", value: "wait=1")])
      #expect(try early.decode(JobRecord.self).status == .running && early.header("preference-applied") == "wait=1")
      #expect(ContinuousClock.now - start >= .seconds(1))
      async let answer = f.call("GET", "/v1/jobs/\(job.id)", headers: [(name: "Prefer", value: "wait=900")])
      await f.exec.end(job.id)
      let reply = try await answer
      #expect(try reply.decode(JobRecord.self).status == .completed)
      #expect(reply.header("preference-applied") == "wait=60")
    }
  }

  @Test func whoWaitsIsAnsweredAtTheDrain() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let client = try f.client()
      #expect(try await f.call("GET", "/v1/jobs", client: client).status == 200)
      async let answer = f.call(
        "GET", "/v1/jobs/\(job.id)", headers: [(name: "Prefer", value: "wait=60")], client: client)
      try await f.until("it waits") { f.gateway.waitingRequests == 1 }
      let start = ContinuousClock.now
      await f.group.triggerGracefulShutdown()
      #expect(try await answer.decode(JobRecord.self).status == .running)
      #expect(ContinuousClock.now - start < .seconds(10))
    }
  }

  @Test(arguments: [
    ("wait=30", 30), ("Wait=5", 5), ("respond-async, wait=10", 10), ("wait=1,wait=2", 1), ("wait = 7 ;x=y", 7),
    ("wait=\"8\"", 8), ("wait=0", 0), ("wait=99999999999999999999", 60), ("wait", nil), ("wait=", nil),
    ("wait=-1", nil),
    ("wait=1.5", nil), ("waiting=3", nil), ("", nil), (nil, nil), ("return=minimal", nil),
  ])
  func preferencesAreReadOrIgnored(_ field: String?, _ seconds: Int?) {
    #expect(RequestFields.wait(field) == seconds)
  }

  // MARK: Tags

  @Test func aRecordThatHasNotChangedIsNotSentAgain() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let path = "/v1/jobs/\(job.id)"
      let first = try await f.call("GET", path)
      let tag = try #require(first.header("etag"))
      #expect(tag == "W/\"1\"" && first.header("cache-control") == "no-cache")
      for known in [tag, "\"1\"", "\"x\", \(tag)", "*"] {
        let same = try await f.call("GET", path, headers: [(name: "If-None-Match", value: known)])
        #expect(same.status == 304 && same.body.isEmpty && same.header("etag") == tag, "\(known)")
        #expect(same.header("content-length") == nil && same.header("content-type") == nil)
      }
      await f.exec.end(job.id)
      try await f.until("it has changed") {
        try await f.call("GET", path, headers: [(name: "If-None-Match", value: tag)]).status == 200
      }
      // A stored one has its tag too.
      let stored = RouteTests.record(1, .completed, version: 7)
      await f.persist.store(stored)
      #expect(try await f.call("GET", "/v1/jobs/\(stored.id)").header("etag") == "W/\"7\"")
      let missing = try await f.call(
        "GET", "/v1/jobs/\(JobID(node: 3))", headers: [(name: "If-None-Match", value: "*")])
      #expect(missing.status == 404)
    }
  }

  // MARK: Traces

  @Test func aTraceIsCarriedOn() async throws {
    try await Fixture.run { f in
      let record: JobRecord = try await f.call(
        "POST", "/v1/jobs", #"{"command":"x"}"#, headers: [(name: "traceparent", value: trace)]
      ).decode()
      #expect(record.traceparent == trace)
      #expect(await f.exec.requests.last?.caller.traceparent == trace)
      let audit = try String(contentsOfFile: f.directory + "/audit", encoding: .utf8)
      #expect(audit.contains(trace))
      // What is none is as good as absent.
      _ = try await f.call(
        "POST", "/v1/jobs", #"{"command":"x"}"#, headers: [(name: "traceparent", value: "00-\(trace)")])
      #expect(await f.exec.requests.last?.caller.traceparent == nil)
    }
  }

  @Test func tracesAreReadOrIgnored() {
    #expect(TraceContext(trace)?.description == trace)
    // A later version, of which the known part counts.
    #expect(TraceContext("cc" + trace.dropFirst(2) + "-what")?.description == trace)
    let bad = [
      "", "00", trace + "-", trace + "x", trace.uppercased(), "ff" + trace.dropFirst(2), String(trace.dropLast()),
      "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
      trace.replacing("-", with: "_"), trace.replacing("4b", with: "4g"), "é" + trace.dropFirst(2),
    ]
    for text in bad { #expect(TraceContext(text) == nil, "\(text)") }
  }

  // MARK: Codings

  @Test func longBodiesArePackedForWhoAsks() async throws {
    try await Fixture.run { f in
      let plain = try await f.call("GET", "/openapi.yaml")
      #expect(plain.text == openAPIDocument && plain.header("content-encoding") == nil)
      #expect(plain.header("vary") == "Accept, Accept-Encoding")
      let packed = try await f.call("GET", "/openapi.yaml", headers: [(name: "Accept-Encoding", value: "br, gzip")])
      #expect(packed.header("content-encoding") == "gzip" && packed.header("content-type") == "application/yaml")
      #expect(packed.body.count * 3 < plain.body.count)
      #expect(packed.header("content-length") == "\(packed.body.count)")
      #expect(try gunzip(packed.body) == plain.body)
      let head = try await f.call("HEAD", "/openapi.yaml", headers: [(name: "Accept-Encoding", value: "gzip")])
      #expect(head.body.isEmpty && head.header("content-length") == packed.header("content-length"))
      // A record is not worth it.
      let job = try await f.runJob()
      let small = try await f.call("GET", "/v1/jobs/\(job.id)", headers: [(name: "Accept-Encoding", value: "gzip")])
      #expect(small.header("content-encoding") == nil && small.header("vary") == nil)
    }
  }

  private func value(of name: String, in headers: [(name: String, value: String)]) -> String? {
    headers.first { $0.name == name }?.value
  }

  /// A batch can be read when it arrives, not when the stream ends.
  @Test func aLiveStreamIsPackedBatchByBatch() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let client = try f.client()
      let response = try await client.send(
        HTTPRequest(
          url: "https://127.0.0.1:\(f.port)/v1/jobs/\(job.id)/logs?follow=true",
          headers: [(name: "Accept-Encoding", value: "gzip")], timeout: .seconds(60)))
      #expect(value(of: "content-encoding", in: response.headers) == "gzip")
      var packed: [UInt8] = []
      var chunks = response.body.makeAsyncIterator()
      for round in 1...3 {
        await f.exec.write(job.id, "line \(round)\n")
        while try !String(decoding: gunzip(packed, isWhole: false), as: UTF8.self).hasSuffix("line \(round)\n") {
          packed += try #require(try await chunks.next())
        }
      }
      await f.exec.end(job.id)
      while let chunk = try await chunks.next() { packed += chunk }
      #expect(String(decoding: try gunzip(packed), as: UTF8.self) == "line 1\nline 2\nline 3\n")
    }
  }

  @Test func aLongLogIsPackedWhole() async throws {
    try await Fixture.run { f in
      let record = RouteTests.record(1, .completed)
      await f.persist.store(record)
      for seq in 1...4000 { await f.persist.store(record.id, UInt64(seq), String(repeating: "abc \(seq) ", count: 20)) }
      let plain = try await f.call("GET", "/v1/jobs/\(record.id)/logs")
      let packed = try await f.call(
        "GET", "/v1/jobs/\(record.id)/logs", headers: [(name: "Accept-Encoding", value: "gzip;q=0.5")])
      #expect(plain.body.count > 500_000 && packed.body.count * 5 < plain.body.count)
      #expect(try gunzip(packed.body) == plain.body)
    }
  }

  @Test(arguments: [
    ("gzip", true), ("x-gzip", true), ("br, gzip;q=0.1", true), ("*", true), ("gzip;q=0", false), ("identity", false),
    ("br", false), ("", false), (nil, false), ("gzip;q=0.5, identity", false), ("identity;q=0.5, gzip;q=1.0", true),
    ("*;q=0", false), ("gzip;q=zzz", false), ("GZIP", true), ("deflate, *;q=0.5, gzip;q=0", false),
  ])
  func codingsAreChosen(_ field: String?, _ isPacked: Bool) {
    #expect(RequestFields.acceptsGzip(field) == isPacked)
  }

  @Test func fieldsOfAnyBytesAreRead() {
    var random = Seeded(state: 20_261_122)
    let pieces = ["wait", "=", "30", ",", ";", " ", "\"", "W/", "gzip", "q", "*", "é", "\t", "1", "0.5", "-"]
    for _ in 0..<50_000 {
      let text = (0..<Int(random.next() % 12)).map { _ in pieces[Int(random.next()) % pieces.count] }.joined()
      if let wait = RequestFields.wait(text) { #expect((0...60).contains(wait)) }
      _ = RequestFields.acceptsGzip(text)
      _ = RequestFields.hasMatch(text, "W/\"1\"")
      _ = TraceContext(text)
      if let key = try? RequestFields.idempotencyKey(text) { #expect((1...255).contains(key.utf8.count)) }
    }
  }

  // MARK: Methods

  private struct ProblemList: Decodable {
    struct Item: Decodable {
      var type: String
      var title: String
      var status: Int
    }

    var problems: [Item]
    var types: [String] { problems.map(\.type) }

    func item(_ type: String?) -> Item? { problems.first { $0.type == type } }
  }

  private func routeMethods(of pattern: String) -> Set<String> {
    Set(Gateway.routes.filter { $0.pattern == pattern }.map(\.method))
  }

  private func listed(_ field: String?) -> Set<String> {
    Set(field?.split(separator: ", ").map(String.init) ?? [])
  }

  @Test func headAndOptionsAreRightOnEveryRoute() async throws {
    try await Fixture.run { f in
      let client = try f.client()
      let job = try await f.runJob()
      await f.exec.write(job.id, "x\n")
      let patterns = Set(Gateway.routes.map(\.pattern))
      for pattern in patterns {
        let path = pattern.replacing("{id}", with: job.id.description)
        let methods = routeMethods(of: pattern)
        let options = try await f.call("OPTIONS", path, client: client)
        #expect(options.status == 204 && options.body.isEmpty, "\(path)")
        let allowed = listed(options.header("allow"))
        #expect(allowed == methods.union(methods.contains("GET") ? ["HEAD", "OPTIONS"] : ["OPTIONS"]), "\(path)")
        let wrong = try await f.call("PATCH", path, client: client)
        #expect(wrong.status == 405 && wrong.header("allow") == options.header("allow"), "\(path)")
        let head = try await f.call("HEAD", path, client: client)
        #expect(head.body.isEmpty)
        guard methods.contains("GET") else {
          #expect(head.status == 405, "\(path)")
          continue
        }
        #expect(head.status == 200, "\(path)")
      }
      let get = try await f.call("GET", "/v1/jobs/\(job.id)", client: client)
      let head = try await f.call("HEAD", "/v1/jobs/\(job.id)", client: client)
      for name in ["content-length", "content-type", "etag"] { #expect(head.header(name) == get.header(name)) }
      let all = try await RawClient.exchange(f, ["OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
      #expect(all.hasPrefix("HTTP/1.1 204 "))
      #expect(all.lowercased().contains("\r\nallow: delete, get, head, options, post\r\n"))
    }
  }

  @Test func problemTypesAreListed() async throws {
    try await Fixture.run { f in
      let list: ProblemList = try await f.call("GET", "/v1/problems", role: .reader).decode()
      #expect(list.types == Problem.Kind.allCases.map(\.type))
      let missing = try await f.call("GET", "/v1/jobs/x")
      let item = list.item(missing.problem?.type)
      #expect(item?.title == missing.problem?.title && item?.status == missing.status)
      let wrong = try await f.call("POST", "/v1/jobs", "x", headers: [(name: "Content-Type", value: "text/plain")])
      #expect(wrong.status == 415 && wrong.header("accept") == "application/json")
    }
  }
}
