import Foundation
import Testing

extension SystemTests {
  /// Logs and metrics as the README tells people to ask for them.
  @Suite struct Queries {
    /// A job that wrote 200 numbered lines, every fifth to stderr, and ended. Lines of two pipes are in no order to each
    /// other but that in which they were read.
    private func numbered(_ api: API) async throws -> Job {
      let script = """
        i=1; while [ $i -le 200 ]; do
          if [ $((i % 5)) = 0 ]; then echo "ERROR line $i: refused" >&2; else echo "line $i"; fi; i=$((i + 1)); done
        """
      return try await api.ended(try await api.sh(script).id)
    }

    private func rnx(_ arguments: String...) async throws -> Output {
      try await Shell.run(["rnx"] + arguments, directory: "/")
    }

    private func lines(_ output: Output) -> [Substring] { output.text.split(separator: "\n") }

    @Test(.timeLimit(.minutes(10)))
    func `rnx job log finds lines by every condition`() async throws {
      try await Systemd.waitUntilReady()
      let job = try await numbered(try API())
      let id = String(job.id)
      let all = try await rnx("job", "log", id)
      #expect(all.status == 0 && lines(all).count == 160)
      #expect(all.errors.split(separator: "\n").count == 40)
      #expect(
        try await rnx("job", "log", id, "--stream", "stderr", "--limit", "2").errors
          == "ERROR line 5: refused\nERROR line 10: refused\n")
      #expect(try await rnx("job", "log", id, "--since", "1h", "--filter", "line 11").errors.contains("line 110:"))
      let newest = try await rnx("job", "log", id, "--regex", "^line 1?7[1-4]$", "--reverse", "--limit", "3")
      #expect(lines(newest) == ["line 174", "line 173", "line 172"], "\(newest)")
      let page = try await rnx("job", "log", id, "--stream=stdout", "--offset", "100", "--limit", "3")
      #expect(lines(page) == ["line 126", "line 127", "line 128"], "\(page)")
      let tail = try await rnx("job", "log", id, "--follow", "--tail", "2", "--stream", "stdout")
      #expect(tail.status == 0 && lines(tail) == ["line 198", "line 199"])
      #expect(lines(try await rnx("job", "log", id, "--until", job.createdAt)).isEmpty)
      #expect(lines(try await rnx("job", "log", id, "--since", job.createdAt, "--until", "now")).count == 160)
      let json = try await rnx("job", "log", id, "--json", "--tail", "1")
      #expect(json.text.hasPrefix("{\"seq\":200,"), "\(json)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `what is wrong with a question is named`() async throws {
      let id = try await numbered(try API()).id
      for (arguments, named) in [
        (["log", id, "--regex", "(a"], "regex"), (["log", id, "--since", "yesterday"], "--since"),
        (["log", id, "--follow", "--reverse"], "--reverse"), (["metrics", id, "--aggregate", "mean"], "--aggregate"),
        (["metrics", id, "--interval", "1m"], "--interval"), (["log", "--follow", id, "--regex", "(a"], "regex"),
      ] {
        let output = try await Shell.run(["rnx", "job"] + arguments, directory: "/")
        #expect(output.status == 125 && output.errors.contains(named), "\(arguments): \(output)")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `curl gets the same in three formats`() async throws {
      let api = try API()
      let job = try await numbered(api)
      let path = "/v1/jobs/\(job.id)/logs"
      #expect(
        try await api.get(path + "?order=desc&limit=2&stream=stdout", accept: "text/plain").text
          == "line 199\nline 198\n")
      #expect(try await api.get(path + "?regex=%5Eline%201%3F7%24", accept: "text/plain").text == "line 7\nline 17\n")
      let stored = try await Shell.must("zcat \(Installed.logs)/\(job.id)/stdout.log.gz | head -n 3")
      let got = try await api.get(path + "?stream=stdout&limit=3", accept: "application/x-ndjson").text
      #expect(got == stored || got == stored + "\n")
      let events = Follower.parse(try await api.get(path + "?after=198&follow=true", accept: "text/event-stream").text)
      #expect(events.map(\.name) == ["log", "log", "end"])
      let refused = try await api.get(path + "?regex=(", accept: "text/plain")
      #expect(refused.status == 422 && refused.text.contains("\"field\":\"regex\""))
    }

    @Test(.timeLimit(.minutes(10)))
    func `metrics as a table, as lines, over time`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh("i=0; while [ $i -lt 12 ]; do sleep 1; i=$((i + 1)); done").id)
      let samples = try await eventually("its samples are there") {
        let text = try await api.get("/v1/jobs/\(job.id)/metrics", accept: "application/x-ndjson").text
        return text.split(separator: "\n").count >= 2 ? text : nil
      }
      let count = samples.split(separator: "\n").count
      let table = try await rnx("job", "metrics", job.id, "--since=1h", "--until=now")
      #expect(table.status == 0 && lines(table).count == count + 1 && table.text.hasPrefix("TIME "), "\(table)")
      #expect(try await api.get("/v1/jobs/\(job.id)/metrics", accept: "text/plain").text == table.text)
      #expect(try await rnx("job", "metrics", job.id, "--json").text.hasPrefix(samples))
      let average = try await rnx("job", "metrics", job.id, "--aggregate=avg")
      #expect(lines(average).count == 2 && lines(average)[0].contains("SAMPLES"), "\(average)")
      #expect(lines(average)[1].split(separator: " ")[1] == "\(count)")
      let over = try await api.get(
        "/v1/jobs/\(job.id)/metrics?aggregate=p95&interval=5m", accept: "application/x-ndjson")
      #expect(over.text.contains("\"aggregate\":\"p95\""))
    }

    @Test(.timeLimit(.minutes(10)))
    func `the gateway's metrics have persist's`() async throws {
      let text = try await Shell.must("curl -sS \(Installed.health)/metrics")
      #expect(text.contains("\njoblet_persist_up 1\n"))
      #expect(
        text.split(separator: "\n").contains { $0.hasPrefix("joblet_persist_") && !$0.hasPrefix("joblet_persist_up") })
    }
  }
}
