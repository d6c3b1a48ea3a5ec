import Foundation
import Testing

/// A sample as `GET /v1/jobs/{id}/metrics` shows it.
struct Sample: Decodable, Equatable {
  var seq: Int
  var ts: String
  var cpuPercent: Double?
  var cpuUsec: Int?
  var memoryBytes: Int?
  var memoryPeakBytes: Int?
  var netRxBytes: Int?
  var netTxBytes: Int?
  var pids: Int?
  var psiCpu: Double?

  static func read(_ lines: Data) throws -> [Sample] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try lines.split(separator: 0x0A).map { try decoder.decode(Sample.self, from: Data($0)) }
  }
}

extension API {
  func samples(_ id: String, _ query: String = "") async throws -> [Sample] {
    let reply = try await get("/v1/jobs/\(id)/metrics\(query)", accept: "application/x-ndjson")
    guard reply.status == 200 else {
      throw TimedOut(description: "metrics: \(reply.status) \(reply.text)\(reply.errors)")
    }
    return try Sample.read(reply.body)
  }

  /// What stands in an ended job's file of samples. Sealing follows the end; it is not waited for by anyone but a test.
  func storedSamples(_ id: String) async throws -> [Sample] {
    let file = "\(Installed.metrics)/\(id)/metrics.jsonl.gz"
    try await eventually("\(file) is sealed") { FileManager.default.fileExists(atPath: file) }
    return try Sample.read(Data(try await Shell.must("set -o pipefail; zcat \(file) | jq -c .").utf8))
  }
}

extension SystemTests {
  /// What jobs use, measured, streamed, stored and asked for. The interval is the default, 5 s.
  @Suite struct Metrics {
    private func expectWhole(_ samples: [Sample]) {
      #expect(samples.map(\.seq) == Array(1..<(samples.count + 1)), "a hole or a double: \(samples.map(\.seq))")
      #expect(samples.map(\.ts) == samples.map(\.ts).sorted())
      let cpu = samples.compactMap(\.cpuUsec)
      #expect(cpu.count == samples.count && cpu == cpu.sorted(), "CPU time that runs back: \(cpu)")
    }

    @Test(.timeLimit(.minutes(15)))
    func `CPU and memory of a job that uses them`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      // One process burns CPU; `tail` keeps 40 MB, for the pipe behind it is not read.
      let job = try await api.sh(
        "while :; do :; done & p=$!; head -c 40000000 /dev/zero | tail -c 40000000 | sleep 22; kill $p; exit 0")
      let follower = try RunningProgram(
        ["curl", "-sS", "-N", "--max-time", "600"] + (api.files?.arguments ?? []) + [
          "-H", "Accept: text/event-stream", Installed.api + "/v1/jobs/\(job.id)/metrics?follow=true",
        ])
      let command = try RunningProgram(["rnx", "job", "metrics", "--follow", job.id], directory: "/")
      try await eventually("a sample comes while the job runs") {
        try Follower.parse(follower.text()).contains { $0.name == "metrics" }
      }
      #expect(try await api.job(job.id).status == "RUNNING")
      let ended = try await api.ended(job.id)
      let samples = try await api.samples(job.id)
      expectWhole(samples)
      #expect(samples.count >= 4, "\(samples)")
      let last = try #require(samples.last)
      #expect((last.cpuUsec ?? 0) > 5_000_000)
      #expect(ended.usage?.cpuUsec == last.cpuUsec && ended.usage?.memoryPeakBytes == last.memoryPeakBytes)
      #expect(samples.contains { ($0.cpuPercent ?? 0) > 30 }, "\(samples)")
      #expect(samples.allSatisfy { ($0.cpuPercent ?? 0) < 450 }, "\(samples)")
      #expect(samples.contains { ($0.memoryBytes ?? 0) > 40_000_000 }, "\(samples)")
      #expect((last.memoryPeakBytes ?? 0) > 40_000_000)
      #expect(samples.contains { ($0.pids ?? 0) >= 3 })
      #expect(samples.contains { $0.psiCpu != nil })
      // It has no network; what is not there is not measured, or nothing.
      #expect(samples.allSatisfy { ($0.netRxBytes ?? 0) == 0 && ($0.netTxBytes ?? 0) == 0 })
      // The file, the reply and the stream say the same.
      #expect(try await api.storedSamples(job.id) == samples)
      let head = try await Shell.must("zcat \(Installed.metrics)/\(job.id)/metrics.jsonl.gz | head -n 1 | cut -c 1-14")
      #expect(head == "{\"seq\":1,\"ts\":")
      #expect(try await follower.wait() == 0)
      let events = Follower.parse(try follower.text())
      #expect(events.filter { $0.name == "metrics" }.compactMap { $0.id.flatMap(Int.init) } == samples.map(\.seq))
      let streamed = events.filter { $0.name == "metrics" }.map { $0.data + "\n" }.joined()
      #expect(try Sample.read(Data(streamed.utf8)) == samples)
      #expect(events.last?.name == "end" && events.filter { $0.name == "end" }.count == 1)
      _ = try await command.wait()
      let printed = try command.text()
      #expect(printed.split(separator: "\n").count >= samples.count, "rnx: \(printed)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job that is over at once has its last sample`() async throws {
      let api = try API()
      // Long enough for a kernel that counts CPU time by its ticks.
      let work = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
      let job = try await api.ended(try await api.sh(work).id)
      let samples = try await eventually("its sample is there") {
        let samples = try await api.samples(job.id)
        return samples.isEmpty ? nil : samples
      }
      #expect(samples.count == 1 && samples.first?.seq == 1)
      #expect((samples.first?.cpuUsec ?? 0) > 0)
      #expect(samples.first?.cpuUsec == job.usage?.cpuUsec)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job that never ran has none`() async throws {
      let api = try API()
      let job = try await api.ended(try await api.run("no-such-command").id)
      #expect(job.reason == "setup_failed")
      #expect(try await api.samples(job.id) == [])
    }

