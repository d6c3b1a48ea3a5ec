import Foundation
import Testing

extension SystemTests {
  /// A job's life over plain curl: what is asked, what the record says at the end.
  @Suite struct Lifecycle {
    @Test(.timeLimit(.minutes(10)))
    func `a posted job is answered with its record and its place, and completes`() async throws {
      let api = try API()
      let body = """
        {"command":"sh","args":["-c","echo $GREETING; echo ${#TOKEN}"],"name":"first","env":{"GREETING":"hello"},
         "secret_env":{"TOKEN":"s3cr3t-never-written"},"limits":{"cpu_percent":50,"memory_mb":64,"pids":32},
         "timeout":"120s","labels":{"team":"a"}}
        """
      let reply = try await api.call("POST", "/v1/jobs", body: body)
      #expect(reply.status == 201, "\(reply)")
      let posted = try reply.decode(Job.self)
      #expect(reply.headers["location"] == "/v1/jobs/\(posted.id)")
      #expect(reply.headers["content-type"]?.hasPrefix("application/json") == true)
      #expect(reply.headers["x-request-id"]?.isEmpty == false)
      #expect(posted.name == "first")
      #expect(posted.secretEnv == ["TOKEN": "***"])
      #expect(posted.limits?.cpuPercent == 50 && posted.limits?.memoryMb == 64 && posted.limits?.pids == 32)

      let ended = try await api.ended(posted.id)
      #expect(ended.status == "COMPLETED")
      #expect(ended.exitCode == 0)
      #expect(ended.signal == nil && ended.reason == nil)
      #expect(ended.startedAt != nil && ended.endedAt != nil)
      #expect(ended.version > posted.version)
      #expect(ended.lastSeq == 2)
      #expect((ended.usage?.memoryPeakBytes ?? 0) > 0)
      #expect(String(decoding: try await api.text(posted.id), as: UTF8.self) == "hello\n20\n")
      // A secret is in the job's environment and nowhere else.
      let found = try await Shell.run(
        "journalctl --no-pager -o cat | grep -c s3cr3t-never; grep -rl s3cr3t-never /opt/joblet /run/joblet 2>/dev/null"
      )
      #expect(found.text == "0\n", "the secret is in: \(found.text)")
    }

    @Test(.timeLimit(.minutes(10)), arguments: [0, 1, 3, 42, 255])
    func `an exit code is told as it is`(code: Int) async throws {
      let job = try await API().finish("exit \(code)").job
      #expect(job.status == (code == 0 ? "COMPLETED" : "FAILED"))
      #expect(job.exitCode == code)
      #expect(job.reason == (code == 0 ? nil : "exit_code"))
      #expect(job.signal == nil)
    }

    @Test(.timeLimit(.minutes(10)), arguments: [6, 9, 11, 15])
    func `a signal is told as a signal, not as an exit code`(number: Int) async throws {
      let job = try await API().finish("kill -\(number) $$").job
      #expect(job.status == "FAILED")
      #expect(job.reason == "signal")
      #expect(job.signal == number)
      #expect(job.exitCode == nil)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job over its memory is told to be killed for memory, and its output is kept`() async throws {
      let result = try await API().finish(
        "echo before; s=x; while :; do s=$s$s; done; echo after", fields: ["limits": ["memory_mb": 48]])
      #expect(result.job.status == "FAILED")
      #expect(result.job.reason == "oom_killed")
      #expect(result.stdout == "before\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a time-out ends a job and its children`() async throws {
      let result = try await API().finish(
        "echo started; sleep 1000 & sleep 1000", fields: ["timeout": "3s"])
      #expect(result.job.status == "FAILED")
      #expect(result.job.reason == "timeout")
      #expect(result.stdout == "started\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a stop lets the job end by itself`() async throws {
      let api = try API()
      let job = try await api.sh(
        "trap 'echo bye; exit 0' TERM; echo ready; exec 2>/dev/null; while :; do sleep 0.2; done")
      try await eventually("the job is ready") { try await api.text(job.id) == Data("ready\n".utf8) }
      let reply = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      #expect(reply.status == 202, "\(reply)")
      let ended = try await api.ended(job.id)
      #expect(ended.status == "STOPPED")
      #expect(String(decoding: try await api.text(job.id), as: UTF8.self) == "ready\nbye\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job that ignores SIGTERM is killed after the grace`() async throws {
      let api = try API()
      let job = try await api.sh("trap '' TERM; echo ready; exec 2>/dev/null; while :; do sleep 0.2; done")
      try await eventually("the job is ready") { try await api.text(job.id) == Data("ready\n".utf8) }
      let reply = try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"1s"}"#)
      #expect(reply.status == 202, "\(reply)")
      let ended = try await api.ended(job.id)
      #expect(ended.status == "STOPPED")
      #expect(ended.signal == 9)
    }

