import Foundation
import Testing

extension SystemTests {
  /// `kill -9` of a daemon while a job runs: the job goes on, its output is complete, its end is told as it was.
  @Suite struct Crashes {
    private static let count = 150

    /// Numbered lines for half a minute or more, and an exit code of its own.
    private static let script = "i=0; while [ $i -lt \(count) ]; do i=$((i+1)); echo line $i; sleep 0.2; done; exit 7"

    private func expectComplete(_ job: Job) async throws {
      #expect(job.status == "FAILED")
      #expect(job.exitCode == 7)
      #expect(job.reason == "exit_code")
      #expect(job.lastSeq == Self.count)
      let lines = try await API().lines(job.id)
      #expect(lines.map(\.seq) == Array(1...Self.count))
      #expect(lines.map(\.line) == (1...Self.count).map { "line \($0)" })
    }

    @Test(
      .timeLimit(.minutes(15)), arguments: ["joblet-exec.service", "joblet-persist.service", "joblet-api.service"])
    func `a job goes on through kill -9 and restart`(service: String) async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.sh(Self.script)
      let follower = try RunningProgram(["rnx", "job", "log", "--follow", job.id], directory: "/")
      for reached in [5, 40] {
        try await eventually("line \(reached)") { try follower.text().contains("line \(reached)\n") }
        let old = try await Systemd.mainPID(service)
        try await Daemon.kill9(service)
        try await Daemon.replaced(service, since: old)
        try await Systemd.waitUntilReady()
        #expect(try await api.job(job.id).status == "RUNNING")
      }
      let ended = try await api.ended(job.id, within: .seconds(300))
      try await expectComplete(ended)
      _ = try await follower.wait()
      #expect(
        try follower.text() == (1...Self.count).map { "line \($0)\n" }.joined(), "the follower lost or repeated lines")
    }

    @Test(.timeLimit(.minutes(15)))
    func `a job that ends while exec is away ends as it did`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.sh("echo first; sleep 15; echo last; kill -SEGV $$")
      try await eventually("it runs") { try await api.text(job.id) == Data("first\n".utf8) }
      try await Systemd.disturbing {
        // The socket too: it would start exec again at the gateway's first try.
        try await Shell.must("systemctl mask --runtime joblet-exec.service 2>&1")
        try await Daemon.kill9("joblet-exec.service")
        try await eventually("the job's process ended") {
          try await Shell.run("pgrep -f '[e]cho first; sleep 15' | wc -l").text == "0\n"
        }
      }
      let ended = try await api.ended(job.id)
      #expect(ended.status == "FAILED")
      #expect(ended.reason == "signal" && ended.signal == 11)
      #expect(String(decoding: try await api.text(job.id), as: UTF8.self) == "first\nlast\n")
    }

    @Test(.timeLimit(.minutes(15)))
    func `jobs outlive a restart of everything`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.sh(Self.script)
      try await eventually("it prints") { try await api.text(job.id).count > 20 }
      try await Shell.must("systemctl restart joblet.service", within: .seconds(300))
      try await Systemd.waitUntilReady()
      #expect(try await api.job(job.id).status == "RUNNING")
      try await expectComplete(try await api.ended(job.id, within: .seconds(300)))
    }

    @Test(.timeLimit(.minutes(15)))
    func `a time-out is kept while exec is away`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.sh("echo first; sleep 1111", fields: ["timeout": "12s"])
      try await eventually("it runs") { try await api.text(job.id) == Data("first\n".utf8) }
      try await Systemd.disturbing {
        try await Shell.must("systemctl mask --runtime joblet-exec.service 2>&1")
        try await Daemon.kill9("joblet-exec.service")
        try await eventually("the job is ended by its own PID 1") {
          try await Shell.run("pgrep -fx 'sleep 1111' | wc -l").text == "0\n"
        }
      }
      let ended = try await api.ended(job.id)
      #expect(ended.status == "FAILED" && ended.reason == "timeout", "\(ended)")
    }
  }
}
