import ArgumentParser
import Foundation
import JobletClient
import JobletModel
import RnxCommands
import Testing

@Suite struct ArgumentTests {
  func parse<Verb>(_ type: Verb.Type, _ arguments: String...) throws -> Verb {
    try #require(try Rnx.parseAsRoot(GlobalOptions.moved(arguments)) as? Verb, "\(arguments)")
  }

  @Test func `everything after COMMAND is the job's`() throws {
    let run = try parse(
      JobRun.self, "job", "run", "--follow", "--max-cpu", "50", "--json", "sh", "-c", "echo hi", "--follow", "--",
      "--help", "-e")
    #expect(run.follow && run.connection.json && run.job.maxCpu == 50)
    #expect(run.command == ["sh", "-c", "echo hi", "--follow", "--", "--help", "-e"])
  }

  @Test func `every option of run`() throws {
    let run = try parse(
      JobRun.self, "job", "run", "--name", "n", "--label", "a=b=c", "--label", "d=", "--timeout", "30s", "--max-memory",
      "1GiB",
      "--pids=7", "--memory-high", "768MiB", "--max-iobps", "10MB", "--cpu-cores", "0-3,6", "--cpu-weight", "50",
      "--seccomp", "strict", "-e", "A=1", "--env", "B=x=y", "--env", "HOME", "-s", "T=secret", "--secret-env", "TOKEN",
      "--merge",
      "--config", "c.yml", "--node", "n2", "--", "-x", "y")
    let request = try run.job.request(["-x", "y"], environment: ["HOME": "/h", "TOKEN": "t", "OTHER": "o"])
    var expected = JobRequest(
      command: "-x", args: ["y"], env: ["A": "1", "B": "x=y", "HOME": "/h"], secretEnv: ["T": "secret", "TOKEN": "t"],
      name: "n", timeout: "30s", labels: ["a": "b=c", "d": ""], merge: true, seccomp: "strict")
    expected.limits = Limits(
      cpuWeight: 50, cpuCores: "0-3,6", memoryMB: 1024, memoryHighMB: 768, ioBps: 10_000_000, pids: 7)
    #expect(request == expected)
    #expect(run.connection.config == "c.yml" && run.connection.node == "n2" && !run.follow)
    #expect(run.command == ["--", "-x", "y"])
  }

  @Test(arguments: [
    ["job", "run"], ["job", "run", "--"], ["job", "run", "--bogus", "ls"], ["job", "run", "--pids", "x", "ls"],
    ["job", "run", "-z"], ["job", "log"], ["job", "list", "--limit", "0"],
    ["job", "list", "--limit", "5", "--all"], ["job", "stop"], ["job", "pause"], ["job", "resume"],
    ["job", "stop", "--grace", "5", "x"],
    ["job", "bogus"], ["bogus"], ["job", "status", "a", "b"], ["job", "wait"], ["job", "wait", "--timeout", "5", "x"],
    ["job", "run", "-f", "-d", "ls"], ["job", "run", "--stop-on-interrupt", "ls"], ["job", "list", "-q", "--json"],
    ["node", "top", "--interval", "0s"], ["node", "top", "--count", "0"], ["completion", "csh"], ["completion"],
    ["job", "delete-all", "x"], ["events", "x"], ["nodes", "x"], ["config", "check", "x"],
  ])
  func `what can't be parsed is refused`(arguments: [String]) {
    #expect(throws: (any Error).self) { try Rnx.parseAsRoot(arguments) }
  }

  @Test func `pause and resume take jobs`() throws {
    #expect(try parse(JobPause.self, "job", "pause", "a", "b").jobs == ["a", "b"])
    #expect(try parse(JobResume.self, "--json", "job", "resume", "a").connection.json)
  }

  @Test func `help is for run as long as there is no command`() {
    do {
      _ = try Rnx.parseAsRoot(["job", "run", "--help"])
      #expect(Bool(false), "no help")
    } catch {
      #expect(Rnx.exitCode(for: error) == .success)
    }
  }

  @Test func `options for all verbs may stand before the verb`() throws {
    let list = try parse(JobList.self, "--json", "--config", "c", "--node=n", "job", "list", "-n", "5")
    #expect(list.connection.json && list.connection.config == "c" && list.connection.node == "n" && list.limit == 5)
    let run = try parse(JobRun.self, "--json", "job", "run", "ls", "--json")
    #expect(run.connection.json && run.command == ["ls", "--json"])
    let version = try parse(Version.self, "--json", "version")
    #expect(version.json)
  }

