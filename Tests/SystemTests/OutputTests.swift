import Foundation
import Testing

extension SystemTests {
  /// A line's way: written by the job, read live, read from storage, read from the file.
  @Suite struct JobOutput {
    /// Asserts what every followed stream must keep: numbers from `first` without a gap, and one end, last.
    private func expectWhole(_ events: [Follower.Event], from first: Int = 1, through last: Int? = nil) {
      let ids = events.filter { $0.name == "log" }.compactMap { $0.id.flatMap(Int.init) }
      #expect(ids == Array(first..<(first + ids.count)), "ids jump: \(ids.prefix(5)) … \(ids.suffix(5))")
      if let last { #expect(ids.last == last) }
      #expect(events.filter { $0.name == "end" }.count == 1)
      #expect(events.last?.name == "end")
      #expect(events.allSatisfy { $0.name == "log" || $0.id == nil })
    }

    @Test(.timeLimit(.minutes(10)), arguments: ["--http1.1", "--http2"])
    func `a follower reads a line while the job still runs, and one end`(version: String) async throws {
      let api = try API()
      let job = try await api.sh(
        "trap 'echo second; exit 5' TERM; echo first; echo oops >&2; exec 2>/dev/null; while :; do sleep 0.2; done")
      let follower = try api.follow(job.id, extra: [version])
      try await follower.sees("first")
      try await follower.sees("oops")
      #expect(try await api.job(job.id).status == "RUNNING")
      #expect(try follower.events().contains { $0.name == "end" } == false)
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      let events = try await follower.finished()
      expectWhole(events, through: 3)
      let lines = try follower.logLines()
      #expect(lines.map(\.line).last == "second")
      #expect(lines.first { $0.line == "oops" }?.stream == "stderr")
      #expect(lines.first { $0.line == "first" }?.stream == "stdout")
      let end = try #require(events.last)
      let data = try #require(try JSONSerialization.jsonObject(with: Data(end.data.utf8)) as? [String: Any])
      #expect(data["status"] as? String == "STOPPED")
      #expect(data["exit_code"] as? Int == 5)
      #expect(data["ended_at"] as? String != nil)
      #expect(try follower.program.text().components(separatedBy: "retry:").count == 2)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a follower that comes late, or comes back, misses nothing and reads nothing twice`() async throws {
      let api = try API()
      // More lines than the ring holds: the first ones must come from storage, the last from the ring.
      let job = try await api.sh(
        "trap 'echo last; exit 0' TERM; seq 1 25000; echo ready >&2; exec 2>/dev/null; while :; do sleep 0.2; done")
      try await eventually("the flood is over") { try await !api.text(job.id, "?stream=stderr").isEmpty }
      let late = try api.follow(job.id)
      try await eventually("the late one caught up") { try late.events().count >= 25_001 }
      let resumed = try api.follow(job.id, headers: ["Last-Event-ID: 24000"])
      let after = try api.follow(job.id, query: "&after=24990")
      let stdout = try api.follow(job.id, query: "&stream=stdout&after=24995")
      try await resumed.sees("25000")
      try await after.sees("25000")
      try await stdout.sees("25000")
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      expectWhole(try await late.finished(), through: 25_002)
      expectWhole(try await resumed.finished(), from: 24_001, through: 25_002)
      expectWhole(try await after.finished(), from: 24_991, through: 25_002)
      let ended = try await stdout.finished()
      #expect(ended.filter { $0.name == "log" }.allSatisfy { !$0.data.contains("\"stderr\"") })
      #expect(ended.last?.name == "end")
      let numbers = try late.logLines().filter { $0.stream == "stdout" }.map { $0.line ?? "" }
      #expect(numbers == (1...25_000).map(String.init) + ["last"])
      // Long after the end the same stream comes from storage alone.
      let stored = try api.follow(job.id)
      expectWhole(try await stored.finished(), through: 25_002)
      #expect(try stored.logLines() == (try late.logLines()))
    }

    @Test(.timeLimit(.minutes(10)))
    func `following works as NDJSON and as text too`() async throws {
      let api = try API()
      let job = try await api.sh(
        "trap 'echo second; exit 0' TERM; echo first; exec 2>/dev/null; while :; do sleep 0.2; done")
      func follow(_ accept: String) throws -> RunningProgram {
        try RunningProgram(
          api.arguments + ["-N", "-H", "Accept: \(accept)", Installed.api + "/v1/jobs/\(job.id)/logs?follow=true"])
      }
      let text = try follow("text/plain")
      let json = try follow("application/x-ndjson")
      try await eventually("text came") { try text.text() == "first\n" }
      try await eventually("NDJSON came") { try json.text().contains("\"line\":\"first\"") }
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      #expect(try await text.wait() == 0)
      #expect(try await json.wait() == 0)
      #expect(try text.text() == "first\nsecond\n")
      #expect(try json.text().contains("\"line\":\"second\""))
    }

    @Test(.timeLimit(.minutes(10)))
    func `the output is the job's bytes, whatever they are`() async throws {
      let api = try API()
      let result = try await api.finish(
        """
        head -c 300000 /dev/urandom > /work/blob
        cat /work/blob
        sha256sum < /work/blob | cut -d' ' -f1 >&2
        """)
      let bytes = try await api.text(result.job.id, "?stream=stdout")
      #expect(bytes.count == 300_000)
      let file = NSTemporaryDirectory() + "joblet-blob"
      try bytes.write(to: URL(fileURLWithPath: file))
      defer { unlink(file) }
      #expect(try await Shell.must("sha256sum < \(file) | cut -d' ' -f1") + "\n" == result.stderr)
    }

    @Test(
      .timeLimit(.minutes(10)),
      arguments: [
        ("printf 'a\\nb'", "a\nb"), ("printf ''", ""), ("printf '\\n\\n'", "\n\n"),
        ("printf 'no newline'", "no newline"),
        ("printf 'tab\\tquote\"back\\\\slash\\r\\n'", "tab\tquote\"back\\slash\r\n"),
        ("printf 'zażółć ✓\\n'", "zażółć ✓\n"),
      ])
    func `text is exact at its edges`(script: String, expected: String) async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh(script).id)
      #expect(String(decoding: try await api.text(job.id), as: UTF8.self) == expected)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a line of 200 KB comes back whole`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh("head -c 200000 /dev/zero | tr '\\0' a; echo; echo next").id)
      let text = try await api.text(job.id)
      #expect(text == Data(String(repeating: "a", count: 200_000).utf8) + Data("\nnext\n".utf8))
      let lines = try await api.lines(job.id)
      #expect(lines.count >= 4)
      #expect(lines.allSatisfy { $0.bytes.count <= 65_536 })
      #expect(lines.last?.line == "next" && lines.last?.partial != true)
      #expect(lines.dropLast(2).allSatisfy { $0.partial == true })
    }