    @Test(.timeLimit(.minutes(10)))
    func `what a job leaves behind dies with it`() async throws {
      let result = try await API().finish("setsid sh -c 'sleep 4711' & echo done")
      #expect(result.job.status == "COMPLETED")
      #expect(result.stdout == "done\n")
      #expect(try await Shell.run("pgrep -f '[s]leep 4711' | wc -l").text == "0\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a deleted job is gone with its data; a running one is not deleted`() async throws {
      let api = try API()
      let job = try await api.sh("trap 'exit 0' TERM; echo data; while :; do sleep 0.2; done")
      try await eventually("the job runs") { try await api.text(job.id) == Data("data\n".utf8) }
      let refused = try await api.call("DELETE", "/v1/jobs/\(job.id)")
      #expect(refused.status == 409, "\(refused)")
      #expect(try refused.decode(ProblemReply.self).type.hasSuffix("conflict"))
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      _ = try await api.ended(job.id)
      #expect(FileManager.default.fileExists(atPath: "\(Installed.logs)/\(job.id)/stdout.log.gz"))
      let late = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      #expect(late.status == 409, "\(late)")

      let deleted = try await api.call("DELETE", "/v1/jobs/\(job.id)")
      #expect(deleted.status == 204, "\(deleted)")
      #expect(try await api.get("/v1/jobs/\(job.id)").status == 404)
      #expect(try await api.get("/v1/jobs/\(job.id)/logs").status == 404)
      #expect(!FileManager.default.fileExists(atPath: "\(Installed.logs)/\(job.id)"))
      #expect(!FileManager.default.fileExists(atPath: "\(Installed.jobs)/\(job.id)"))
      let again = try await api.call("DELETE", "/v1/jobs/\(job.id)")
      #expect(again.status == 404)
    }

    @Test(.timeLimit(.minutes(10)))
    func `the list is newest first, filtered and paged`() async throws {
      struct Page: Decodable {
        var jobs: [Job]
        var nextCursor: String?
      }
      let api = try API()
      var ids: [String] = []
      for index in 0..<5 { ids.append(try await api.sh("exit \(index % 2)").id) }
      for id in ids { _ = try await api.ended(id) }
      ids.reverse()

      var seen: [String] = []
      var cursor: String?
      repeat {
        let page = try await api.get("/v1/jobs?limit=2" + (cursor.map { "&cursor=\($0)" } ?? "")).decode(Page.self)
        #expect(page.jobs.count <= 2)
        seen += page.jobs.map(\.id)
        cursor = page.nextCursor
      } while cursor != nil && seen.count < 5
      #expect(Array(seen.prefix(5)) == ids)

      let failed = try await api.get("/v1/jobs?status=FAILED&limit=100").decode(Page.self)
      #expect(failed.jobs.allSatisfy { $0.status == "FAILED" })
      #expect(Set(failed.jobs.map(\.id)).isSuperset(of: [ids[1], ids[3]]))
      #expect(Set(failed.jobs.map(\.id)).isDisjoint(with: [ids[0], ids[2], ids[4]]))
    }

    @Test(.timeLimit(.minutes(10)))
    func `a command that is not in the job's root says so`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.run("no-such-command").id)
      #expect(job.status == "FAILED")
      #expect(job.reason == "setup_failed")
      #expect(job.exitCode == 127)
      #expect(job.message?.contains("no-such-command") == true)
      #expect(job.message?.contains("ENOENT") == true)
      let forbidden = try await api.ended(try await api.run("/etc/ssl").id)
      #expect(forbidden.reason == "setup_failed")
      #expect(forbidden.exitCode == 126)
    }
  }
}
