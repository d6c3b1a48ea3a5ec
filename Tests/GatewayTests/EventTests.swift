import FoundationEssentials
import Gateway
import JobletModel
import JobletWire
import Testing

@Suite(.timeLimit(.minutes(2))) struct EventTests {
  private static func record(
    _ number: Int, _ status: JobStatus = .running, version: UInt64 = 1, labels: [String: String] = [:],
    owner: String = "o", endedAt: Timestamp? = nil
  ) -> JobRecord {
    var record = RouteTests.record(number, status, version: version)
    record.labels = labels
    record.owner = owner
    record.name = record.command
    record.endedAt = endedAt ?? (status.isEnded ? .now() : nil)
    return record
  }

  private func job(_ event: EventParser.Event?) throws -> JobRecord {
    try JSONDecoder().decode(JobRecord.self, from: Data(try #require(event).data.utf8))
  }

  @Test func tellsOfEveryChangeAsItHappens() async throws {
    try await Fixture.run { f in
      await f.exec.add(Self.record(1))
      try await f.until("it is known") { try await f.call("GET", "/v1/jobs").text.contains("n1") }
      let reply = try await f.open("/v1/events")
      #expect(reply.status == 200 && reply.header("cache-control") == "no-store")
      var events = EventReader(reply)
      #expect(try await events.next()?.data == #"{"jobs":0}"#)
      let posted = try await f.runJob("later")
      let first = try await events.next()
      #expect(first?.name == "job" && first?.id != nil)
      // What there was before is not a change.
      #expect(try job(first).id == posted.id)
      #expect(events.retry == "2000")
      await f.exec.end(posted.id, exitCode: 3)
      let ended = try job(try await events.next())
      #expect(ended.id == posted.id && ended.status == .failed && ended.exitCode == 3)
      #expect(try await f.call("DELETE", "/v1/jobs/\(posted.id)").status == 204)
      let deleted = try await events.next()
      #expect(deleted?.name == "deleted" && deleted?.data == "{\"id\":\"\(posted.id)\"}")
    }
  }

  @Test func aSnapshotIsAllThereIsAndThenWhatChanges() async throws {
    try await Fixture.run { f in
      for number in 1...40 { await f.exec.add(Self.record(number, number % 2 == 0 ? .completed : .running)) }
      try await f.until("all are known") { try await f.call("GET", "/v1/jobs?limit=1&q=n40").text.contains("n40") }
      var events = EventReader(try await f.open("/v1/events?snapshot=true"))
      var seen: [String] = []
      while let event = try await events.next(), event.name == "job" {
        // A client that loses the stream half-way has to begin again.
        #expect(event.id == nil)
        seen.append(try job(event).command)
      }
      #expect(seen == (1...40).map { "n\($0)" })
      await f.exec.end(Self.record(7).id)
      #expect(try job(try await events.next()).command == "n7")
      var running = EventReader(try await f.open("/v1/events?snapshot=true&status=running"))
      var count = 0
      while let event = try await running.next(), event.name == "job" { count += 1 }
      #expect(count == 19)
    }
  }

  @Test func filtersHoldAtOnce() async throws {
    try await Fixture.run { f in
      let wanted = Self.record(1, labels: ["team": "red", "ci": "1"], owner: "ann")
      await f.exec.add(wanted)
      await f.exec.add(Self.record(2, labels: ["team": "blue", "ci": "1"], owner: "ann"))
      await f.exec.add(Self.record(3, labels: ["team": "red"], owner: "ann"))
      await f.exec.add(Self.record(4, labels: ["team": "red", "ci": "1"], owner: "bob"))
      try await f.until("all are known") { try await f.call("GET", "/v1/jobs?q=n4").text.contains("n4") }
      for query in [
        "owner=ann&label=team%3Dred,ci", "name=n1", "job=\(wanted.id)", "status=RUNNING,PAUSED&owner=ann&name=n1",
      ] {
        var events = EventReader(try await f.open("/v1/events?snapshot=true&\(query)"))
        #expect(try job(try await events.next()).id == wanted.id, "\(query)")
        let synced = try await events.next()
        #expect(synced?.name == "synced" && synced?.data == #"{"jobs":1}"#, "\(query)")
      }
    }
  }

  @Test func resumesExactlyWhereItWas() async throws {
    try await Fixture.run { f in
      var events = EventReader(try await f.open("/v1/events"))
      #expect(try await events.next()?.name == "synced")
      await f.exec.add(Self.record(1))
      let first = try #require(try await events.next())
      for number in 2...300 { await f.exec.add(Self.record(number)) }
      await f.exec.end(Self.record(1).id)
      try await f.until("all are known") {
        try await f.call("GET", "/v1/jobs/\(Self.record(1).id)").text.contains("COMPLETED")
      }
      let known = Timestamp.now()
      var again = EventReader(try await f.open("/v1/events", after: first.id))
      for number in 2...300 {
        let event = try #require(try await again.next())
        #expect(try job(event).command == "n\(number)")
        // The time of the change, not of the telling: after a restart a client goes on from there.
        let cursor = try #require(event.id.flatMap { EventCursor($0) })
        #expect(cursor.time <= known)
      }
      // Once, as it is now: its first state was told before.
      let last = try job(try await again.next())
      #expect(last.command == "n1" && last.status == .completed)
    }
  }

  /// After a restart of the gateway its numbers mean nothing: what has not ended is told, and what ended since.
  @Test func resumesAfterARestart() async throws {
    try await Fixture.run { f in
      let now = Timestamp.now()
      func ago(_ seconds: Int64) -> Timestamp { Timestamp(nanoseconds: now.nanoseconds - seconds * 1_000_000_000) }
      await f.exec.add(Self.record(1, .completed, endedAt: ago(7200)))
      await f.exec.add(Self.record(2))
      await f.exec.add(Self.record(3, .failed, endedAt: ago(600)))
      try await f.until("all are known") { try await f.call("GET", "/v1/jobs?q=n3").text.contains("n3") }
      let cursor = EventCursor(epoch: 0, number: 12, time: ago(3600))
      var events = EventReader(try await f.open("/v1/events", after: "\(cursor)"))
      #expect(try job(try await events.next()).command == "n2")
      #expect(try job(try await events.next()).command == "n3")
      let synced = try #require(try await events.next())
      #expect(synced.name == "synced" && synced.id != nil)
      // And that one is a place to go on from.
      var again = EventReader(try await f.open("/v1/events", after: synced.id))
      await f.exec.add(Self.record(4))
      #expect(try job(try await again.next()).command == "n4")
    }
  }

  /// exec was restarted too, and only the store knows what ended in between.
  @Test func whatOnlyTheStoreKnowsIsTold() async throws {
    try await Fixture.run { f in
      let now = Timestamp.now()
      func ago(_ seconds: Int64) -> Timestamp { Timestamp(nanoseconds: now.nanoseconds - seconds * 1_000_000_000) }
      await f.persist.store(Self.record(1, .completed, endedAt: ago(7200)))
      await f.persist.store(Self.record(2, .completed, endedAt: ago(600)))
      await f.exec.remember(since: ago(10))
      await f.exec.hangUp()
      try await f.until("exec is asked again") { await f.exec.subscriptions == 2 }
      try await f.untilReady()
      let cursor = EventCursor(epoch: 0, number: 12, time: ago(3600))
      var events = EventReader(try await f.open("/v1/events", after: "\(cursor)"))
      #expect(try job(try await events.next()).command == "n2")
      #expect(try await events.next()?.name == "synced")
      // Small pages, whatever a page of the store's may be.
      let listed = await f.persist.listed
      #expect(!listed.isEmpty && listed.allSatisfy { $0 <= 20 })
      await f.persist.stopSearching(after: 1)
      var slow = EventReader(try await f.open("/v1/events", after: "\(cursor)"))
      #expect(try job(try await slow.next()).command == "n2")
      #expect(try await slow.next()?.name == "synced")
      // More than is looked at: said, not hidden.
      await f.persist.stopSearching(after: 20)
      for number in 3...1010 { await f.persist.store(Self.record(number, .completed, endedAt: ago(7200))) }
      await f.persist.store(Self.record(1011, .completed, endedAt: ago(600)))
      var more = EventReader(try await f.open("/v1/events", after: "\(cursor)"))
      #expect(try job(try await more.next()).command == "n1011")
      let gap = try #require(try await more.next())
      #expect(gap.name == "gap" && gap.data == "{\"since\":\"\(cursor.time)\"}")
      #expect(try await more.next()?.data == #"{"jobs":1}"#)
    }
  }

  /// A client that is told of nothing for long has a place to go on from all the same.
  @Test func aStreamWithoutASnapshotBeginsWithAPlaceToGoOnFrom() async throws {
    try await Fixture.run { f in
      var events = EventReader(try await f.open("/v1/events"))
      let synced = try #require(try await events.next())
      #expect(synced.name == "synced" && synced.data == #"{"jobs":0}"#)
      await f.exec.add(Self.record(1))
      try await f.until("it is known") { try await f.call("GET", "/v1/jobs").text.contains("n1") }
      var again = EventReader(try await f.open("/v1/events", after: synced.id))
      #expect(try job(try await again.next()).command == "n1")
    }
  }

  private func restartExec(_ f: Fixture) async throws {
    let before = await f.exec.subscriptions
    await f.exec.hangUp()
    try await f.until("exec is asked again") { await f.exec.subscriptions == before + 1 }
    try await f.untilReady()
  }

  @Test func aJobThatExecForgotIsToldOf() async throws {
    try await Fixture.run { f in
      for number in 1...2 { await f.exec.add(Self.record(number)) }
      try await f.until("they are known") { try await f.call("GET", "/v1/jobs?q=n2").text.contains("n2") }
      var events = EventReader(try await f.open("/v1/events"))
      #expect(try await events.next()?.name == "synced")
      await f.persist.store(Self.record(1, .failed, version: 2))
      for number in 1...2 { await f.exec.forget(Self.record(number).id) }
      try await restartExec(f)
      let lost = try job(try await events.next())
      #expect(lost.command == "n1" && lost.status == .failed)
      // Of the other nothing is known any more.
      #expect(try await events.next()?.name == "gap")
    }
  }

  @Test func whatWasLetGoOfIsAskedForOnce() async throws {
    try await Fixture.run { f in
      var events = EventReader(try await f.open("/v1/events"))
      let synced = try #require(try await events.next())
      let record = Self.record(1)
      await f.exec.add(record)
      await f.exec.end(record.id)
      try await f.until("its end is known") {
        try await f.call("GET", "/v1/jobs/\(record.id)").text.contains("COMPLETED")
      }
      await f.persist.store(Self.record(1, .completed, version: 2))
      await f.exec.forget(record.id)
      try await restartExec(f)
      let before = await f.persist.recordsRead
      var again = EventReader(try await f.open("/v1/events", after: synced.id))
      #expect(try job(try await again.next()).status == .completed)
      await f.exec.add(Self.record(2))
      #expect(try job(try await again.next()).command == "n2")
      #expect(await f.persist.recordsRead == before + 1)
      // Deleted, it is not asked for any more, nor missing.
      #expect(try await f.call("DELETE", "/v1/jobs/\(record.id)").status == 204)
      var late = EventReader(try await f.open("/v1/events", after: synced.id))
      #expect(try job(try await late.next()).command == "n2")
      #expect(try await late.next()?.name == "deleted")
    }
  }

  @Test func aSilentStreamHasHeartbeatsAndIsToldOfAStop() async throws {
    try await Fixture.run(heartbeat: .milliseconds(100)) { f in
      var events = EventReader(try await f.open("/v1/events?owner=nobody"))
      #expect(try await events.next()?.name == "synced")
      var node = EventReader(try await f.open("/v1/node?stream=true&interval=1h"))
      #expect(try await node.next()?.name == "node")
      try await f.until("streams are open") { try await f.health("/metrics").text.contains("open_streams 2") }
      await f.group.triggerGracefulShutdown()
      let last = try await events.next()
      #expect(last?.name == "reconnect")
      #expect(try await events.next() == nil)
      #expect(try await node.all().map(\.name) == ["reconnect"])
    }
  }

  @Test func heartbeatsKeepASilentStreamAlive() async throws {
    try await Fixture.run(heartbeat: .milliseconds(50)) { f in
      let reply = try await f.open("/v1/events?owner=nobody")
      var parser = EventParser()
      var iterator = reply.body.makeAsyncIterator()
      while parser.comments < 3, let bytes = try await iterator.next() {
        #expect(parser.feed(bytes).allSatisfy { $0.name == "synced" })
      }
      #expect(parser.comments >= 3)
    }
  }

  @Test func linesOfJSONNameTheirEvent() async throws {
    try await Fixture.run { f in
      await f.exec.add(Self.record(1))
      try await f.until("it is known") { try await f.call("GET", "/v1/jobs").text.contains("n1") }
      let reply = try await f.open("/v1/events?snapshot=true", accept: "application/x-ndjson")
      #expect(reply.header("content-type") == "application/x-ndjson")
      var text = ""
      var iterator = reply.body.makeAsyncIterator()
      while !text.contains("synced"), let bytes = try await iterator.next() {
        text += String(decoding: bytes, as: UTF8.self)
      }
      let lines = text.split(separator: "\n")
      #expect(lines.count == 2)
      struct Line: Decodable { var job: JobRecord }
      #expect(try JSONDecoder().decode(Line.self, from: Data(lines[0].utf8)).job.command == "n1")
      #expect(lines[1] == #"{"synced":{"jobs":1}}"#)
    }
  }

  @Test(arguments: [
    ("status=DONE", "status"), ("owner=", "owner"), ("label==x", "label"), ("label=a,,b", "label"), ("job=17", "job"),
    ("snapshot=maybe", "snapshot"), ("after=3", "after"), ("name=" + String(repeating: "n", count: 129), "name"),
  ])
  func refusesByName(_ query: String, _ field: String) async throws {
    try await Fixture.run { f in
      let answer = try await f.call("GET", "/v1/events?\(query)")
      #expect(answer.status == 422 && answer.problem?.field == field, "\(answer.text)")
      let cursor = try await f.call("GET", "/v1/events", headers: [("Last-Event-ID", "17")])
      #expect(cursor.status == 422 && cursor.problem?.field == "Last-Event-ID")
    }
  }
}

@Suite struct EventCursorTests {
  @Test func readsWhatItWrites() {
    for cursor in [
      EventCursor(epoch: 0, number: 0, time: Timestamp(nanoseconds: 0)),
      EventCursor(epoch: .max, number: .max, time: Timestamp(nanoseconds: .max)),
      EventCursor(epoch: 0xAB, number: 17, time: .now()),
    ] { #expect(EventCursor("\(cursor)") == cursor) }
  }

  @Test(arguments: [
    "", "17", "0000000-1-1", "00000000-1", "00000000-1-1-1", "00000000--1-1", "0000000g-1-1", "00000000-+1-1",
    "00000000-1-9223372036854775808", "00000000-18446744073709551616-1", "+0000000-1-1", "00000000- 1-1",
  ])
  func refusesWhatItDoesNotWrite(_ text: String) { #expect(EventCursor(text) == nil) }

  @Test func bytesOfChanceNeverTrap() {
    var state: UInt64 = 11
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let good = Array("5f3a00c1-17-1795296955123456789".utf8)
    for _ in 0..<20_000 {
      var bytes = good
      for _ in 0...random(4) { bytes[random(bytes.count)] = UInt8(random(256)) }
      bytes.removeLast(random(bytes.count))
      let text = String(decoding: bytes, as: UTF8.self)
      if let cursor = EventCursor(text) { #expect(EventCursor("\(cursor)") == cursor) }
    }
  }
}

@Suite(.timeLimit(.minutes(1))) struct TurnstileTests {
  private actor Crowd {
    var inside = 0
    var most = 0
    var passed = 0
    func enter() {
      inside += 1
      most = max(most, inside)
    }
    func leave() {
      inside -= 1
      passed += 1
    }
  }

  @Test func noMoreThanItsLimitAreInsideAndAllComeThrough() async throws {
    let (turnstile, crowd) = (Turnstile(limit: 3), Crowd())
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<50 {
        group.addTask {
          try await turnstile.pass {
            await crowd.enter()
            await Task.yield()
            await crowd.leave()
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(await crowd.most <= 3)
    #expect(await crowd.passed == 50)
  }

  @Test func whoeverIsCancelledLeavesTheLine() async throws {
    let turnstile = Turnstile(limit: 1)
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    let first = Task { try await turnstile.pass { for await _ in stream {} } }
    // One of the three is inside, whichever was first.
    let others = [0, 1].map { _ in Task { try await turnstile.pass { for await _ in stream {} } } }
    while turnstile.waiting < 2 { await Task.yield() }
    for task in others + [first] { task.cancel() }
    while turnstile.waiting > 0 { await Task.yield() }
    continuation.finish()
    for task in others + [first] { _ = await task.result }
    #expect(try await turnstile.pass { 5 } == 5)
  }
}

@Suite struct ChangeLogTests {
  @Test func holdsTheNewestAndSaysWhatIsGone() throws {
    let log = ChangeLog(capacity: 4)
    #expect(log.changes(after: 0, limit: 10)?.isEmpty == true)
    #expect(log.changes(after: 1, limit: 10) == nil)
    let ids = (0..<10).map { _ in JobID(node: 1) }
    for (index, id) in ids.enumerated() { log.note(id, version: UInt64(index)) }
    #expect(log.last == 10)
    #expect(log.changes(after: 5, limit: 10) == nil)
    let held = try #require(log.changes(after: 6, limit: 10))
    #expect(held.map(\.number) == [7, 8, 9, 10] && held.map(\.job) == Array(ids[6...]))
    #expect(log.changes(after: 7, limit: 2)?.map(\.number) == [8, 9])
    #expect(log.changes(after: 10, limit: 2)?.isEmpty == true)
    #expect(log.changes(after: 11, limit: 2) == nil)
  }

  @Test func aWaitEndsWithAChangeItsTimeOrItsTask() async throws {
    let log = ChangeLog()
    // Some of them are up before they are waited for.
    for nanoseconds in stride(from: 0, to: 100_000, by: 500) {
      await log.wait(after: 0, atMost: .nanoseconds(nanoseconds))
    }
    #expect(log.last == 0)
    async let waited: Void = log.wait(after: 0, atMost: .seconds(60))
    log.note(JobID(node: 1), version: 1)
    await waited
    let task = Task { await log.wait(after: 1, atMost: .seconds(60)) }
    task.cancel()
    await task.value
  }

  @Test func aDeletedJobKeepsNoSecrets() {
    let log = ChangeLog()
    var record = RouteTests.record(1, .completed)
    record.env = ["A": "b"]
    log.noteDeleted(record.id, record)
    let change = log.changes(after: 0, limit: 1)?.first
    #expect(change?.version == nil && change?.deleted?.env.isEmpty == true && change?.deleted?.command == "")
    #expect(change?.deleted?.owner == record.owner)
  }
}