  @Test func `verbs beside the jobs'`() throws {
    #expect(try parse(JobWait.self, "job", "wait", "--timeout", "5s", "a", "b").jobs == ["a", "b"])
    #expect(try parse(JobDeleteAll.self, "job", "delete-all", "-y", "--status", "failed").yes)
    let events = try parse(
      Events.self, "--json", "events", "--status", "FAILED", "--label", "a=b", "--label", "c", "--job", "019a")
    #expect(events.connection.json && events.label == ["a=b", "c"] && events.job == ["019a"] && !events.snapshot)
    let top = try parse(NodeTop.self, "--node=n", "node", "top", "-n", "3", "--interval", "5s")
    #expect(top.count == 3 && top.interval == "5s" && top.connection.node == "n")
    #expect(try parse(NodeStatusVerb.self, "--json", "node", "status").connection.json)
    #expect(try parse(Nodes.self, "nodes", "--json").connection.json)
    let check = try parse(ConfigCheck.self, "--json", "config", "check", "--offline")
    #expect(check.json && check.offline)
    #expect(try parse(Completion.self, "completion", "fish").shell == "fish")
    let run = try parse(JobRun.self, "job", "run", "-f", "--stop-on-interrupt", "ls")
    #expect(run.follow && run.stopOnInterrupt)
    #expect(try parse(JobRun.self, "job", "run", "--detach", "ls").detach)
  }

  @Test(arguments: [
    (["job", "run", "--bogus", "ls"], "rnx job run", "--bogus"), (["job", "log"], "rnx job log", "job"),
    (["bogus"], "rnx", "bogus"), (["node", "bogus"], "rnx node", "bogus"),
    (["job", "list", "--limit", "0"], "rnx job list", "1 to 1000000"),
    (["job", "list", "--limit", "x"], "rnx job list", "--limit"),
  ])
  func `what can't be parsed is told in three parts`(arguments: [String], verb: String, why: String) throws {
    let error = #expect(throws: (any Error).self) { try Rnx.parseAsRoot(arguments) }
    let failure = UsageFailure.failure(try #require(error))
    #expect(failure.what.contains("'\(verb)'") && failure.why.contains(why), "\(failure)")
    #expect(failure.next == "'\(verb) --help' tells what is allowed")
  }

  @Test func `secrets from files`() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("rnx-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try Data("line 1\nline 2\n\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/key"))
    try Data("A=1\nB=2\n".utf8).write(to: URL(fileURLWithPath: "\(folder)/env"))
    let run = try parse(
      JobRun.self, "job", "run", "--secret-file", "KEY=\(folder)/key", "--secret-env-file", "\(folder)/env", "true")
    let request = try run.job.request(["true"], environment: [:])
    #expect(request.secretEnv == ["KEY": "line 1\nline 2\n", "A": "1", "B": "2"])
    for (arguments, named) in [
      (["--secret-file", "KEY"], "'KEY'"), (["--secret-file", "=x"], "'=x'"), (["--secret-file", "K="], "'K='"),
      (["--secret-file", "K=\(folder)/no"], "\(folder)/no"),
      (["--secret-file", "K=-", "--env-file", "-"], "- for 2 files"),
    ] {
      let run = try #require(try Rnx.parseAsRoot(["job", "run"] + arguments + ["true"]) as? JobRun)
      let failure = #expect(throws: Failure.self) { try run.job.request(["true"], environment: [:]) }
      #expect(failure?.what.contains(named) == true, "\(String(describing: failure))")
    }
  }

  @Test func `status, stop, delete`() throws {
    #expect(try parse(JobStatusVerb.self, "job", "status", "abcd").job == "abcd")
    let stop = try parse(JobStop.self, "job", "stop", "--grace", "5s", "a", "b")
    #expect(stop.grace == "5s" && stop.jobs == ["a", "b"])
    #expect(try parse(JobDelete.self, "job", "delete", "a").jobs == ["a"])
  }

  @Test func `list options become the request`() throws {
    #expect(try parse(JobList.self, "job", "list").filter.request() == JobListRequest())
    let list = try parse(
      JobList.self, "job", "list", "--status", "running,FAILED", "--status=stopped", "--since", "1h", "--until",
      "2026-11-22T00:00:00Z", "--search", "team=red", "--all")
    #expect(list.all)
    #expect(
      try list.filter.request()
        == JobListRequest(
          statuses: [.running, .failed, .stopped], since: "1h", until: "2026-11-22T00:00:00Z", text: "team=red"))
  }

