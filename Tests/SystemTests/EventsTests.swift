import Foundation
import Testing

extension SystemTests {
  /// `/v1/events` with nothing but curl.
  @Suite struct Events {
    /// A record as an event shows it.
    private func record(_ event: Follower.Event) throws -> Job {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return try decoder.decode(Job.self, from: Data(event.data.utf8))
    }

    private func jobs(_ follower: Follower) throws -> [Job] {
      try follower.events().filter { $0.name == "job" }.map(record)
    }

    /// Follows, and returns once the stream has begun: what happens from now on is in it.
    private func follow(_ api: API, _ query: String, after id: String? = nil) async throws -> Follower {
      let follower = try api.stream("/v1/events?\(query)", headers: id.map { ["Last-Event-ID: \($0)"] } ?? [])
      // One that goes on somewhere has no event of its own to begin with.
      guard id == nil else { return follower }
      try await eventually("the stream begins") { try follower.events().first?.name == "synced" }
      return follower
    }

    /// Ends the follower's curl as a client that loses its connection.
    /// - Returns: the events it had, and the `id` to go on from.
    private func leave(_ follower: Follower) async throws -> (events: [Follower.Event], last: String) {
      follower.program.terminate()
      _ = try await follower.program.wait()
      let events = try follower.events()
      return (events, try #require(events.last { $0.id != nil }?.id))
    }

    private func sees(_ follower: Follower, _ id: String, _ status: String) async throws {
      try await eventually("the follower sees \(id) \(status)") {
        try jobs(follower).contains { $0.id == id && $0.status == status }
      }
    }

    /// Each version of a record is told once, and versions come in their order.
    private func expectEachOnce(_ events: [Follower.Event]) throws {
      var versions: [String: Int] = [:]
      for event in events where event.name == "job" {
        let job = try record(event)
        #expect(job.version > versions[job.id] ?? 0, "\(job.id), version \(job.version), after \(versions)")
        versions[job.id] = job.version
      }
      let ids = events.compactMap(\.id)
      #expect(Set(ids).count == ids.count, "\(ids)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a follower is told of every state, with the record, and of the deletion`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let name = "events-\(UUID().uuidString)"
      let follower = try await follow(api, "name=\(name)")
      let id = try await api.run("sleep", ["600"], fields: ["name": name]).id
      // The next is asked for when the last was told: states passed faster than they can be told may be left out.
      try await sees(follower, id, "RUNNING")
      #expect(try await api.call("POST", "/v1/jobs/\(id)/pause").status == 200)
      try await sees(follower, id, "PAUSED")
      #expect(try await api.call("POST", "/v1/jobs/\(id)/resume").status == 200)
      try await eventually("it runs again") { try jobs(follower).last?.status == "RUNNING" }
      #expect(try await api.call("POST", "/v1/jobs/\(id)/stop", body: #"{"grace":"0s"}"#).status == 202)
      try await sees(follower, id, "STOPPED")

      // An event is the record, byte for byte what it says elsewhere.
      let reply = try await api.get("/v1/jobs/\(id)")
      let version = try reply.decode(Job.self).version
      let told = try await eventually("its last version is told") {
        try follower.events().last { try $0.name == "job" && record($0).version == version }
      }
      let asked = try #require(try JSONSerialization.jsonObject(with: reply.body) as? NSDictionary)
      #expect(try JSONSerialization.jsonObject(with: Data(told.data.utf8)) as? NSDictionary == asked)

      #expect(try await api.call("DELETE", "/v1/jobs/\(id)").status == 204)
      try await eventually("its deletion is told") { try follower.events().last?.name == "deleted" }
      let events = try await leave(follower).events
      #expect(events.last?.data == #"{"id":"\#(id)"}"#)
      try expectEachOnce(events)
      #expect(events.filter { $0.name == "job" }.allSatisfy { $0.id != nil })
      var states = try events.filter { $0.name == "job" }.map { try record($0).status }
      states = states.indices.filter { $0 == 0 || states[$0] != states[$0 - 1] }.map { states[$0] }
      #expect(states.drop { $0 != "RUNNING" } == ["RUNNING", "PAUSED", "RUNNING", "STOPPED"], "\(states)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a follower that comes back misses nothing and is told nothing twice`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let name = "events-\(UUID().uuidString)"
      func run(_ script: String) async throws -> String {
        let job = try await api.ended(try await api.sh(script, fields: ["name": name]).id)
        return job.id
      }
      let first = try await follow(api, "name=\(name)")
      let known = try await run("true")
      try await sees(first, known, "COMPLETED")
      let before = try await leave(first)

      let (fine, failed) = (try await run("true"), try await run("exit 3"))
      #expect(try await api.call("DELETE", "/v1/jobs/\(known)").status == 204)
      let second = try await follow(api, "name=\(name)", after: before.last)
      try await sees(second, fine, "COMPLETED")
      try await sees(second, failed, "FAILED")
      try await eventually("the deletion is told") {
        try second.events().contains { $0.name == "deleted" && $0.data.contains(known) }
      }
      let live = try await run("true")
      try await sees(second, live, "COMPLETED")
      let after = try await leave(second)
      #expect(!after.events.contains { ["gap", "synced"].contains($0.name) }, "\(after.events)")
      try expectEachOnce(before.events + after.events)

      // A gateway that was restarted does not know the place any more: it tells of whatever may have changed since.
      let away = try await run("exit 4")
      let running = try await api.run("sleep", ["600"], fields: ["name": name]).id
      try await Shell.must("systemctl restart joblet-api.service", within: .seconds(300))
      try await Systemd.waitUntilReady()
      let third = try await follow(api, "name=\(name)", after: after.last)
      try await sees(third, away, "FAILED")
      try await sees(third, running, "RUNNING")
      try await eventually("that was all") { try third.events().contains { $0.name == "synced" } }
      #expect(try await api.call("POST", "/v1/jobs/\(running)/stop", body: #"{"grace":"0s"}"#).status == 202)
      try await sees(third, running, "STOPPED")
      // On a slow host with many jobs a `gap` may tell that the store was not searched to its end; these it begins with.
      try expectEachOnce(try await leave(third).events)
    }

    @Test(.timeLimit(.minutes(10)))
    func `filters leave out what was not asked for`() async throws {
      try await Systemd.waitUntilReady()
      let admin = try API()
      let developer = try API(role: "developer")
      let (name, mark) = ("events-\(UUID().uuidString)", UUID().uuidString)
      // The last job of all matches every filter: when it has ended for a follower, all before it would have come.
      let marked = ["name": name, "labels": ["mark": mark]] as [String: Any]
      let wanted = try await follow(admin, "label=mark=\(mark)")
      let failures = try await follow(admin, "name=\(name)&status=FAILED")
      let fine = try await admin.ended(try await admin.sh("true", fields: marked).id)
      let mine = try await follow(admin, "name=\(name)&owner=\(fine.owner)")
      let other = try await developer.ended(try await developer.sh("exit 2", fields: ["name": name]).id)
      #expect(other.owner != fine.owner)
      let last = try await admin.sh("exit 3", fields: marked).id
      for follower in [wanted, failures, mine] { try await sees(follower, last, "FAILED") }
      #expect(Set(try jobs(wanted).map(\.id)) == [fine.id, last])
      #expect(try jobs(failures).allSatisfy { $0.status == "FAILED" })
      #expect(Set(try jobs(failures).map(\.id)) == [other.id, last])
      #expect(Set(try jobs(mine).map(\.id)).subtracting([fine.id]) == [last])

      // What there is, then what changes.
      let snapshot = try admin.stream("/v1/events?snapshot=true&job=\(fine.id),\(other.id)")
      try await eventually("the snapshot is whole") { try snapshot.events().last?.name == "synced" }
      #expect(Set(try jobs(snapshot).map(\.id)) == [fine.id, other.id])
      #expect(try snapshot.events().last?.data == #"{"jobs":2}"#)

      for query in ["status=ENDED", "job=nonsense", "colour=red"] {
        let refused = try await admin.get("/v1/events?\(query)")
        #expect([400, 422].contains(refused.status), "\(query): \(refused)")
      }
      let stranger = try await admin.call("GET", "/v1/events", headers: ["Last-Event-ID: yesterday"])
      #expect(stranger.status == 422 && stranger.text.contains("Last-Event-ID"), "\(stranger)")
    }
  }
}
