import Foundation
import Testing

extension SystemTests.Escape {
  /// Where a secret must not turn up.
  @Suite struct Secrets {
    private static let canary = "canary-4f1d0c7b9e"

    /// Every file of Joblet's, the journal, and what the host shows of every process.
    private func places() async throws -> [String] {
      let text = try await Shell.must(
        """
        grep -rlsF '\(Secrets.canary)' /run/joblet /opt/joblet /var/log /var/tmp /etc 2>/dev/null || true
        journalctl --no-pager -o export | grep -qF '\(Secrets.canary)' && echo journal || true
        dmesg | grep -qF '\(Secrets.canary)' && echo 'kernel log' || true
        grep -lsF '\(Secrets.canary)' /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true
        """)
      // The search itself has it in its command line.
      return text.split(separator: "\n").map(String.init).filter { !$0.hasSuffix("/cmdline") || !isOwn($0) }
    }

    private func isOwn(_ path: String) -> Bool {
      guard let text = FileManager.default.contents(atPath: path) else { return true }
      return String(decoding: text, as: UTF8.self).contains("grep")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a secret is in its job's environment and nowhere else`() async throws {
      let host = try EscapeHost.get()
      let fields: [String: Any] = ["secret_env": ["TOKEN": Secrets.canary], "timeout": "120s"]
      try await host.undisturbed {
        let job = try await host.api.sh(
          "echo ${#TOKEN}; exec sleep 1000", fields: fields)
        let missing = try await host.api.run("/no/such/program", ["$TOKEN"], fields: fields)
        try await eventually("the job has its secret") {
          String(decoding: try await host.api.text(job.id), as: UTF8.self) == "\(Secrets.canary.count)\n"
        }
        let group = try await JobCgroup.payload(of: job.id)
        let pids = Set(try await Shell.must("cat \(group)/cgroup.procs").split(separator: "\n").map(String.init))
        let found = try await places().filter { place in
          let parts = place.split(separator: "/")
          return !(parts.count == 3 && parts[2] == "environ" && pids.contains(String(parts[1])))
        }
        #expect(found == [])
        _ = try await host.api.ended(missing.id)
        for path in ["/v1/jobs/\(job.id)", "/v1/jobs/\(missing.id)", "/v1/jobs/\(missing.id)/logs", "/v1/jobs"] {
          #expect(try await !host.api.get(path).text.contains(Secrets.canary), "\(path)")
        }
        #expect(try await !Shell.must("rnx job status \(job.id)").contains(Secrets.canary))
        _ = try await host.api.call("POST", "/v1/jobs/\(job.id)/stop")
        _ = try await host.api.ended(job.id)
      }
      #expect(try await places() == [])
    }
  }
}