    @Test(.timeLimit(.minutes(10)))
    func `lines can be picked by stream, number, text and from the end`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh("seq 1 100; echo warn >&2").id)
      #expect(try await api.lines(job.id, "?stream=stderr").map(\.line) == ["warn"])
      #expect(try await api.lines(job.id, "?stream=stdout&tail=3").map(\.line) == ["98", "99", "100"])
      #expect(try await api.lines(job.id, "?stream=stdout&filter=99").map(\.line) == ["99"])
      #expect(try await api.lines(job.id, "?after=10&limit=2").map(\.seq) == [11, 12])
      #expect(try await api.lines(job.id, "?until=2001-01-01T00:00:00Z").isEmpty)
      #expect(try await api.lines(job.id, "?since=2001-01-01T00:00:00Z").count == 101)
    }

    @Test(.timeLimit(.minutes(10)))
    func `an ended job's files are gzip with the same JSON lines`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.sh("seq 1 3000; seq 1 10 >&2; printf 'tail'").id)
      let reply = try await api.get("/v1/jobs/\(job.id)/logs?stream=stdout", accept: "application/x-ndjson")
      let file = "\(Installed.logs)/\(job.id)/stdout.log.gz"
      try await eventually("the file is sealed") { try await Shell.run("zcat \(file) | wc -l").text == "3001\n" }
      try await Shell.must("gunzip -t \(file)")
      #expect(try await Shell.run(["zcat", file]).bytes == reply.body)
      #expect(
        try await Shell.must("zcat \(file) | jq -r .line | head -n 3000 | sha256sum")
          == (try await Shell.must("seq 1 3000 | sha256sum")))
      #expect(try await Shell.must("zcat \(Installed.logs)/\(job.id)/stderr.log.gz | jq -c .seq | wc -l") == "10")
    }

    @Test(.timeLimit(.minutes(10)))
    func `one pipe keeps the true order of both streams`() async throws {
      let api = try API()
      let script = "i=0; while [ $i -lt 50 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
      let job = try await api.ended(try await api.sh(script, fields: ["merge": true]).id)
      let lines = try await api.lines(job.id)
      #expect(lines.map(\.line) == (0..<50).flatMap { ["o\($0)", "e\($0)"] })
      #expect(lines.allSatisfy { $0.stream == "stdout" })
    }

    @Test(.timeLimit(.minutes(15)))
    func `more output than anyone reads, and a client that stalls, harm nobody`() async throws {
      let api = try API()
      let flood = try await api.sh("head -c 40000000 /dev/zero | tr '\\0' x | fold -w 99; echo over >&2")
      try await api.running(flood.id)
      // A client that takes the first 64 KiB and no more: the pipe behind curl is never read.
      let stalled = try RunningProgram([
        "bash", "-c",
        (api.arguments + [
          "-N", "-H", "Accept:text/event-stream", "\(Installed.api)/v1/jobs/\(flood.id)/logs?follow=true",
        ])
        .joined(separator: " ") + " | sleep 600",
      ])
      let other = try await api.finish("echo alive")
      #expect(other.stdout == "alive\n")
      let ended = try await api.ended(flood.id, within: .seconds(600))
      #expect(ended.status == "COMPLETED", "\(ended)")
      let lines = 40_000_000 / 99 + 1
      // A record more for each line that was read in two parts.
      #expect(ended.lastSeq ?? 0 >= lines + 1)
      #expect(try await api.lines(flood.id, "?stream=stdout&tail=1").last?.seq ?? 0 >= lines)
      #expect(try await api.text(flood.id, "?stream=stdout").count == 40_000_000 + lines - 1)
      #expect(stalled.isRunning)
      for service in Installed.services {
        let peak = try await Daemon.memory(service, "VmHWM")
        #expect(peak < 250 * 1024, "\(service): \(peak) KiB")
      }
      stalled.terminate()
    }
  }
}
