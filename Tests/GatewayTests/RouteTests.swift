import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

@Suite(.timeLimit(.minutes(2))) struct RouteTests {
  @Test func runsReadsListsStopsAndDeletes() async throws {
    try await Fixture.run { f in
      let created = try await f.call(
        "POST", "/v1/jobs", #"{"command":"echo","args":["hi"],"secret_env":{"T":"s3cr3t"}}"#, role: .developer,
        headers: [(name: "X-Request-Id", value: "my-request.1")])
      #expect(created.status == 201)
      let record: JobRecord = try created.decode()
      #expect(created.header("location") == "/v1/jobs/\(record.id)")
      #expect(created.header("x-request-id") == "my-request.1")
      #expect(created.header("content-type") == "application/json")
      #expect(record.owner == "developer-person")
      #expect(!created.text.contains("s3cr3t"))
      let asked = try #require(await f.exec.requests.first)
      #expect(asked.caller == Caller(name: "developer-person", role: .developer, requestID: "my-request.1"))
      #expect(asked.request.secretEnv == ["T": "s3cr3t"])

      // Its own 201 is visible at once, whatever exec's events do.
      let read = try await f.call("GET", "/v1/jobs/\(record.id)", role: .reader)
      #expect(try read.decode(JobRecord.self) == record)
      #expect(try await list(f, "").map(\.id) == [record.id])

      let stopped = try await f.call("POST", "/v1/jobs/\(record.id)/stop", #"{"grace":"250ms"}"#)
      #expect(stopped.status == 202)
      #expect(await f.exec.stops.first?.graceMilliseconds == 250)
      #expect(try await f.call("POST", "/v1/jobs/\(record.id)/stop").status == 202)

      for (verb, type, status) in [("pause", FrameType.pause, JobStatus.paused), ("resume", .resume, .running)] {
        #expect(try await f.call("POST", "/v1/jobs/\(record.id)/\(verb)", role: .reader).status == 403)
        let answer = try await f.call("POST", "/v1/jobs/\(record.id)/\(verb)", role: .developer)
        #expect(answer.status == 200)
        #expect(try answer.decode(JobRecord.self).status == status)
        #expect(await f.exec.pauses.last?.type == type)
        #expect(await f.exec.pauses.last?.caller.name == "developer-person")
        #expect(try await f.call("GET", "/v1/jobs/\(record.id)").decode(JobRecord.self).status == status)
        #expect(try await f.call("POST", "/v1/jobs/\(JobID(node: 7))/\(verb)").status == 404)
      }

      let refused = try await f.call("DELETE", "/v1/jobs/\(record.id)")
      #expect(refused.status == 409)
      #expect(refused.problem?.type == "urn:joblet:problem:conflict")
      await f.exec.end(record.id, exitCode: 3)
      try await f.until("the end is known") {
        try await f.call("GET", "/v1/jobs/\(record.id)").decode(JobRecord.self).status == .failed
      }
      for verb in ["pause", "resume"] {
        let late = try await f.call("POST", "/v1/jobs/\(record.id)/\(verb)")
        #expect(late.status == 409 && late.problem?.type == "urn:joblet:problem:conflict")
      }
      let deleted = try await f.call("DELETE", "/v1/jobs/\(record.id)")
      #expect(deleted.status == 204)
      #expect(deleted.body.isEmpty)
      #expect(try await f.call("GET", "/v1/jobs/\(record.id)").status == 404)
      #expect(try await f.call("DELETE", "/v1/jobs/\(record.id)").status == 404)
    }
  }

  struct List: Decodable {
    var jobs: [JobRecord]
    var next_cursor: String?
  }

  func list(_ f: Fixture, _ query: String) async throws -> [JobRecord] {
    try await f.call("GET", "/v1/jobs\(query)").decode(List.self).jobs
  }

  static func record(_ number: Int, _ status: JobStatus, version: UInt64 = 1) -> JobRecord {
    let id = JobID(
      now: Timestamp(nanoseconds: 1_790_000_000_000_000_000 + Int64(number) * 1_000_000), node: 1, random: 5)
    var record = JobRecord(
      id: id, request: JobRequest(command: "n\(number)"), status: status, createdAt: .now(), nodeID: "n", owner: "o")
    record.version = version
    return record
  }

  @Test func listMergesLiveAndStoredWithoutDoublesAcrossPages() async throws {
    try await Fixture.run { f in
      // Odd numbers live, multiples of three stored with an older version, the rest stored alone.
      for number in 0..<40 {
        if number % 2 == 1 { await f.exec.add(Self.record(number, .running, version: 2)) }
        if number % 2 == 0 || number % 3 == 0 { await f.persist.store(Self.record(number, .completed)) }
      }
      try await f.until("all are seen") { try await list(f, "?limit=1000").count == 40 }
      var seen: [JobRecord] = []
      var cursor: String?
      repeat {
        let page = try await f.call("GET", "/v1/jobs?limit=7" + (cursor.map { "&cursor=\($0)" } ?? ""))
          .decode(List.self)
        #expect(page.jobs.count <= 7)
        seen += page.jobs
        cursor = page.next_cursor
      } while cursor != nil
      #expect(seen.map(\.command) == (0..<40).reversed().map { "n\($0)" })
      for record in seen {
        let number = Int(record.command.dropFirst()) ?? 0
        #expect((record.status == .running) == (number % 2 == 1), "\(record.command)")
      }
      // A job that both know is in the live one's state only.
      #expect(try await list(f, "?status=COMPLETED").count == 20)
      #expect(try await list(f, "?status=running&limit=5").map(\.command) == ["n39", "n37", "n35", "n33", "n31"])
    }
  }

  /// What both sides are asked for, and who matches: the live view and the store by one and the same definition.
  @Test func listFiltersLiveAndStoredAlike() async throws {
    try await Fixture.run { f in
      let base = Timestamp(nanoseconds: 1_790_000_000_000_000_000)
      for number in 0..<40 {
        var record = Self.record(number, number % 4 < 2 ? .failed : .completed)
        record.createdAt = Timestamp(nanoseconds: base.nanoseconds + Int64(number) * 1_000_000)
        record.labels = number % 5 == 0 ? ["team": "Red"] : [:]
        if number % 2 == 0 { await f.exec.add(record) } else { await f.persist.store(record) }
      }
      try await f.until("all are seen") { try await list(f, "?limit=1000").count == 40 }
      func numbers(_ query: String) async throws -> [Int] {
        try await list(f, query).compactMap { Int($0.command.dropFirst()) }
      }
      let all = (0..<40).reversed()
      #expect(try await numbers("?status=FAILED") == all.filter { $0 % 4 < 2 })
      #expect(try await numbers("?status=failed,COMPLETED,RUNNING") == Array(all))
      #expect(try await numbers("?q=TEAM%3Dred") == all.filter { $0 % 5 == 0 })
      #expect(try await numbers("?q=n3&status=COMPLETED") == [39, 38, 35, 34, 31, 30, 3])
      let (since, until) = ("2026-09-21T14:13:20.010Z", "1790000000.02")
      #expect(try await numbers("?since=\(since)&until=\(until)") == (10...20).reversed())
      #expect(try await numbers("?since=now").isEmpty)
      #expect(try await numbers("?until=1h") == Array(all))
    }
  }

  /// A store whose search stops half-way says where; nothing is left out or given twice, whichever side has it.
  @Test func listGoesOnWhereASearchStopped() async throws {
    try await Fixture.run { f in
      for number in 0..<60 {
        let record = Self.record(number, .completed)
        if number % 3 == 0 { await f.exec.add(record) } else { await f.persist.store(record) }
      }
      await f.persist.stopSearching(after: 4)
      // The last that exec was given: its events come in order.
      try await f.until("the view is there") { try await list(f, "?limit=1000&q=n57").first?.command == "n57" }
      var seen: [String] = []
      var cursor: String?
      repeat {
        let page = try await f.call("GET", "/v1/jobs?limit=5&q=n" + (cursor.map { "&cursor=\($0)" } ?? ""))
          .decode(List.self)
        seen += page.jobs.map(\.command)
        cursor = page.next_cursor
      } while cursor != nil
      #expect(seen == (0..<60).reversed().map { "n\($0)" })
    }
  }

  @Test(arguments: [
    ("?status=DEAD", "status"), ("?status=", "status"), ("?status=RUNNING,", "status"), ("?since=yesterday", "since"),
    ("?until=-1h", "until"), ("?since=", "since"), ("?q=", "q"), ("?q=" + String(repeating: "x", count: 257), "q"),
    ("?limit=0", "limit"), ("?limit=1001", "limit"), ("?limit=x", "limit"), ("?cursor=x", "cursor"),
    ("?search=x", "search"), ("?status=RUNNING&status=FAILED", "status"),
  ])
  func listRefusesByName(query: String, field: String) async throws {
    try await Fixture.run { f in
      let reply = try await f.call("GET", "/v1/jobs\(query)")
      #expect(reply.status == 422)
      #expect(reply.problem?.field == field, "\(reply.text)")
      #expect(reply.text.contains("allowed") || field == "search" && reply.text.contains("known here: status, since"))
    }
  }

  @Test(
    arguments: [
      ("{", 400, "bad-request", nil), ("", 400, "bad-request", nil), ("[]", 422, "invalid-field", nil),
      (#"{"command":"x","cmd":1}"#, 422, "invalid-field", "cmd"),
      (#"{"args":[]}"#, 422, "invalid-field", "command"), (#"{"command":""}"#, 422, "invalid-field", "command"),
      (#"{"command":7}"#, 422, "invalid-field", "command"),
      (#"{"command":"x","args":"y"}"#, 422, "invalid-field", "args"),
      (#"{"command":"x","args":["y",2]}"#, 422, "invalid-field", "args.[1]"),
      (#"{"command":"x","limits":{"pids":0}}"#, 422, "invalid-field", "limits.pids"),
      (#"{"command":"x","limits":{"pids":1.5}}"#, 422, "invalid-field", "limits.pids"),
      (#"{"command":"x","limits":{"cpu_percent":100001}}"#, 422, "invalid-field", "limits.cpu_percent"),
      (#"{"command":"x","limits":{"memory_mb":-1}}"#, 422, "invalid-field", "limits.memory_mb"),
      (#"{"command":"x","limits":{"memory":1}}"#, 422, "invalid-field", "limits.memory"),
      (#"{"command":"x","timeout":"soon"}"#, 422, "invalid-field", "timeout"),
      (#"{"command":"x","env":{"A":null}}"#, 422, "invalid-field", "env.A"),
      ("{\"command\":\"\u{1}\"}", 400, "bad-request", nil),
    ] as [(String, Int, String, String?)])
  func badBodiesAreNamed(_ body: String, _ status: Int, _ kind: String, _ field: String?) async throws {
    try await Fixture.run { f in
      let answer = try await f.call("POST", "/v1/jobs", body)
      #expect(answer.status == status, "\(answer.text)")
      #expect(answer.header("content-type") == "application/problem+json")
      #expect(answer.problem?.type == "urn:joblet:problem:\(kind)")
      #expect(answer.problem?.field == field, "\(answer.text)")
      #expect(answer.problem?.request_id == answer.header("x-request-id"))
      #expect(await f.exec.requests.isEmpty)
    }
  }

  @Test func badRequestsGetTheirProblem() async throws {
    try await Fixture.run { f in
      let id = JobID(node: 1)
      func expect(
        _ method: String, _ path: String, _ status: Int, _ kind: String, _ contains: String, body: String? = nil,
        headers: [(name: String, value: String)] = []
      ) async throws {
        let answer = try await f.call(method, path, body, headers: headers)
        #expect(answer.status == status, "\(method) \(path): \(answer.text)")
        #expect(answer.problem?.type == "urn:joblet:problem:\(kind)", "\(method) \(path)")
        #expect(answer.problem?.detail.contains(contains) == true, "\(answer.text)")
        #expect(answer.problem?.status == status)
      }
      try await expect("GET", "/v1/nothing", 404, "not-found", "/openapi.yaml")
      try await expect("GET", "/v1/jobs/12", 404, "not-found", "UUID")
      try await expect("GET", "/v1/jobs/\(id)", 404, "not-found", "\(id)")
      try await expect("GET", "/v1/jobs/\(id)/logs", 404, "not-found", "\(id)")
      try await expect("POST", "/v1/jobs/\(id)/stop", 404, "not-found", "\(id)")
      try await expect("DELETE", "/v1/jobs/\(id)", 404, "not-found", "no")
      try await expect("GET", "/v1/jobs?limt=3", 422, "invalid-field", "status, since, until, q, limit, cursor")
      try await expect("GET", "/v1/jobs?limit=0", 422, "invalid-field", "1 to 1000")
      try await expect("GET", "/v1/jobs?limit=1001", 422, "invalid-field", "1 to 1000")
      try await expect("GET", "/v1/jobs?limit=1&limit=2", 422, "invalid-field", "twice")
      try await expect("GET", "/v1/jobs?cursor=abc", 422, "invalid-field", "next_cursor")
      try await expect("GET", "/v1/jobs?status=DONE", 422, "invalid-field", "COMPLETED")
      try await expect("GET", "/v1/jobs?status=%zz", 400, "bad-request", "hexadecimal")
      try await expect("GET", "/v1/jobs", 406, "not-acceptable", "application/json", headers: [("Accept", "text/html")])
      try await expect(
        "POST", "/v1/jobs", 415, "unsupported-media-type", "application/json", body: "a=b",
        headers: [("Content-Type", "application/x-www-form-urlencoded")])
      try await expect(
        "POST", "/v1/jobs", 415, "unsupported-media-type", "gzip", body: "x", headers: [("Content-Encoding", "gzip")])
      try await expect("POST", "/v1/jobs/\(id)/stop", 422, "invalid-field", "grace", body: #"{"grace":"1y"}"#)
      try await expect("POST", "/v1/jobs/\(id)/stop", 422, "invalid-field", "force", body: #"{"force":true}"#)
      let big = #"{"command":"x","args":[""# + String(repeating: "a", count: 2 << 20) + #""]}"#
      try await expect("POST", "/v1/jobs", 413, "too-large", "2097152", body: big)
      let wrong = try await f.call("PUT", "/v1/jobs")
      #expect(wrong.status == 405)
      #expect(wrong.header("allow") == "POST, GET, HEAD, DELETE, OPTIONS")
      let options = try await f.call("OPTIONS", "/v1/jobs")
      #expect(options.status == 204)
      #expect(options.header("allow") == "POST, GET, HEAD, DELETE, OPTIONS")
    }
  }

  @Test func whatExecRefusesReachesTheClientInItsWords() async throws {
    try await Fixture.run { f in
      await f.exec.refuse(Problem(.tooManyJobs, "10 jobs wait, which is the limit", retryAfter: 7))
      let answer = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#)
      #expect(answer.status == 429)
      #expect(answer.header("retry-after") == "7")
      #expect(answer.problem?.detail == "10 jobs wait, which is the limit")
      // A full disk is persist's to notice, exec's to refuse for, and the client's to read of: exec started nothing.
      await f.exec.refuse(Problem(.unavailable, "joblet-persist takes no new jobs: disk full", retryAfter: 30))
      let full = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#)
      #expect(full.status == 503 && full.header("retry-after") == "30")
      #expect(full.problem?.detail == "joblet-persist takes no new jobs: disk full")
    }
  }

  @Test func withoutExecReadsWorkAndChangesSayWhenToComeBack() async throws {
    try await Fixture.run(withExec: false) { f in
      let record = Self.record(1, .completed)
      await f.persist.store(record)
      await f.persist.store(record.id, 1, "kept")
      let read = try await f.call("GET", "/v1/jobs/\(record.id)")
      #expect(read.status == 200)
      #expect(read.header("x-joblet-stale") != nil)
      #expect(try await list(f, "").count == 1)
      #expect(try await f.call("GET", "/v1/jobs/\(record.id)/logs").text == "kept\n")
      for (method, path, body) in [
        ("POST", "/v1/jobs", #"{"command":"x"}"#), ("POST", "/v1/jobs/\(record.id)/stop", nil),
        ("DELETE", "/v1/jobs/\(record.id)", nil), ("GET", "/v1/jobs/\(JobID(node: 1))", nil),
      ] {
        let answer = try await f.call(method, path, body)
        #expect(answer.status == 503, "\(method) \(path)")
        #expect(answer.problem?.type == "urn:joblet:problem:unavailable")
        #expect(answer.header("retry-after") == "2")
      }
      let ready = try await f.health("/readyz")
      #expect(ready.status == 503)
      #expect(ready.text.contains("joblet-exec is away"))
    }
  }

  @Test func healthTellsWhatGoesOn() async throws {
    try await Fixture.run { f in
      _ = try await f.runJob()
      _ = try await f.call("GET", "/v1/jobs/x", role: .reader)
      #expect(try await f.health("/healthz").text == "ok\n")
      try await f.until("persist is seen") { try await f.health("/readyz").status == 200 }
      let metrics = try await f.health("/metrics").text
      #expect(
        metrics.contains(#"joblet_api_requests_total{route="/v1/jobs",method="POST",role="developer",status="201"} 1"#))
      #expect(
        metrics.contains(#"joblet_api_requests_total{route="/v1/jobs/{id}",method="GET",role="reader",status="404"} 1"#)
      )
      #expect(metrics.contains(#"joblet_jobs{status="RUNNING"} 1"#))
      #expect(metrics.contains(#"joblet_api_request_duration_seconds_bucket{route="/v1/jobs",le="+Inf"} 1"#))
      #expect(metrics.contains("\njoblet_persist_up 1\n"))
      #expect(metrics.contains("\njoblet_persist_lines_total 5\n"))
      #expect(try await f.health("/v1/jobs").status == 404)
    }
  }

  @Test func aStoreThatTakesNoMoreJobsIsToldToBalancers() async throws {
    try await Fixture.run { f in
      await f.persist.say(StoreCondition(acceptsJobs: false, reason: "5 MB are free, 1 GiB is the floor"))
      try await f.until("it is told") { try await f.health("/readyz").status == 503 }
      #expect(
        try await f.health("/readyz").text == "joblet-persist takes no new jobs: 5 MB are free, 1 GiB is the floor\n")
      await f.persist.say(.good)
      try await f.until("it is well again") { try await f.health("/readyz").status == 200 }
    }
  }

  @Test func auditNamesEveryChangeAndRefusalAndNoSecret() async throws {
    try await Fixture.run { f in
      let record: JobRecord = try await f.call(
        "POST", "/v1/jobs", #"{"command":"x","secret_env":{"K":"hunter2"}}"#, role: .developer
      ).decode()
      _ = try await f.call("POST", "/v1/jobs", #"{"command":"x","args":["hunter2"]}"#, role: .reader)
      _ = try await f.call("POST", "/v1/jobs?x=hunter2", #"{"command":"x"}"#)
      _ = try await f.call("GET", "/v1/jobs")
      let text = try String(contentsOfFile: f.directory + "/audit", encoding: .utf8)
      let lines = try text.split(separator: "\n").map {
        try JSONDecoder().decode(AuditRecord.self, from: Data($0.utf8))
      }
      #expect(lines.map(\.outcome) == [.ok, .refused, .failed])
      #expect(lines.map(\.who) == ["developer-person", "reader-person", "admin-person"])
      #expect(lines.map(\.operation) == ["jobs:run", "jobs:run", "jobs:run"])
      #expect(lines[0].target == record.id.description)
      #expect(lines.map(\.status) == [201, 403, 422])
      #expect(lines.allSatisfy { !$0.requestID.isEmpty && $0.path == "/v1/jobs" })
      #expect(!text.contains("hunter2"))
    }
  }
}
