import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

/// `ipc.enabled: false`: nothing is stored, and nobody looks for persist.
@Suite(.timeLimit(.minutes(2))) struct LiveOnlyTests {
  private func run(_ body: @Sendable @escaping (Fixture) async throws -> Void) async throws {
    try await Fixture.run({ configuration, _ in configuration.ipc.enabled = false }, body)
  }

  @Test func jobsAreRunReadListedAndDeleted() async throws {
    try await run { f in
      #expect(try await f.health("/readyz").text == "ready\n")
      let job = try await f.runJob()
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)").decode(JobRecord.self).id == job.id)
      #expect(try await f.call("GET", "/v1/jobs").decode(RouteTests.List.self).jobs.count == 1)
      #expect(try await f.call("DELETE", "/v1/jobs/\(job.id)").status == 409)
      await f.exec.end(job.id)
      #expect(try await f.call("DELETE", "/v1/jobs/\(job.id)").status == 204)
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)").status == 404)
      #expect(try await f.call("DELETE", "/v1/jobs/\(job.id)").status == 404)
      let metrics = try await f.health("/metrics").text
      #expect(metrics.contains(#"backend_up{backend="exec"} 1"#) && !metrics.contains("persist"))
    }
  }

  /// exec remembers the key for longer than the record, and nobody else has it: nobody deleted it.
  @Test func aKeyOutlivesItsJobsRecord() async throws {
    try await run { f in
      let headers = [(name: "Idempotency-Key", value: "k")]
      let job: JobRecord = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers).decode()
      await f.exec.end(job.id)
      await f.exec.forget(job.id)
      await f.exec.hangUp()
      try await f.until("it is forgotten") { try await f.call("GET", "/v1/jobs/\(job.id)").status == 404 }
      try await f.untilReady()
      let late = try await f.call("POST", "/v1/jobs", #"{"command":"x"}"#, headers: headers)
      let detail = try #require(late.problem?.detail)
      #expect(late.status == 409 && detail.hasPrefix("job \(job.id) was started by this Idempotency-Key"))
      #expect(detail.contains("no longer kept") && detail.contains("stores nothing"))
      #expect(await f.exec.jobs.isEmpty)
    }
  }

  @Test func aFollowIsLiveAndSaysWhatTheRingHasLost() async throws {
    try await run { f in
      let job = try await f.runJob()
      for seq in 1...6 { await f.exec.write(job.id, "line \(seq)\n") }
      await f.exec.drop(job.id, through: 4)
      for more in ["", "&filter=line"] {
        var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs?follow=true\(more)"))
        #expect(try await events.next() == .init(name: "gap", data: #"{"from":1,"to":4}"#))
        #expect(try await events.next()?.id == "5")
        #expect(try await events.next()?.id == "6")
      }
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs?follow=true&tail=1"))
      #expect(try await events.next()?.id == "6")
      await f.exec.end(job.id)
      #expect(try await events.all().map(\.name) == ["end"])
    }
  }

  @Test func anEndedJobsLogIsAGapAndItsEnd() async throws {
    try await run { f in
      let job = try await f.runJob()
      for seq in 1...6 { await f.exec.write(job.id, "line \(seq)\n") }
      await f.exec.drop(job.id, through: 6)
      await f.exec.end(job.id, exitCode: 3)
      let path = "/v1/jobs/\(job.id)/logs"
      for query in ["", "?follow=true", "?stream=stderr", "?filter=x&follow=1"] {
        var events = EventReader(try await f.open(path + query))
        let all = try await events.all()
        #expect(all.map(\.name) == ["gap", "end"], "\(query)")
        #expect(all.first?.data == #"{"from":1,"to":6}"#)
      }
      let json = [(name: "Accept", value: "application/x-ndjson")]
      #expect(try await f.call("GET", path, headers: json).text == "{\"gap\":{\"from\":1,\"to\":6}}\n")
      #expect(try await f.call("GET", path).text == "[joblet: lines 1 to 6 of the output are missing]\n")
      // exec may have forgotten all but the record.
      await f.exec.forget(job.id)
      var events = EventReader(try await f.open(path + "?follow=true"))
      #expect(try await events.all().map(\.name) == ["gap", "end"])
    }
  }

  @Test(arguments: [
    ("logs?order=desc", "order"), ("logs?regex=x", "regex"), ("logs?regex=x&follow=true", "regex"),
    ("logs?offset=1", "offset"), ("metrics?aggregate=avg", "aggregate"), ("metrics?order=desc", "order"),
  ])
  func whatNeedsTheStoreIsRefused(_ path: String, _ field: String) async throws {
    try await run { f in
      let answer = try await f.call("GET", "/v1/jobs/\(try await f.runJob().id)/\(path)")
      #expect(answer.status == 422 && answer.problem?.field == field)
      #expect(answer.problem?.detail.contains("ipc.enabled") == true)
    }
  }

  @Test func metricsAreLive() async throws {
    try await run { f in
      let job = try await f.runJob()
      for seq in 1...5 { await f.exec.measure(job.id, MetricTests.sample(UInt64(seq))) }
      await f.exec.dropSamples(job.id, through: 3)
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?follow=true"))
      #expect(try await events.next() == .init(name: "gap", data: #"{"from":1,"to":3}"#))
      #expect(try await events.next()?.id == "4")
      #expect(try await events.next()?.id == "5")
      await f.exec.end(job.id)
      #expect(try await events.all().map(\.name) == ["end"])
    }
  }
}