    @Test(.timeLimit(.minutes(20)))
    func `kill -9 of exec and persist neither loses a sample nor doubles one`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.sh("trap 'exit 0' TERM; while :; do sleep 0.5; done")
      for service in ["joblet-exec.service", "joblet-persist.service", "joblet-exec.service"] {
        let before = try await eventually("another sample") {
          let samples = try await api.samples(job.id)
          return samples.count >= 2 ? samples : nil
        }
        let old = try await Systemd.mainPID(service)
        try await Daemon.kill9(service)
        try await Daemon.replaced(service, since: old)
        try await Systemd.waitUntilReady()
        try await eventually("samples go on after \(service) was killed") {
          try await api.samples(job.id).count > before.count
        }
        #expect(try await api.samples(job.id).prefix(before.count) == before[...])
      }
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      _ = try await api.ended(job.id)
      let samples = try await api.samples(job.id)
      expectWhole(samples)
      #expect(try await api.storedSamples(job.id) == samples)
    }
  }

  /// `ipc.enabled: false`: no joblet-persist, nothing stored, output live and only live.
  @Suite struct LiveOnly {
    private static let persist = "joblet-persist.socket joblet-persist-query.socket joblet-persist.service"

    private func withoutPersist(_ body: () async throws -> Void) async throws {
      try await Systemd.waitUntilReady()
      try await Systemd.withConfiguration(replacing: "ipc:\n  enabled: true ", with: "ipc:\n  enabled: false") {
        try await Shell.must("systemctl stop \(Self.persist) 2>&1")
        try await Shell.must("systemctl mask --runtime \(Self.persist) 2>&1")
        try await Shell.must("systemctl restart joblet.service 2>&1", within: .seconds(300))
        try await Systemd.waitUntilReady()
        try await body()
      } after: {
        _ = try await Shell.run("systemctl unmask --runtime \(Self.persist)")
        _ = try await Shell.run("systemctl restart joblet-exec.service joblet-api.service", within: .seconds(300))
        try await Systemd.restore()
      }
    }

    @Test(.timeLimit(.minutes(30)))
    func `output is live and only live`() async throws {
      let api = try API()
      let stored = try await api.finish("echo stored").job
      try await withoutPersist {
        #expect(
          try await Shell.must("systemctl show -p StatusText --value joblet-exec.service").contains(
            "ipc.enabled: false"))
        let id = try await liveJob(api)
        // What was not read in time is gone, and said to be.
        let events = try await api.follow(id).finished()
        #expect(events.map(\.name) == ["gap", "end"], "\(events)")
        #expect(events.first?.data.contains("\"from\":1") == true && events.first?.data.contains("\"to\":3") == true)
        try await aFloodNeverWaits(api)
        try await aRestartKeepsTheJob(api)
      }
      // Back to storing: what was stored is still there, new jobs are stored.
      #expect(try await api.text(stored.id) == Data("stored\n".utf8))
      #expect(try await api.finish("echo again").stdout == "again\n")
    }

    /// Followed while it runs, samples and all, to its end.
    private func liveJob(_ api: API) async throws -> String {
      let job = try await api.sh(
        "trap 'echo second; echo third; exit 5' TERM; echo first; exec 2>/dev/null; while :; do sleep 0.2; done")
      let follower = try api.follow(job.id)
      try await follower.sees("first")
      #expect(try await api.job(job.id).status == "RUNNING")
      let run = try RunningProgram(["rnx", "job", "run", "--follow", "sh", "-c", "echo short; exit 3"], directory: "/")
      #expect(try await run.wait() == 3)
      #expect(try run.text().contains("short\n"))
      try await eventually("a sample comes") { try await !api.samples(job.id).isEmpty }
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      let events = try await follower.finished()
      #expect(try follower.logLines().map(\.line) == ["first", "second", "third"])
      #expect(events.last?.name == "end" && events.last?.data.contains("\"STOPPED\"") == true)
      let ended = try await api.ended(job.id)
      #expect(ended.exitCode == 5 && ended.lastSeq == 3)
      // Its ring goes soon after.
      try await eventually("nothing of it is kept") {
        !FileManager.default.fileExists(atPath: "\(Installed.runState)/\(job.id)")
      }
      #expect(!FileManager.default.fileExists(atPath: "\(Installed.logs)/\(job.id)"))
      #expect(try await api.job(job.id).status == "STOPPED", "its record is still known")
      return job.id
    }

    /// Many times its ring, with nobody there and no persist.
    private func aFloodNeverWaits(_ api: API) async throws {
      let job = try await api.ended(try await api.sh("seq 1 300000").id)
      #expect(job.status == "COMPLETED" && job.lastSeq == 300_000)
    }

    private func aRestartKeepsTheJob(_ api: API) async throws {
      let job = try await api.sh(
        "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.2; done")
      let before = try api.follow(job.id)
      try await before.sees("line 3")
      let old = try await Systemd.mainPID("joblet-exec.service")
      try await Daemon.kill9("joblet-exec.service")
      try await Daemon.replaced("joblet-exec.service", since: old)
      try await Systemd.waitUntilReady()
      #expect(try await api.job(job.id).status == "RUNNING")
      let after = try api.follow(job.id)
      try await eventually("it goes on") { try !after.logLines().isEmpty }
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      for follower in [before, after] {
        let events = try await follower.finished()
        // What was let go of before it was read is a gap; nothing is there twice.
        let numbers = try follower.logLines().map(\.seq)
        #expect(numbers == Array(Set(numbers)).sorted())
        #expect(events.last?.name == "end")
      }
    }
  }
}
