import Testing

extension SystemTests.Escape {
  /// Using up what is everybody's.
  @Suite struct Resources {
    /// What the kernel counts on a user, on its namespace's owner, or on nobody: a job that takes all it gets must leave the
    /// host and every other job theirs.
    @Test(.timeLimit(.minutes(10)))
    func `what one job holds is missing to nobody`() async throws {
      let host = try EscapeHost.get()
      try await host.undisturbed {
        let hog = try await host.start(["hog"], fields: ["limits": ["pids": 16, "memory_mb": 512]])
        try await eventually("it holds all it gets") {
          let outcomes = try await host.outcomes(of: hog)
          if outcomes["holding"] == nil, try await host.api.job(hog.id).isEnded {
            throw TimedOut(description: "it ended: \(outcomes) \(try await host.api.job(hog.id))")
          }
          return outcomes["holding"] != nil
        }
        let neighbour = try await host.report(of: try await host.start(["check"]))
        var checked = Dictionary(uniqueKeysWithValues: Resources.checked.map { ($0, "done") })
        expectRefused(EscapeHost.outcomes(try await Shell.must("\(EscapeHost.payload) check")), checked)
        // No profile below compat has them.
        checked["message queues"] = "ENOSYS"
        expectRefused(neighbour.outcomes, checked)
        let held = try await host.outcomes(of: hog)
        for (name, most) in Resources.mostHeld {
          let count = held[name].flatMap { Int($0.prefix { $0.isNumber }) }
          #expect(count.map { $0 <= most } == true, "\(name): \(held[name] ?? "not tried")")
        }
        _ = try await host.api.call("POST", "/v1/jobs/\(hog.id)/stop")
        #expect(try await host.api.ended(hog.id).status == "STOPPED")
      }
    }

    private static let checked = [
      "inotify instances", "queued signals", "timers", "message queues", "System V message queues", "System V memory",
      "pseudo terminals", "epoll instances", "large pipes", "processes",
    ]

    /// Bounds of the plan and of the kernel on one job.
    private static let mostHeld = [
      "inotify instances": 1024, "message queues": 64, "pseudo terminals": 1024, "files": 65_536,
      "queued signals": 65_536,
      "timers": 65_536, "asynchronous I/O": 0,
    ]

    @Test(.timeLimit(.minutes(10)))
    func `memory ends at the limit, whatever it is called`() async throws {
      let host = try EscapeHost.get()
      try await host.undisturbed {
        var jobs: [(String, Job)] = []
        for kind in ["heap", "memfd", "shared", "pipes", "/tmp", "/dev/shm", "/work"] {
          jobs.append((kind, try await host.start(["bomb", kind], fields: ["limits": ["memory_mb": 48]])))
        }
        for (kind, job) in jobs {
          let report = try await host.report(of: job)
          #expect(report.outcomes["bomb"] != nil, "\(kind) did not begin: \(report)")
          if kind == "/work" {
            // The page cache is charged too, but the kernel takes it back in place of a kill.
            #expect(report.job.status == "COMPLETED", "\(report)")
          } else {
            #expect(report.job.status == "FAILED" && report.job.reason == "oom_killed", "\(kind): \(report)")
            #expect(report.outcomes["bomb"] == "begins", "\(kind) survived")
          }
        }
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `memory file systems are bounded in files too`() async throws {
      let host = try EscapeHost.get()
      try await host.undisturbed {
        let jobs = [try await host.start(["inodes", "/tmp"]), try await host.start(["inodes", "/dev/shm"])]
        for (job, folder) in zip(jobs, ["/tmp", "/dev/shm"]) {
          let report = try await host.report(of: job)
          let outcome = report.outcomes["inodes of \(folder)"] ?? ""
          #expect(outcome.hasSuffix("ENOSPC"), "\(report)")
          #expect((Int(outcome.prefix { $0.isNumber }) ?? .max) <= 65_536, "\(report)")
        }
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a log flood keeps nobody's lines back`() async throws {
      let host = try EscapeHost.get()
      let flood = try await host.undisturbed { () async throws -> Job in
        let job = try await host.start(["flood", "16"])
        try await host.api.running(job.id)
        try await host.neighbour.isUnharmed(since: try await host.neighbour.look())
        return try await host.api.ended(job.id)
      }
      #expect(flood.status == "COMPLETED", "\(flood)")
      #expect(flood.lastSeq == 16 * 8192)
    }
  }
}
