import FoundationEssentials
import Gateway
import JobletModel
import Testing

@Suite(.timeLimit(.minutes(2))) struct DeleteAllTests {
  @Test func `ended jobs go, wherever they are known, and others stay`() async throws {
    try await Fixture.run { f in
      var ids: [JobID] = []
      for command in ["one", "two", "three"] {
        let record: JobRecord = try await f.call("POST", "/v1/jobs", #"{"command":"\#(command)"}"#).decode()
        ids.append(record.id)
      }
      await f.exec.end(ids[0], exitCode: 0)
      await f.exec.end(ids[1], exitCode: 3)
      for number in 0..<450 { await f.persist.store(RouteTests.record(number, number < 50 ? .completed : .failed)) }
      try await f.until("the ends are known") {
        try await f.call("GET", "/v1/jobs?status=COMPLETED,FAILED&limit=1000")
          .decode(RouteTests.List.self).jobs.count == 452
      }
      for role in [Role.reader, .developer, .maintainer] {
        #expect(try await f.call("DELETE", "/v1/jobs", role: role).status == 403)
      }
      let some = try await f.call("DELETE", "/v1/jobs?status=completed", role: .admin)
      #expect(some.status == 200)
      #expect(try some.decode(JobsDeleted.self) == JobsDeleted(deleted: 51, hasMore: false))
      let rest: JobsDeleted = try await f.call("DELETE", "/v1/jobs", role: .admin).decode()
      #expect(rest == JobsDeleted(deleted: 401, hasMore: false))
      let left = try await f.call("GET", "/v1/jobs").decode(RouteTests.List.self).jobs
      #expect(left.map(\.id) == [ids[2]] && left.first?.status == .running)
      #expect(try await f.call("DELETE", "/v1/jobs").decode(JobsDeleted.self).deleted == 0)
    }
  }

  @Test func `one that can't be deleted does not keep the others, and each has its audit line`() async throws {
    try await Fixture.run { f in
      let ids = (1...5).map { RouteTests.record($0, .completed).id }
      for number in 1...5 { await f.persist.store(RouteTests.record(number, .completed)) }
      await f.persist.keep(ids[3])
      let answer = try await f.call("DELETE", "/v1/jobs")
      #expect(answer.status == 500)
      #expect(answer.problem?.detail.contains("4 jobs were deleted") == true, "\(answer.text)")
      #expect(answer.problem?.detail.contains("\(ids[3])") == true, "\(answer.text)")
      #expect(await Array(f.persist.records.keys) == [ids[3]])
      let lines = try String(contentsOfFile: f.directory + "/audit", encoding: .utf8).split(separator: "\n").map {
        try JSONDecoder().decode(AuditRecord.self, from: Data($0.utf8))
      }
      #expect(lines.allSatisfy { $0.operation == "jobs:delete-all" })
      #expect(lines.compactMap(\.target) == ids.reversed().map(\.description))
      #expect(lines.map(\.outcome) == [.ok, .failed, .ok, .ok, .ok, .failed])
    }
  }

  @Test func `a client that leaves between the halves leaves no half`() async throws {
    try await Fixture.run { f in
      let record = RouteTests.record(1, .completed)
      await f.exec.add(record)
      await f.persist.store(record)
      try await f.until("it is known") { try await f.call("GET", "/v1/jobs/\(record.id)").status == 200 }
      await f.exec.holdDeletions()
      let impatient = Task { try await f.call("DELETE", "/v1/jobs/\(record.id)") }
      try await f.until("exec deletes it") { await f.exec.deleting == 1 }
      impatient.cancel()
      _ = await impatient.result
      try await f.until("the client is gone") {
        try await f.health("/metrics").text.contains("\njoblet_api_open_connections 0\n")
      }
      await f.exec.letDeletionsEnd()
      try await f.until("its data is gone too") { await f.persist.records.isEmpty }
    }
  }

  @Test(arguments: [("status=RUNNING", "RUNNING"), ("limit=5", "limit"), ("cursor=x", "cursor"), ("q=", "q")])
  func `what is no condition on ended jobs is refused by name, and nothing is deleted`(
    query: String, named: String
  ) async throws {
    try await Fixture.run { f in
      await f.persist.store(RouteTests.record(1, .completed))
      let refused = try await f.call("DELETE", "/v1/jobs?\(query)", role: .admin)
      #expect(refused.status == 422 || refused.status == 400)
      #expect(refused.problem?.detail.contains(named) == true, "\(refused.text)")
      #expect(try await f.call("GET", "/v1/jobs").decode(RouteTests.List.self).jobs.count == 1)
    }
  }
}