  @Test(arguments: [
    ["--status", "dead"], ["--status", "RUNNING,"], ["--status", ""], ["--since", "yesterday"], ["--until=-1h"],
    ["--search", ""], ["--search", String(repeating: "x", count: 257)],
  ])
  func `a list option that is wrong is named`(arguments: [String]) throws {
    let list = try #require(try Rnx.parseAsRoot(["job", "list"] + arguments) as? JobList)
    let failure = #expect(throws: Failure.self) { try list.filter.request() }
    let option = try #require(arguments[0].split(separator: "=").first)
    #expect(failure?.description.contains(option) == true)
  }

  @Test func `log options become the request`() throws {
    let log = try parse(
      JobLog.self, "job", "log", "abcd", "--stream=stderr", "--filter=ERROR", "--since", "1h", "--tail", "10",
      "-f", "-t")
    let request = try log.request()
    #expect(
      request.stream == .stderr && request.filter == "ERROR" && request.tail == 10 && request.follow && log.timestamps)
    // As it was typed: the node's clock is the one the lines' times are of.
    #expect(request.since == "1h")
    let exact = try parse(
      JobLog.self, "job", "log", "--since=2024-01-01T00:00:00Z", "--until", "now", "--regex", "a|b", "--reverse",
      "--limit", "5",
      "--offset=3", "abcd"
    ).request()
    #expect(exact.since == "2024-01-01T00:00:00Z" && exact.until == "now" && !exact.follow && exact.stream == nil)
    #expect(exact.regex == "a|b" && exact.isReversed && exact.limit == 5 && exact.offset == 3)
  }

  static let wrongLog: [([String], String)] = [
    (["--stream", "both"], "--stream 'both'"), (["--since", "yesterday"], "--since 'yesterday'"),
    (["--until", "5w"], "--until '5w'"), (["--tail=-1"], "--tail -1"), (["--regex", ""], "--regex of 0 bytes"),
    (["--limit", "0"], "--limit 0"), (["--offset=-2"], "--offset -2"),
    (["-f", "--until", "now"], "--until with --follow"),
    (["-f", "--limit", "3"], "--limit with --follow"), (["-f", "--reverse"], "--reverse with --follow"),
    (["-f", "--offset=1"], "--offset with --follow"), (["--filter", ""], "--filter of 0 bytes"),
  ]

  @Test(arguments: wrongLog)
  func `a wrong log option names itself and what is allowed`(arguments: [String], named: String) throws {
    let log = try #require(try Rnx.parseAsRoot(["job", "log", "abcd"] + arguments) as? JobLog)
    let failure = #expect(throws: Failure.self) { try log.request() }
    #expect(failure?.what.contains(named) == true && failure?.why.contains("allowed") == true)
    #expect(failure?.next.contains("metrics") == false)
  }

  @Test func `metrics options become the request`() throws {
    let plain = try parse(JobMetrics.self, "job", "metrics", "abcd", "--since=1h", "--until=now").request()
    #expect(plain.since == "1h" && plain.until == "now" && plain.aggregate == nil && !plain.follow)
    let all = try parse(JobMetrics.self, "job", "metrics", "abcd", "--aggregate=avg", "--interval", "1m", "--limit=3")
    let request = try all.request()
    #expect(request.aggregate == .average && request.interval == "1m" && request.limit == 3)
    #expect(try parse(JobMetrics.self, "job", "metrics", "-f", "abcd").request().follow)
    #expect(try parse(JobMetrics.self, "--json", "job", "metrics", "abcd").connection.json)
  }

  static let wrongMetrics: [([String], String)] = [
    (["--aggregate", "mean"], "--aggregate 'mean'"), (["--interval", "1m"], "--interval alone"),
    (["--aggregate", "avg", "--interval", "0s"], "--interval '0s'"), (["--since", "x"], "--since 'x'"),
    (["-f", "--aggregate", "avg"], "--aggregate with --follow"), (["--limit", "0"], "--limit 0"),
  ]

  @Test(arguments: wrongMetrics)
  func `a wrong metrics option names itself and what is allowed`(arguments: [String], named: String) throws {
    let metrics = try #require(try Rnx.parseAsRoot(["job", "metrics", "abcd"] + arguments) as? JobMetrics)
    let failure = #expect(throws: Failure.self) { try metrics.request() }
    #expect(failure?.what.contains(named) == true && failure?.why.contains("allowed") == true)
  }

  static let wrong: [([String], String, String)] = [
    (["--max-cpu", "0"], "--max-cpu", "1 to 100000"), (["--max-memory", "0"], "--max-memory", "1 to 16777216"),
    (["--max-memory", "1K"], "--max-memory '1K'", "MiB"), (["--max-memory", "1KiB"], "--max-memory", "1MiB"),
    (["--memory-high", "1K"], "--memory-high '1K'", "MiB"),
    (["--max-memory", "5", "--memory-high", "6"], "--memory-high", "over limits.memory_mb"),
    (["--max-iobps", "fast"], "--max-iobps 'fast'", "KiB"), (["--max-iobps", "5"], "--max-iobps", "4096 to"),
    (["--cpu-cores", "3-1"], "--cpu-cores", "reversed"), (["--cpu-cores", "0,0"], "--cpu-cores", "CPU 0 twice"),
    (["--cpu-weight", "0"], "--cpu-weight", "1 to 10000"),
    (["--seccomp", "off"], "--seccomp", "strict, default, compat"),
    (["--pids", "5000000"], "--pids", "1 to 4194304"), (["--timeout", "soon"], "--timeout", "30s"),
    (["--timeout", "0s"], "--timeout", "365d"), (["--name", ""], "--name", "1 to 128"),
    (["--label", "x"], "--label 'x'", "KEY=VALUE"),
    (["--env", "=x"], "--env", "name"), (["--env", "NOT_SET"], "--env NOT_SET", "no such variable"),
    (["-e", "A=1", "-s", "A=2"], "--secret-env A", "in env too"),
    (["-s", "NOT_SET"], "--secret-env NOT_SET", "no such variable"),
    (["--env-file", "/nonexistent/file"], "/nonexistent/file", "No such file"),
  ]

  @Test(arguments: wrong)
  func `a wrong run option names itself and what is allowed`(arguments: [String], named: String, why: String) throws {
    let run = try #require(try Rnx.parseAsRoot(["job", "run"] + arguments + ["true"]) as? JobRun)
    let failure = #expect(throws: Failure.self) { try run.job.request(["true"], environment: [:]) }
    #expect(failure?.what.contains(named) == true, "\(String(describing: failure))")
    #expect(failure?.why.contains(why) == true, "\(String(describing: failure))")
    #expect(failure?.next.isEmpty == false)
  }

  @Test func `a secret's value is in no error`() throws {
    for arguments in [["-s", "=hunter2"], ["-e", "A=1", "-s", "A=hunter2"], ["-s", "B=hunter2\u{0}"]] {
      let run = try #require(try Rnx.parseAsRoot(["job", "run"] + arguments + ["true"]) as? JobRun)
      let failure = #expect(throws: Failure.self) { try run.job.request(["true"], environment: [:]) }
      #expect(failure?.description.contains("hunter2") == false)
    }
    let failure = #expect(throws: Failure.self) { try EnvironmentFile.parse("A=1\nhunter2\n", file: "f") }
    #expect(failure?.description.contains("hunter2") == false && failure?.why.contains("line 2") == true)
  }

  @Test(arguments: ["export C=3", " C=3", "C =3", "C\tD=3", "two words=3"])
  func `a blank in a name is refused, by file and line`(line: String) {
    let failure = #expect(throws: Failure.self) { try EnvironmentFile.parse("A=1\n\(line)\n", file: "my.env") }
    #expect(failure?.what.contains("my.env") == true && failure?.why.contains("line 2") == true)
    #expect(failure?.why.contains("NAME=VALUE") == true)
    #expect(failure?.next.contains("'export'") == line.hasPrefix("export"))
  }

  @Test func `an environment file`() throws {
    let text = "# comment\n\nA=1\r\nB= two words \nC=\"x=y\"\n  \nD="
    #expect(
      try EnvironmentFile.parse(text, file: "f") == ["A": "1", "B": " two words ", "C": "\"x=y\"", "D": ""])
  }
}
