import Foundation
import Testing

extension SystemTests {
  /// What a client may count on with nothing but curl.
  @Suite struct Conventions {
    private let body = #"{"command":"sh","args":["-c","echo once"],"secret_env":{"TOKEN":"hunter2"}}"#

    /// Whatever is killed between two tries: one job.
    @Test(.timeLimit(.minutes(10)), arguments: ["joblet-exec.service", "joblet-api.service", "joblet-persist.service"])
    func `a request with a key can be repeated after a kill`(service: String) async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let key = "Idempotency-Key: \(UUID().uuidString)"
      let first = try await api.call("POST", "/v1/jobs", body: body, headers: [key])
      #expect(first.status == 201 && first.headers["idempotency-replayed"] == nil)
      let job = try first.decode(Job.self)
      let old = try await Systemd.mainPID(service)
      try await Daemon.kill9(service)
      try await Daemon.replaced(service, since: old)
      try await Systemd.waitUntilReady()
      let again = try await api.call("POST", "/v1/jobs", body: body, headers: [key])
      #expect(again.status == 201 && again.headers["idempotency-replayed"] == "true")
      #expect(try again.decode(Job.self).id == job.id)
      // Ended, stored, and let go of by exec, it is the same.
      #expect(try await api.ended(job.id).status == "COMPLETED")
      let exec = try await Systemd.mainPID("joblet-exec.service")
      try await Daemon.kill9("joblet-exec.service")
      // For a moment the gateway does not know of it, and is ready.
      try await Daemon.replaced("joblet-exec.service", since: exec)
      try await Systemd.waitUntilReady()
      let late = try await api.call("POST", "/v1/jobs", body: body, headers: [key])
      #expect(try late.decode(Job.self).id == job.id && late.headers["idempotency-replayed"] == "true")
      #expect(try await api.text(job.id) == Data("once\n".utf8))
      let other = try await api.call("POST", "/v1/jobs", body: #"{"command":"true"}"#, headers: [key])
      #expect(other.status == 422)
      #expect(try other.decode(ProblemReply.self).type == "urn:joblet:problem:idempotency-key-reused")
      // Neither the key nor the secret can be read back from what is remembered.
      let found = try await Shell.run(
        "grep -rlaF -e hunter2 -e '\(key.dropFirst(17))' /run/joblet/keys /run/joblet/jobs")
      #expect(found.text == "")
    }

    @Test(.timeLimit(.minutes(5))) func `a call waits for the end`() async throws {
      let api = try API()
      let run = try await api.call(
        "POST", "/v1/jobs", body: #"{"command":"sh","args":["-c","sleep 1; exit 3"]}"#, headers: ["Prefer: wait=60"])
      #expect(run.status == 201 && run.headers["preference-applied"] == "wait=60")
      let job = try run.decode(Job.self)
      #expect(job.status == "FAILED" && job.exitCode == 3)
      let tag = try #require(run.headers["etag"])
      let same = try await api.call("GET", "/v1/jobs/\(job.id)", headers: ["If-None-Match: \(tag)"])
      #expect(same.status == 304 && same.body.isEmpty)
      let slow = try await api.sh("sleep 300")
      let early = try await api.call("GET", "/v1/jobs/\(slow.id)", headers: ["Prefer: wait=1"])
      #expect(early.status == 200)
      #expect(try !early.decode(Job.self).isEnded)
      #expect(try await api.call("POST", "/v1/jobs/\(slow.id)/stop", body: #"{"grace":"0s"}"#).status == 202)
    }

    @Test(.timeLimit(.minutes(5))) func `a trace reaches the worker's journal`() async throws {
      let api = try API()
      let cursor = try await Systemd.cursor()
      let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
      let run = try await api.call(
        "POST", "/v1/jobs", body: #"{"command":"true"}"#, headers: ["traceparent: \(trace)", "Prefer: wait=60"])
      #expect(run.status == 201 && run.text.contains(trace))
      // exec's own audit line and the job's end; the gateway's audit line.
      for (service, lines) in [("joblet-exec.service", 2), ("joblet-api.service", 1)] {
        try await eventually("the journal of \(service) has it") {
          let count = try await Shell.must(
            "journalctl --no-pager -o verbose -u \(service) --since='\(cursor)' | grep -c '\(trace)' || true")
          return Int(count.trimmingCharacters(in: .whitespacesAndNewlines)).map { $0 >= lines } ?? false
        }
      }
    }

    @Test(.timeLimit(.minutes(5))) func `curl unpacks what it asked for`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh("seq 1 20000").id)
      let plain = try await api.text(job.id)
      let packed = try await api.call("GET", "/v1/jobs/\(job.id)/logs", extra: ["--compressed"])
      #expect(packed.headers["content-encoding"] == "gzip" && packed.body == plain && plain.count > 100_000)
    }
  }
}
