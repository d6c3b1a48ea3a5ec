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
