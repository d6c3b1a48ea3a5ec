import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

@Suite(.timeLimit(.minutes(2))) struct LogTests {
  struct Line: Decodable { var seq: UInt64; var stream: String; var line: String? }

  @Test func aFollowJoinsHistoryAndLiveAndEndsOnce() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in 1...250 { await f.persist.store(job.id, UInt64(seq), "line \(seq)") }
      for seq in 1...300 { await f.exec.write(job.id, "line \(seq)\n", stream: seq % 2 == 0 ? .stderr : .stdout) }
      await f.exec.drop(job.id, through: 250)
      let response = try await f.open("/v1/jobs/\(job.id)/logs?follow=true")
      #expect(response.status == 200)
      #expect(response.header("content-type") == "text/event-stream")
      #expect(response.header("cache-control") == "no-store")
      var events = EventReader(response)
      for seq in 1...300 {
        let event = try #require(try await events.next())
        #expect(event.name == "log" && event.id == "\(seq)")
      }
      // Live: written while it is followed.
      await f.exec.write(job.id, "late\n")
      #expect(try await events.next()?.id == "301")
      await f.exec.end(job.id, exitCode: 3)
      let end = try #require(try await events.next())
      #expect(end.name == "end" && end.id == nil)
      let how = try JSONDecoder().decode(JobEnd.self, from: Data(end.data.utf8))
      #expect(how.status == .failed && how.exitCode == 3 && how.reason == .exitCode)
      #expect(try await events.next() == nil)
      #expect(events.retry == "2000")
      // What the ring had lost was asked for by number.
      let query = await f.persist.queries.first { $0.job == job.id }
      #expect(query?.through == 250)
      #expect(query?.throughSeq == 250)
    }
  }

  @Test func aFollowOpenedBeforeTheJobSaysAnythingGetsItsHeadAtOnce() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let response = try await f.open("/v1/jobs/\(job.id)/logs?follow=true")
      var events = EventReader(response)
      await f.exec.write(job.id, "first\n")
      #expect(try await events.next()?.data.contains("first") == true)
      await f.exec.end(job.id)
      #expect(try await events.all().map(\.name) == ["end"])
    }
  }

  @Test func aReconnectGoesOnWhereItWas() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in 1...10 { await f.exec.write(job.id, "l\(seq)\n") }
      await f.exec.end(job.id)
      for (path, header) in [("?follow=true", "6"), ("?follow=true&after=6", nil), ("?follow=1&after=2&tail=1", "6")] {
        var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs\(path)", after: header))
        #expect(try await events.all().map(\.id) == ["7", "8", "9", "10", nil])
      }
    }
  }

  @Test func anEndedJobThatExecForgotIsReadFromTheStore() async throws {
    try await Fixture.run { f in
      var record = RouteTests.record(3, .completed, version: 4)
      record.lastSeq = 3
      await f.persist.store(record)
      for seq in 1...3 {
        await f.persist.store(record.id, UInt64(seq), "s\(seq)", stream: seq == 2 ? .stderr : .stdout)
      }
      let path = "/v1/jobs/\(record.id)/logs"
      var events = EventReader(try await f.open(path + "?follow=true"))
      #expect(try await events.all().map(\.name) == ["log", "log", "log", "end"])
      events = EventReader(try await f.open(path))
      #expect(try await events.all().map(\.name) == ["log", "log", "log", "end"])
      #expect(try await f.call("GET", path).text == "s1\ns2\ns3\n")
      #expect(try await f.call("GET", path + "?stream=stderr").text == "s2\n")
      #expect(try await f.call("GET", path + "?filter=3").text == "s3\n")
      #expect(try await f.call("GET", path + "?limit=2").text == "s1\ns2\n")
      #expect(try await f.call("GET", path + "?tail=2&after=0").text == "s2\ns3\n")
      let lines = try await f.call("GET", path, headers: [(name: "Accept", value: "application/x-ndjson")])
      #expect(lines.header("content-type") == "application/x-ndjson")
      let seqs = try lines.text.split(separator: "\n").map {
        try JSONDecoder().decode(Line.self, from: Data($0.utf8)).seq
      }
      #expect(seqs == [1, 2, 3])
    }
  }

  @Test func linesThatAreNowhereAreAGapAndNoSilence() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in [1, 2, 5] { await f.persist.store(job.id, UInt64(seq), "l\(seq)") }
      for seq in 1...8 { await f.exec.write(job.id, "l\(seq)\n") }
      await f.exec.drop(job.id, through: 7)
      await f.exec.end(job.id)
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      var events = EventReader(try await f.open(path))
      let all = try await events.all()
      #expect(all.map(\.name) == ["log", "log", "gap", "log", "gap", "log", "end"])
      #expect(all.filter { $0.name == "gap" }.map(\.data) == [#"{"from":3,"to":4}"#, #"{"from":6,"to":7}"#])
      let text = try await f.call("GET", path, headers: [(name: "Accept", value: "text/plain")]).text
      #expect(
        text
          == "l1\nl2\n[joblet: lines 3 to 4 of the output are missing]\nl5\n[joblet: lines 6 to 7 of the output are missing]\nl8\n"
      )
      let json = try await f.call("GET", path, headers: [(name: "Accept", value: "application/x-ndjson")]).text
      let marks = json.split(separator: "\n").filter { !$0.hasPrefix(#"{"seq""#) }
      #expect(marks.count == 3)
      #expect(marks.first == #"{"gap":{"from":3,"to":4}}"#)
      #expect(marks.last?.hasPrefix(#"{"end":{"#) == true)
    }
  }

  @Test func textIsTheJobsBytes() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.write(job.id, "a \"quoted\" \\ line\tand\u{1}more\n\u{e9}\n")
      await f.exec.write(job.id, "prompt> ")
      await f.exec.write(job.id, "yes\n")
      await f.exec.end(job.id)
      let text = try await f.call("GET", "/v1/jobs/\(job.id)/logs?follow=true").text
      #expect(text == "a \"quoted\" \\ line\tand\u{1}more\n\u{e9}\nprompt> yes\n")
      // The same from the store.
      var stored = RouteTests.record(5, .completed)
      stored.lastSeq = 4
      await f.persist.store(stored)
      for (seq, line) in ["a \"quoted\" \\ line\tand\u{1}more", "\u{e9}"].enumerated() {
        await f.persist.store(stored.id, UInt64(seq + 1), line)
      }
      await f.persist.store(stored.id, 3, "prompt> ", isPartial: true)
      await f.persist.store(stored.id, 4, "yes")
      #expect(try await f.call("GET", "/v1/jobs/\(stored.id)/logs").text == text)
    }
  }

  @Test func tailAndFollowShowTheLastLinesThenTheNewOnes() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in 1...20 {
        await f.persist.store(job.id, UInt64(seq), "l\(seq)")
        await f.exec.write(job.id, "l\(seq)\n")
      }
      await f.exec.drop(job.id, through: 15)
      for (tail, first) in [(3, 18), (5, 16), (8, 13), (100, 1)] {
        var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs?follow=true&tail=\(tail)"))
        for seq in first..<21 { #expect(try await events.next()?.id == "\(seq)", "tail \(tail)") }
      }
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs?tail=2"))
      #expect(try await events.all().map(\.id) == ["19", "20"])
      // None of the old ones: where to begin is looked up when the log is opened.
      let quiet = try await f.runJob()
      await f.exec.write(quiet.id, "1\n2\n3\n4\n5\n6\n7\n")
      events = EventReader(try await f.open("/v1/jobs/\(quiet.id)/logs?follow=true&tail=0"))
      try await f.until("it follows") { await f.exec.isHolding(after: 7) }
      await f.exec.write(quiet.id, "8\n")
      #expect(try await events.next()?.id == "8")
    }
  }

  @Test func followersThatHaveComeEquallyFarAreOneRequest() async throws {
    try await Fixture.run(heartbeat: .seconds(60)) { f in
      let job = try await f.runJob()
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      await f.exec.write(job.id, "1\n")
      var followers: [EventReader] = []
      for _ in 0..<8 { followers.append(EventReader(try await f.open(path))) }
      for line in 1...12 {
        for index in followers.indices { #expect(try await followers[index].next()?.id == "\(line)") }
        // Each has asked for the next by now: one of exec, the others of that one.
        try await f.until("they wait") { f.gateway.waitingFollowers == 7 }
        try await f.until("one asks") { await f.exec.holders(after: UInt64(line)) == 1 }
        await f.exec.write(job.id, "\(line + 1)\n")
      }
      // Those that leave, the one that asks among them, take nothing from the one that stays.
      followers.removeFirst(7)
      #expect(try await followers[0].next()?.id == "13")
      try await f.until("it asks itself") { f.gateway.waitingFollowers == 0 }
      await f.exec.write(job.id, "14\n")
      await f.exec.end(job.id)
      #expect(try await followers[0].all().map(\.name) == ["log", "end"])
    }
  }

  @Test func aFollowedTailIsCountedOffAndNotLookedFor() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let line = String(repeating: "x", count: 1023) + "\n"
      for _ in 1...300 { await f.exec.write(job.id, line) }
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      var new = EventReader(try await f.open(path + "&tail=0&filter=x"))
      try await f.until("it follows") { await f.exec.isHolding(after: 300) }
      #expect(await f.exec.bytesSent == 0)
      var last = EventReader(try await f.open(path + "&tail=2"))
      #expect(try await last.next()?.id == "299")
      #expect(try await last.next()?.id == "300")
      #expect(await f.exec.bytesSent == 2 * line.utf8.count)
      await f.exec.write(job.id, "x\n")
      #expect(try await new.next()?.id == "301")
      #expect(try await last.next()?.id == "301")
    }
  }

  @Test func withoutFollowARunningJobGivesWhatThereIsNow() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.write(job.id, "one\ntwo\n")
      var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs"))
      #expect(try await events.all().map(\.name) == ["log", "log"])
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)/logs").text == "one\ntwo\n")
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)/logs?filter=tw").text == "two\n")
      let head = try await f.call("HEAD", "/v1/jobs/\(job.id)/logs")
      #expect(head.status == 200 && head.body.isEmpty)
    }
  }

  @Test(arguments: [
    ("follow=maybe", "follow"), ("stream=both", "stream"), ("after=-1", "after"), ("after=1e3", "after"),
    ("tail=x", "tail"), ("limit=0", "limit"), ("since=yesterday", "since"), ("until=2026-13-01T00:00:00Z", "until"),
    ("filter=", "filter"), ("folow=true", "folow"), ("follow=true&limit=3", "limit"), ("follow=true&until=1m", "until"),
    ("regex=", "regex"), ("order=up", "order"), ("follow=true&order=desc", "order"), ("offset=-1", "offset"),
    ("follow=1&offset=2", "offset"), ("aggregate=avg", "aggregate"), ("limit=10000001", "limit"),
  ])
  func badParametersAreNamed(_ query: String, _ field: String) throws {
    let target = try RequestTarget("/v1/jobs/x/logs?\(query)")
    #expect { try LogParameters(target, lastEventID: nil) } throws: { ($0 as? Problem)?.field == field }
  }

  /// `since=10m` names a later moment when a client comes again: what it has not got yet must not fall before that.
  @Test func theLastEventIDGoesBeforeTheTimeWhereTheAnswerBegan() throws {
    let bounds = "?since=10m&until=now"
    let up = try LogParameters(RequestTarget("/v1/jobs/x/logs" + bounds), lastEventID: "7")
    #expect(up.after == 7 && up.since == nil && up.until != nil)
    let down = try LogParameters(RequestTarget("/v1/jobs/x/logs\(bounds)&order=desc"), lastEventID: "7")
    #expect(down.before == 7 && down.since != nil && down.until == nil)
    let samples = try MetricParameters(RequestTarget("/v1/jobs/x/metrics" + bounds), lastEventID: "7")
    #expect(samples.after == 7 && samples.since == nil && samples.until != nil)
    let first = try LogParameters(RequestTarget("/v1/jobs/x/logs" + bounds), lastEventID: nil)
    #expect(first.since != nil && first.until != nil && first.isSelective)
  }

  @Test func aDrainTellsFollowersAndEndsInTime() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      var followers: [EventReader] = []
      for _ in 0..<20 {
        followers.append(EventReader(try await f.open("/v1/jobs/\(job.id)/logs?follow=true")))
      }
      try await f.until("they are open") { try await f.health("/metrics").text.contains("open_streams 20\n") }
      let started = ContinuousClock.now
      await f.group.triggerGracefulShutdown()
      for index in followers.indices {
        #expect(try await followers[index].all().map(\.name) == ["reconnect"])
      }
      #expect(ContinuousClock.now - started < .seconds(4))
    }
  }

  @Test func aClientThatDoesNotReadCostsAFewBatchesAndLosesNothing() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.flood(job.id)
      let response = try await f.open("/v1/jobs/\(job.id)/logs?follow=true", accept: "application/x-ndjson")
      // Nobody reads: the pulls must come to a stop by themselves.
      var before = -1
      try await f.until("the flood stands still") {
        let now = await f.exec.bytesSent
        defer { before = now }
        if now == before, now > 0 { return true }
        try await Task.sleep(for: .milliseconds(500))
        return false
      }
      #expect(await f.exec.bytesSent < 16 << 20)
      // The others are not held up.
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)").status == 200)
      await f.exec.end(job.id)
      var rest: [UInt8] = []
      var next: UInt64 = 1
      for try await chunk in response.body {
        rest += chunk
        while let newline = rest.firstIndex(of: 0x0A) {
          let line = rest[..<newline].withUnsafeBytes { StoredLine.seq(of: $0) }
          if let line {
            #expect(line == next)
            next = line + 1
          }
          rest.removeSubrange(...newline)
        }
      }
      #expect(next > 1000)
    }
  }
}
