import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

/// What only the store can answer, and what becomes of a reader when the store or the job is not what it was.
@Suite(.timeLimit(.minutes(2))) struct StoredLogTests {
  /// A running job, some of whose lines are in the ring only.
  private func job(_ f: Fixture, stored: Int = 10, all: Int = 10, dropped: UInt64 = 5) async throws -> JobID {
    let job = try await f.runJob()
    for seq in 1...stored { await f.persist.store(job.id, UInt64(seq), "line \(seq)") }
    for seq in 1...all { await f.exec.write(job.id, "line \(seq)\n") }
    await f.exec.drop(job.id, through: dropped)
    return job.id
  }

  @Test func anExpressionIsTheStoresToMatch() async throws {
    try await Fixture.run { f in
      let id = try await job(f)
      let path = "/v1/jobs/\(id)/logs?regex="
      #expect(try await f.call("GET", path + "e%20(3|7)$").text == "line 3\nline 7\n")
      let query = try #require(await f.persist.queries.last)
      #expect(query.regex == "e (3|7)$" && query.through == 10 && query.throughSeq == 10)
      for follow in ["", "&follow=true"] {
        let answer = try await f.call("GET", path + "(a" + follow)
        #expect(answer.status == 422 && answer.problem?.field == "regex", "\(answer.text)")
      }
    }
  }

  @Test func aFollowWithAnExpressionGoesOnLive() async throws {
    try await Fixture.run { f in
      let id = try await job(f)
      var events = EventReader(try await f.open("/v1/jobs/\(id)/logs?follow=true&regex=[27]$"))
      #expect(try await events.next()?.id == "2")
      #expect(try await events.next()?.id == "7")
      for seq in 11...12 {
        await f.persist.store(id, UInt64(seq), "line \(seq)")
        await f.exec.write(id, "line \(seq)\n")
      }
      #expect(try await events.next()?.id == "12")
      await f.exec.end(id)
      #expect(try await events.all().map(\.name) == ["end"])
      events = EventReader(try await f.open("/v1/jobs/\(id)/logs?follow=true&regex=line&tail=2"))
      #expect(try await events.all().map(\.id) == ["11", "12", nil])
    }
  }

  @Test func theNewestFirst() async throws {
    try await Fixture.run { f in
      let id = try await job(f)
      let path = "/v1/jobs/\(id)/logs?order=desc"
      #expect(try await f.call("GET", path + "&limit=3").text == "line 10\nline 9\nline 8\n")
      #expect(try await f.call("GET", path + "&limit=2&offset=3").text == "line 7\nline 6\n")
      #expect(try await f.call("GET", path + "&tail=2").text == "line 10\nline 9\n")
      #expect(try await f.call("GET", path + "&tail=3&offset=2").text == "line 8\n")
      #expect(try await f.call("GET", path + "&tail=0").text == "")
      #expect(try await f.call("GET", path + "&after=8").text == "line 10\nline 9\n")
      var events = EventReader(try await f.open(path, after: "3"))
      #expect(try await events.all().map(\.id) == ["2", "1"])
      await f.exec.end(id)
      try await f.until("the end is known") {
        try await f.call("GET", "/v1/jobs/\(id)").decode(JobRecord.self).status == .completed
      }
      events = EventReader(try await f.open(path))
      #expect(try await events.all().map(\.name) == Array(repeating: "log", count: 10) + ["end"])
    }
  }

  @Test func whatIsMissingIsSaidUpwardsToo() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      for seq in [2, 3, 6] { await f.persist.store(job.id, UInt64(seq), "line \(seq)") }
      for seq in 1...8 { await f.exec.write(job.id, "line \(seq)\n") }
      let json = try await f.call(
        "GET", "/v1/jobs/\(job.id)/logs?order=desc", headers: [(name: "Accept", value: "application/x-ndjson")]
      ).text
      let marks = json.split(separator: "\n").map { $0.hasPrefix(#"{"gap""#) ? String($0) : "line" }
      #expect(
        marks == [
          #"{"gap":{"from":7,"to":8}}"#, "line", #"{"gap":{"from":4,"to":5}}"#, "line", "line",
          #"{"gap":{"from":1,"to":1}}"#,
        ])
    }
  }

  @Test func anOffsetLeavesOutTheFirst() async throws {
    try await Fixture.run { f in
      let path = "/v1/jobs/\(try await job(f))/logs"
      #expect(try await f.call("GET", path + "?offset=8").text == "line 9\nline 10\n")
      #expect(try await f.call("GET", path + "?offset=4&limit=2").text == "line 5\nline 6\n")
      #expect(try await f.call("GET", path + "?offset=100").text == "")
      #expect(try await f.call("GET", path + "?offset=1&filter=1").text == "line 10\n")
    }
  }

  @Test func aLongSearchIsAliveAndNotAskedTwice() async throws {
    try await Fixture.run(heartbeat: .milliseconds(100)) { f in
      let id = try await job(f)
      for query in ["?follow=true&filter=8", "?order=desc&limit=1"] {
        let before = await f.persist.queries.count
        await f.persist.beginSearch()
        let response = try await f.open("/v1/jobs/\(id)/logs\(query)")
        let reader = Task {
          var events = EventReader(response)
          let first = try await events.next()
          return (first, events.comments)
        }
        // Its head and its heartbeats come while nothing is found yet.
        try await f.until("it searches") { await f.persist.searching == 1 }
        try await f.until("time passes") {
          try await Task.sleep(for: .milliseconds(450))
          return true
        }
        await f.persist.endSearch()
        let (first, comments) = try await reader.value
        #expect(first?.name == "log")
        #expect(comments >= 3)
        #expect(await f.persist.queries.count == before + 1)
      }
    }
  }

  @Test(arguments: ["", "?order=desc", "?order=desc&offset=10", "?offset=10"])
  func aStalledClientHoldsNoQueryAndGetsEveryLineOnce(_ query: String) async throws {
    try await Fixture.run { f in
      var record = RouteTests.record(3, .completed, version: 4)
      record.lastSeq = 40_000
      await f.persist.store(record)
      await f.persist.store(record.id, 1...40_000, String(repeating: "x", count: 1000))
      let response = try await f.open("/v1/jobs/\(record.id)/logs\(query)", accept: "application/x-ndjson")
      // Nobody reads: the query is given up, so that nothing is held for who may never come back.
      try await f.until("a query was begun") { await f.persist.queries.count >= 1 }
      try await f.until("it is let go") { await f.persist.answering == 0 }
      var rest: [UInt8] = []
      var seqs: [UInt64] = []
      for try await chunk in response.body {
        rest += chunk
        var start = 0
        while let newline = rest[start...].firstIndex(of: 0x0A) {
          let seq = rest[start..<newline].withUnsafeBytes { StoredLine.seq(of: $0) }
          seqs.append(try #require(seq))
          start = newline + 1
        }
        rest.removeSubrange(..<start)
      }
      let skipped = query.contains("offset") ? 10 : 0
      let all = Array((1...40_000).map(UInt64.init))
      #expect(seqs == Array((query.contains("desc") ? all.reversed() : all).dropFirst(skipped)))
      #expect(await f.persist.queries.count >= 2)
    }
  }

  @Test func aClientThatLeavesEndsItsSearch() async throws {
    try await Fixture.run { f in
      let id = try await job(f)
      await f.persist.beginSearch()
      do {
        let response = try await f.open("/v1/jobs/\(id)/logs?follow=true&filter=8")
        #expect(response.status == 200)
        try await f.until("it searches") { await f.persist.searching == 1 }
      }
      try await f.until("the stream is closed") { try await f.health("/metrics").text.contains("open_streams 0\n") }
      await f.persist.endSearch()
    }
  }

  @Test(arguments: ["", "&filter=line"])
  func aJobThatIsDeletedUnderItsFollowerEndsWithWhatIsMissing(_ more: String) async throws {
    try await Fixture.run { f in
      let id = try await job(f)
      var events = EventReader(try await f.open("/v1/jobs/\(id)/logs?follow=true\(more)"))
      for seq in 1...10 { #expect(try await events.next()?.id == "\(seq)") }
      try await f.until("it waits") { await f.exec.isHolding(after: 10) }
      // It writes on and ends, and is gone before its follower was told of either.
      await f.exec.vanish(id, lastSeq: 14)
      try await f.until("the end is known") {
        try await f.call("GET", "/v1/jobs/\(id)").decode(JobRecord.self).status == .completed
      }
      #expect(try await f.call("DELETE", "/v1/jobs/\(id)").status == 204)
      await f.exec.wake()
      let rest = try await events.all()
      #expect(rest.map(\.name) == ["gap", "end"])
      #expect(rest.first?.data == #"{"from":11,"to":14}"#)
      #expect(rest.last?.data.contains("COMPLETED") == true)
    }
  }
}
