import Foundation
import Testing

extension SystemTests {
  /// The readiness gate: 30 tries against a persist that does not answer, the FATAL line, a non-zero exit, a restart, and
  /// recovery as soon as persist is back.
  @Suite struct Gate {
    static let fatal = "FATAL: persist service is not available but ipc.enabled=true"
    static let ready = "persist service is ready and healthy"

    /// Restarts both daemons without persist and watches them go through the gate.
    private func expectGate(after cursor: String) async throws {
      for service in ["joblet-exec.service", "joblet-api.service"] {
        let restarts = Int(try await Systemd.property(service, "NRestarts")) ?? 0
        try await eventually("\(service) gives up", within: .seconds(400), pause: .seconds(1)) {
          try await Systemd.journal(service, after: cursor).contains(Self.fatal)
        }
        let journal = try await Systemd.journal(service, after: cursor)
        for attempt in [1, 15, 30] {
          #expect(
            journal.contains("try \(attempt) of 30"),
            "\(service): try \(attempt) of 30 is not in the journal:\n\(journal.suffix(4000))")
        }
        #expect(!journal.contains(Self.ready), "\(service)")
        try await eventually("\(service) is restarted", within: .seconds(120), pause: .milliseconds(500)) {
          (Int(try await Systemd.property(service, "NRestarts")) ?? 0) > restarts
        }
        let exits = try await Shell.must(
          "journalctl --no-pager -o cat _PID=1 UNIT=\(service) --since='\(cursor)' | grep -c 'code=exited, status=[1-9]'"
        )
        #expect((Int(exits) ?? 0) >= 1, "\(service) did not exit non-zero")
      }
      #expect(try await Systemd.isReady() == false)
    }

    private func restartWithoutWaiting() async throws {
      try await Shell.must("systemctl restart --no-block joblet-exec.service joblet-api.service")
    }

    @Test(.timeLimit(.minutes(20)))
    func `with persist masked while its socket listens`() async throws {
      try await Systemd.waitUntilReady()
      let cursor = try await Systemd.cursor()
      try await Systemd.disturbing {
        // Masked first: between a stop and the mask the next connection would start it again.
        try await Shell.must("systemctl mask --runtime joblet-persist.service 2>&1")
        #expect(try await Systemd.property("joblet-persist.socket", "ActiveState") == "active")
        try await Shell.must("systemctl stop joblet-persist.service 2>&1")
        try await restartWithoutWaiting()
        try await expectGate(after: cursor)
      }
      for service in ["joblet-exec.service", "joblet-api.service"] {
        #expect(try await Systemd.journal(service, after: cursor).contains(Self.ready), "\(service)")
      }
      #expect(try await API().finish("echo back").stdout == "back\n")
    }

    @Test(.timeLimit(.minutes(20)))
    func `with a persist that fails by its configuration`() async throws {
      try await Systemd.waitUntilReady()
      let cursor = try await Systemd.cursor()
      // Valid for everyone, impossible for persist: a log directory nobody can make. The drop-in gives only persist this file.
      let config = try String(contentsOfFile: Installed.config, encoding: .utf8)
      let broken = config.replacing("/opt/joblet/logs", with: "/proc/joblet-cannot-be")
      try #require(broken != config, "\(Installed.config) does not name /opt/joblet/logs")
      let drop = "/run/systemd/system/joblet-persist.service.d"
      try await Shell.must("mkdir -p \(drop) /run/joblet-test")
      try broken.write(toFile: "/run/joblet-test/persist.yml", atomically: true, encoding: .utf8)
      try "[Service]\nEnvironment=JOBLET_CONFIG_PATH=/run/joblet-test/persist.yml\n".write(
        toFile: "\(drop)/broken.conf", atomically: true, encoding: .utf8)
      try await Shell.must("chmod 644 /run/joblet-test/persist.yml; systemctl daemon-reload")
      do {
        try await Shell.must("systemctl restart --no-block joblet-persist.service")
        try await restartWithoutWaiting()
        try await expectGate(after: cursor)
        let journal = try await Systemd.journal("joblet-persist.service", after: cursor)
        #expect(
          journal.contains("/proc/joblet-cannot-be"), "persist does not say what failed:\n\(journal.suffix(3000))")
      } catch {
        try await Shell.must("rm -r \(drop) /run/joblet-test; systemctl daemon-reload")
        try await Systemd.restore()
        throw error
      }
      try await Shell.must("rm -r \(drop) /run/joblet-test; systemctl daemon-reload")
      try await Systemd.restore()
      #expect(try await API().finish("echo back").stdout == "back\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a persist that goes away is told to who asks, and comes back`() async throws {
      let api = try API()
      let job = try await api.finish("echo kept").job
      try await Systemd.disturbing {
        try await Shell.must(
          "systemctl stop joblet-persist.socket joblet-persist-query.socket joblet-persist.service 2>&1; systemctl mask --runtime joblet-persist.service 2>&1"
        )
        let reply = try await eventually("the log is refused") {
          let reply = try await api.get("/v1/jobs/\(job.id)/logs")
          return reply.status == 503 ? reply : nil
        }
        #expect(reply.headers["content-type"] == "application/problem+json")
        #expect(reply.headers["retry-after"] != nil)
        #expect(try reply.decode(ProblemReply.self).type == "urn:joblet:problem:unavailable")
      }
      #expect(try await api.text(job.id) == Data("kept\n".utf8))
    }
  }
}
