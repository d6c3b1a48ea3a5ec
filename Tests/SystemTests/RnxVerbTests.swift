import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

extension SystemTests {
  /// Verbs and manners of the command line beyond running a job and reading it.
  @Suite struct RnxVerbs {
    private func rnx(_ arguments: String..., input: String? = nil) async throws -> Output {
      try await Shell.run(["rnx"] + arguments, directory: "/", input: input)
    }

    /// Starts a job that runs until it is told otherwise.
    private func start(_ script: String) async throws -> String {
      let run = try await rnx("job", "run", "--detach", "sh", "-c", script)
      #expect(run.status == 0, "\(run)")
      return run.text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// The followed run's job, of the record that --json prints first.
    private func recordID(of follow: RunningProgram) async throws -> String {
      try await eventually("it shows its record") { try follow.text().contains("\n") }
      let line = try #require(try follow.text().split(separator: "\n").first)
      let record = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      return try #require(record["id"] as? String)
    }

    @Test(.timeLimit(.minutes(10)))
    func `wait exits as the jobs did`() async throws {
      let failing = try await start("sleep 1; exit 4")
      let fine = try await start("true")
      let wait = try await rnx("job", "wait", fine, failing)
      #expect(wait.status == 4, "\(wait)")
      #expect(wait.lines.count == 2 && wait.text.contains("\(failing) FAILED: exit code 4"))
      let again = try await rnx("job", "wait", "--json", failing)
      #expect(again.status == 4 && again.text.contains("\"exit_code\":4"), "\(again)")
      #expect(try await rnx("job", "wait", fine).status == 0)
      let long = try await start("sleep 600")
      let late = try await rnx("job", "wait", "--timeout", "2s", long)
      #expect(late.status == 124 && late.text.isEmpty, "\(late)")
      #expect(try await rnx("job", "stop", long).status == 0)
      let stopped = try await rnx("job", "wait", long)
      #expect(stopped.status == 143 && stopped.text.contains("STOPPED"), "\(stopped)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `Ctrl-C stops the following, and with --stop-on-interrupt the job`() async throws {
      let script = "trap 'echo bye; exit 9' TERM; echo hello; exec 2>/dev/null; while :; do sleep 0.2; done"
      let plain = try RunningProgram(["rnx", "--json", "job", "run", "--follow", "sh", "-c", script], directory: "/")
      let id = try await recordID(of: plain)
      try await eventually("its line shows") { try plain.text().contains("hello") }
      kill(plain.pid, SIGINT)
      #expect(try await plain.wait() == 130)
      #expect(try plain.text("stderr").contains("the job goes on"))
      #expect(try await rnx("job", "status", id).text.contains("RUNNING"))
      #expect(try await rnx("job", "stop", id).status == 0)

      let stopping = try RunningProgram(
        ["rnx", "job", "run", "--follow", "--stop-on-interrupt", "sh", "-c", script], directory: "/")
      try await eventually("its line shows") { try stopping.text().contains("hello") }
      kill(stopping.pid, SIGINT)
      #expect(try await stopping.wait() == 9)
      #expect(try stopping.text() == "hello\nbye\n")

      let ending = try RunningProgram(
        ["rnx", "job", "run", "--follow", "--stop-on-interrupt", "sh", "-c", script], directory: "/")
      try await eventually("its line shows") { try ending.text().contains("hello") }
      kill(ending.pid, SIGTERM)
      #expect(try await ending.wait() == 143)
      #expect(try ending.text() == "hello\nbye\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a follow goes over a restart of the gateway with no line lost or doubled`() async throws {
      let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.2; done; exit 5"
      let follow = try RunningProgram(["rnx", "job", "run", "--follow", "sh", "-c", script], directory: "/")
      try await eventually("its lines show") { try follow.text().contains("\n5\n") }
      try await Shell.must("systemctl restart joblet-api.service", within: .seconds(300))
      #expect(try await follow.wait(within: .seconds(300)) == 5)
      #expect(try follow.text() == (1...60).map { "\($0)\n" }.joined())
    }

    @Test(.timeLimit(.minutes(10)))
    func `secrets come from stdin and files and stand on no command line`() async throws {
      let piped = try await rnx(
        "job", "run", "--follow", "--secret-file", "T=-", "sh", "-c", "printf %s \"$T\" | od -An -c | tr -d ' \\n'",
        input: "one\ntwo\n")
      #expect(piped.status == 0 && piped.text.hasPrefix("one\\ntwo"), "\(piped)")
      #expect(!piped.text.hasPrefix("one\\ntwo\\n"))
      let lines = try await rnx(
        "job", "run", "--follow", "--secret-env-file", "-", "sh", "-c", "echo $A$B", input: "A=x\n# note\nB=y\n")
      #expect(lines.text == "xy\n", "\(lines)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `delete-all asks first, takes an admin, and leaves jobs that run`() async throws {
      let mark = "delete-\(UUID().uuidString)"
      for command in ["true", "false"] {
        let run = try await rnx("job", "run", "--follow", "--name", mark, command)
        #expect(run.status == (command == "true" ? 0 : 1), "\(run)")
      }
      let running = try await rnx("job", "run", "--name", mark, "sleep", "600")
      #expect(running.status == 0)
      let asked = try await rnx("job", "delete-all", "--search", mark)
      #expect(asked.status == 125 && asked.errors.contains("--yes"), "\(asked)")
      let refused = try await rnx(
        "job", "delete-all", "--yes", "--search", mark, "--config", Installed.clientConfig(role: "maintainer"))
      #expect(refused.status == 125 && refused.errors.contains("role"), "\(refused)")
      #expect(try await rnx("job", "list", "--quiet", "--search", mark).lines.count == 3)
      let done = try await rnx("job", "delete-all", "--yes", "--search", mark)
      #expect(done.status == 0 && done.text == "2 jobs deleted\n", "\(done)")
      let left = try await rnx("job", "list", "--quiet", "--search", mark)
      #expect(left.text == running.text)
      #expect(try await rnx("job", "stop", running.text.trimmingCharacters(in: .newlines)).status == 0)
    }

    @Test(.timeLimit(.minutes(10)))
    func `events tell of a job from its start to its end`() async throws {
      let mark = "events-\(UUID().uuidString)"
      let events = try RunningProgram(["rnx", "events", "--json", "--snapshot", "--name", mark], directory: "/")
      try await eventually("the snapshot is there") { try events.text().contains("\"synced\"") }
      let run = try await rnx("job", "run", "--follow", "--name", mark, "sh", "-c", "sleep 1; exit 6")
      #expect(run.status == 6, "\(run)")
      try await eventually("its end shows") { try events.text().contains("\"FAILED\"") }
      events.terminate()
      #expect(try events.text().contains("\"RUNNING\""))
      for line in try events.text().split(separator: "\n") {
        _ = try JSONSerialization.jsonObject(with: Data(line.utf8))
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `the node, its neighbours and the configuration`() async throws {
      let status = try await rnx("node", "status")
      #expect(status.status == 0, "\(status)")
      for name in ["Node:", "State:", "Host:", "CPU:", "Memory:", "Jobs:", "Certificate:", "Versions:"] {
        #expect(status.text.contains(name), "\(status)")
      }
      let json = try await rnx("node", "status", "--json")
      let node = try #require(try JSONSerialization.jsonObject(with: json.bytes) as? [String: Any], "\(json)")
      #expect(node["ready"] as? Bool == true)
      let top = try await rnx("node", "top", "--count", "2", "--interval", "1s")
      #expect(top.status == 0 && top.lines.count == 3, "\(top)")
      let nodes = try await rnx("nodes")
      let nodeID = try #require(node["node_id"] as? String)
      #expect(nodes.status == 0 && nodes.text.contains(nodeID), "\(nodes)")
      let check = try await rnx("config", "check")
      #expect(check.status == 0 && check.text.contains("role admin") && check.text.contains("answers"), "\(check)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `it is small, and its manual and completions are installed`() async throws {
      let size = try #require(Int(try await Shell.must("stat -c %s $(command -v rnx)")))
      #expect(size <= 20 << 20, "rnx has \(size) bytes")
      for page in ["rnx.1", "rnx-job-run.1", "rnx-node-top.1"] {
        try await Shell.must("grep -q 'SH NAME' /usr/local/share/man/man1/\(page)")
      }
      let completed = try await Shell.must(
        """
        . /usr/local/share/bash-completion/completions/rnx
        COMP_WORDS=(rnx job st) COMP_CWORD=2 COMP_LINE='rnx job st' COMP_POINT=10
        $(complete -p rnx | sed 's/.*-F \\([^ ]*\\).*/\\1/') rnx st job
        echo ${COMPREPLY[*]}
        """)
      #expect(completed.contains("status") && completed.contains("stop") && !completed.contains("list"), "\(completed)")
      for file in ["zsh/site-functions/_rnx", "fish/vendor_completions.d/rnx.fish"] {
        try await Shell.must("grep -q delete-all /usr/local/share/\(file)")
      }
    }
  }
}
