import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

@Suite(.timeLimit(.minutes(2))) struct MetricTests {
  static let start = Timestamp(rfc3339: "2026-11-21T20:00:00Z")!

  /// Sample `seq`, taken that many seconds after the start.
  static func sample(_ seq: UInt64) -> MetricSample {
    var sample = MetricSample(seq: seq, ts: Timestamp(nanoseconds: start.nanoseconds + Int64(seq) * 1_000_000_000))
    sample.cpuPercent = 12.5
    sample.memoryBytes = Int64(seq) << 20
    sample.pids = 3
    return sample
  }

  static func samples(_ range: ClosedRange<UInt64>) -> [MetricSample] { range.map(sample) }

  @Test func aFollowJoinsStoredAndLiveSamplesAndEndsOnce() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.persist.store(job.id, Self.samples(1...7))
      for seq in 1...9 { await f.exec.measure(job.id, Self.sample(UInt64(seq))) }
      await f.exec.dropSamples(job.id, through: 7)
      let response = try await f.open("/v1/jobs/\(job.id)/metrics?follow=true")
      #expect(response.status == 200)
      #expect(response.header("content-type") == "text/event-stream")
      #expect(response.header("cache-control") == "no-store")
      var events = EventReader(response)
      for seq in 1...9 {
        let event = try #require(try await events.next())
        #expect(event.name == "metrics" && event.id == "\(seq)")
        // Byte for byte what is stored.
        #expect(event.data + "\n" == Self.sample(UInt64(seq)).line)
      }
      await f.exec.measure(job.id, Self.sample(10))
      #expect(try await events.next()?.id == "10")
      await f.exec.end(job.id, exitCode: 3)
      let end = try #require(try await events.next())
      #expect(end.name == "end" && end.id == nil)
      #expect(try JSONDecoder().decode(JobEnd.self, from: Data(end.data.utf8)).exitCode == 3)
      #expect(try await events.next() == nil)
      #expect(events.retry == "2000")
      #expect(await f.persist.metricQueries.map(\.throughSeq) == [7])
    }
  }

  @Test func aReconnectGoesOnWhereItWas() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in 1...5 { await f.exec.measure(job.id, Self.sample(UInt64(seq))) }
      await f.exec.end(job.id)
      for (path, header) in [("?follow=true", "3"), ("?after=3", nil), ("?follow=1&after=1", "3")] {
        var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics\(path)", after: header))
        #expect(try await events.all().map(\.id) == ["4", "5", nil])
      }
    }
  }

  @Test func samplesThatAreNowhereAreAGap() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.persist.store(job.id, Self.samples(1...2) + Self.samples(5...5))
      for seq in 1...8 { await f.exec.measure(job.id, Self.sample(UInt64(seq))) }
      await f.exec.dropSamples(job.id, through: 7)
      await f.exec.end(job.id)
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?follow=true"))
      let all = try await events.all()
      #expect(all.map(\.name) == ["metrics", "metrics", "gap", "metrics", "gap", "metrics", "end"])
      #expect(all.filter { $0.name == "gap" }.map(\.data) == [#"{"from":3,"to":4}"#, #"{"from":6,"to":7}"#])
      let text = try await f.call("GET", "/v1/jobs/\(job.id)/metrics").text
      #expect(text.contains("\n[joblet: samples 3 to 4 of the metrics are missing]\n"))
    }
  }

  /// An ended job whose samples are all stored.
  private func ended(_ f: Fixture, _ number: Int = 3) async -> JobRecord {
    var record = RouteTests.record(number, .completed, version: 4)
    record.lastSeq = 500  // lines; samples have numbers of their own
    await f.persist.store(record)
    await f.persist.store(record.id, Self.samples(1...20))
    return record
  }

  @Test func anEndedJobIsReadFromTheStore() async throws {
    try await Fixture.run { f in
      let path = "/v1/jobs/\(await ended(f).id)/metrics"
      var events = EventReader(try await f.open(path + "?limit=1000"))
      let all = try await events.all()
      #expect(all.count == 21 && all.last?.name == "end" && all.first?.id == "1")
      let json = [(name: "Accept", value: "application/x-ndjson")]
      let lines = try await f.call("GET", path, headers: json)
      #expect(lines.header("content-type") == "application/x-ndjson")
      #expect(lines.text == Self.samples(1...20).map(\.line).joined())
      #expect(
        try await f.call("GET", path + "?limit=2", headers: json).text == Self.samples(1...2).map(\.line).joined())
      #expect(
        try await f.call("GET", path + "?offset=3&limit=2", headers: json).text
          == Self.samples(4...5).map(\.line).joined())
      #expect(
        try await f.call("GET", path + "?order=desc&limit=2", headers: json).text
          == Self.samples(19...20).reversed().map(\.line).joined())
      let range = "?since=2026-11-21T20:00:05Z&until=2026-11-21T20:00:06.5Z"
      #expect(try await f.call("GET", path + range, headers: json).text == Self.samples(5...6).map(\.line).joined())
    }
  }

  @Test func aTimeRangeOfLiveSamples() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in 1...9 { await f.exec.measure(job.id, Self.sample(UInt64(seq))) }
      await f.exec.end(job.id)
      let seconds = Self.start.nanoseconds / 1_000_000_000
      var events = EventReader(
        try await f.open("/v1/jobs/\(job.id)/metrics?since=\(seconds + 3).5&until=\(seconds + 6)"))
      #expect(try await events.all().map(\.id) == ["4", "5", "6", nil])
      events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?since=now&follow=true"))
      #expect(try await events.all().map(\.name) == ["end"])
    }
  }

  @Test func textIsATable() async throws {
    try await Fixture.run { f in
      let text = try await f.call("GET", "/v1/jobs/\(await ended(f).id)/metrics?limit=3&offset=9").text
      let lines = text.split(separator: "\n")
      #expect(lines.count == 4)
      #expect(Set(lines.map(\.count)).count == 1, "\(text)")
      #expect(lines[0].split(separator: " ").prefix(4) == ["TIME", "CPU", "CPU-TIME", "MEMORY"])
      #expect(lines[1].split(separator: " ").prefix(4) == ["2026-11-21T20:00:10Z", "12.5%", "-", "10.0MiB"])
    }
  }

  @Test func aggregatesAreTheStoresAndSeeWhatTheRingHas() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.persist.store(job.id, Self.samples(1...4))
      for seq in 1...4 { await f.exec.measure(job.id, Self.sample(UInt64(seq))) }
      await f.exec.dropSamples(job.id, through: 2)
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?aggregate=avg&interval=1m"))
      var all = try await events.all()
      #expect(all.map(\.name) == ["metrics"] && all.first?.id == nil)
      #expect(
        all.first?.data
          == "{\"ts\":\"\(Self.sample(1).ts)\",\"aggregate\":\"avg\",\"samples\":4,\"memory_bytes\":2621440}")
      let query = try #require(await f.persist.metricQueries.last)
      #expect(query.aggregate == .average && query.intervalMilliseconds == 60_000 && query.throughSeq == 4)
      let text = try await f.call("GET", "/v1/jobs/\(job.id)/metrics?aggregate=max").text
      #expect(text.split(separator: "\n").map { $0.split(separator: " ")[1] } == ["SAMPLES", "4"])
      await f.exec.end(job.id)
      try await f.until("the end is known") {
        try await f.call("GET", "/v1/jobs/\(job.id)").decode(JobRecord.self).status == .completed
      }
      events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?aggregate=p95"))
      all = try await events.all()
      #expect(all.map(\.name) == ["metrics", "end"])
    }
  }

  @Test func withoutFollowARunningJobGivesWhatThereIsNow() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.measure(job.id, Self.sample(1), Self.sample(2))
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics"))
      #expect(try await events.all().map(\.id) == ["1", "2"])
      let quiet = try await f.runJob()
      #expect(try await f.call("GET", "/v1/jobs/\(quiet.id)/metrics").text.split(separator: "\n").count == 1)
      #expect(try await f.call("GET", "/v1/jobs/\(JobID(node: 1))/metrics").status == 404)
    }
  }

  @Test(arguments: [
    ("follow=maybe", "follow"), ("after=-1", "after"), ("since=yesterday", "since"), ("until=1w", "until"),
    ("limit=0", "limit"), ("offset=x", "offset"), ("order=down", "order"), ("aggregate=mean", "aggregate"),
    ("interval=1m", "interval"), ("aggregate=avg&interval=1", "interval"), ("aggregate=avg&interval=10ms", "interval"),
    ("aggregate=avg&interval=366d", "interval"), ("follow=true&aggregate=avg", "aggregate"),
    ("follow=true&limit=2", "limit"), ("follow=true&until=now", "until"), ("follow=true&order=desc", "order"),
    ("stream=stdout", "stream"), ("filter=x", "filter"), ("tail=3", "tail"),
  ])
  func badParametersAreNamed(_ query: String, _ field: String) throws {
    let target = try RequestTarget("/v1/jobs/x/metrics?\(query)")
    #expect { try MetricParameters(target, lastEventID: nil) } throws: { ($0 as? Problem)?.field == field }
  }

  @Test func aBadParameterIsA422() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let answer = try await f.call("GET", "/v1/jobs/\(job.id)/metrics?aggregate=avg&follow=true")
      #expect(answer.status == 422 && answer.problem?.field == "aggregate")
    }
  }

  @Test func cancellingAFollowLetsGoOfExec() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.measure(job.id, Self.sample(1))
      do {
        var events = EventReader(try await f.open("/v1/jobs/\(job.id)/metrics?follow=true"))
        #expect(try await events.next()?.id == "1")
        try await f.until("it follows") { await f.exec.isHolding(after: 1) }
      }
      try await f.until("the stream is closed") { try await f.health("/metrics").text.contains("open_streams 0\n") }
    }
  }
}
