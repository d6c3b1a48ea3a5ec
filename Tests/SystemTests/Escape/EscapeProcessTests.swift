import Testing

extension SystemTests.Escape {
  /// PID 1, processes of others, and processes that don't want to go.
  @Suite struct Processes {
    static let refused: [String: String] = {
      var allowed = [
        "own priority above all": "EACCES|EPERM", "real-time scheduling": "EPERM", "signals to other numbers": "nobody",
        // Nothing to refuse: PID 1 reaps it like any orphan, and no signal comes of it. The job went on to its end.
        "a child for PID 1": "done", "SIGIO to PID 1": "done",
        // 1 keeps the host's core handler from a crash (core(5)); 0 does not.
        "a core limit of its own": "done, then 1",
      ]
      for name in ["nothing", "SIGKILL", "SIGTERM", "SIGSTOP", "SIGUSR1", "SIGHUP"] {
        allowed["kill PID 1 with \(name)"] = "EPERM"
      }
      for name in [
        "tgkill PID 1", "pidfd_send_signal to PID 1", "rt_sigqueueinfo to PID 1", "prlimit PID 1 NOFILE",
        "prlimit PID 1 CPU", "prlimit PID 1 AS", "affinity of PID 1", "priority of PID 1",
      ] {
        allowed[name] = "EPERM|EACCES"
      }
      return allowed
    }()

    @Test(.timeLimit(.minutes(10)))
    func `PID 1 and everybody else's processes are out of reach`() async throws {
      let report = try await EscapeHost.get().attack(["processes"])
      #expect(report.job.status == "COMPLETED", "\(report)")
      expectRefused(report.outcomes, Processes.refused)
    }

    @Test(.timeLimit(.minutes(10)))
    func `daemons, stopped processes, and those that fork for ever end with the job`() async throws {
      let host = try EscapeHost.get()
      let report = try await host.attack(["leave"], fields: ["limits": ["pids": 64]])
      #expect(report.job.status == "COMPLETED", "\(report)")
      #expect(report.outcomes == ["left behind": "done"])
      #expect(try await Shell.must("pgrep -fc '^\(EscapeHost.payload) leave' || true") == "0")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a fork bomb ends at its limit, and all of it ends with the job`() async throws {
      let report = try await EscapeHost.get().attack(["fork-bomb"], fields: ["limits": ["pids": 24]])
      #expect(report.job.status == "COMPLETED", "\(report)")
      #expect(report.outcomes["fork bomb"] == "23 EAGAIN", "\(report)")
      #expect(try await Shell.must("pgrep -fc '^\(EscapeHost.payload) fork-bomb' || true") == "0")
    }

    /// core(5): a limit of 0 does not keep a core from a pipe, and systemd's and Ubuntu's handlers, which run as root of the
    /// host, write the environment of what crashed into the journal.
    @Test(.timeLimit(.minutes(10)))
    func `a crash does not reach the host's core handler`() async throws {
      let host = try EscapeHost.get()
      let witness = "\(EscapeHost.folder)/core-witness"
      let seen = "/run/joblet-test-cores"
      let old = try await Shell.must("cat /proc/sys/kernel/core_pattern")
      try await Shell.must(
        """
        printf '#!/bin/sh\\necho "$@" >>\(seen)\\ncat >/dev/null\\n' >\(witness); chmod 755 \(witness); : >\(seen)
        echo '|\(witness) %e' >/proc/sys/kernel/core_pattern
        bash -c 'ulimit -c 0; exec -a witnessed sh -c "kill -SEGV \\$\\$"' || true
        """)
      do {
        try await eventually("the handler works at all, whatever the limit") {
          try await Shell.must("cat \(seen)").contains("sh")
        }
        let report = try await host.report(of: try await host.start(["crash"], fields: ["secret_env": ["TOKEN": "s"]]))
        expectRefused(
          report.outcomes,
          ["raise the core limit": "EPERM|done", "crash": "signal 11", "crash with core limit 0": "signal 11"])
        let exec = try await Systemd.mainPID("joblet-exec.service")
        try await Systemd.disturbing {
          try await Shell.must("kill -SEGV \(exec)")
          try await Daemon.replaced("joblet-exec.service", since: exec)
        }
        let cores = try await Shell.must("cat \(seen)").split(separator: "\n")
        #expect(cores == ["sh"], "the host's handler was run for \(cores)")
      } catch {
        try await Shell.must("echo '\(old)' >/proc/sys/kernel/core_pattern; rm -f \(witness) \(seen)")
        throw error
      }
      try await Shell.must("echo '\(old)' >/proc/sys/kernel/core_pattern; rm -f \(witness) \(seen)")
    }
  }
}
