import Foundation
import Testing

extension SystemTests {
  /// The command line, as installed.
  @Suite struct Rnx {
    private func rnx(
      _ arguments: String..., environment: [String: String] = [:], directory: String? = nil
    ) async throws -> Output {
      try await Shell.run(["rnx"] + arguments, environment: environment, directory: directory ?? "/")
    }

    /// The job ID in what `rnx job run` prints.
    private func id(_ output: Output) throws -> String {
      let pattern = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/
      let match = try #require(output.text.firstMatch(of: pattern), "no job ID in \(output)")
      return String(match.output)
    }

    @Test(.timeLimit(.minutes(10)))
    func `run, status, log, list, stop, delete`() async throws {
      let run = try await rnx(
        "job", "run", "--name", "by-rnx", "sh", "-c",
        "trap 'exit 0' TERM; echo out; echo err >&2; exec 2>/dev/null; while :; do sleep 0.2; done")
      #expect(run.status == 0, "\(run)")
      let id = try id(run)
      try await eventually("its output shows") { try await rnx("job", "log", id).text.contains("out\n") }
      let status = try await rnx("job", "status", id)
      #expect(status.status == 0)
      #expect(status.text.contains("RUNNING") && status.text.contains("by-rnx"))
      let list = try await rnx("job", "list")
      #expect(list.status == 0)
      #expect(list.text.contains(id) && list.text.contains("RUNNING"))
      let stop = try await rnx("job", "stop", id)
      #expect(stop.status == 0, "\(stop)")
      try await eventually("it stopped") { try await rnx("job", "status", id).text.contains("STOPPED") }
      let err = try await rnx("job", "log", "--stream", "stderr", id)
      #expect(err.text + err.errors == "err\n")
      let delete = try await rnx("job", "delete", id)
      #expect(delete.status == 0, "\(delete)")
      let gone = try await rnx("job", "status", id)
      #expect(gone.status == 125)
      #expect(gone.errors.contains(id))
    }

    @Test(.timeLimit(.minutes(10)))
    func `--follow streams both streams apart and exits as the job did`() async throws {
      let run = try await rnx("job", "run", "--follow", "sh", "-c", "echo out; echo err >&2; exit 3")
      #expect(run.status == 3, "\(run)")
      #expect(run.text.contains("out\n") && !run.text.contains("err\n"))
      #expect(run.errors.contains("err\n"))
    }

    @Test(
      .timeLimit(.minutes(10)),
      arguments: [
        (["sh", "-c", "exit 0"], Int32(0)), (["sh", "-c", "kill -TERM $$"], 143), (["no-such-command"], 127),
        (["/etc/ssl"], 126), (["--timeout", "2s", "sleep", "600"], 124),
      ] as [([String], Int32)])
    func `the exit code tells how it ended`(arguments: [String], expected: Int32) async throws {
      let run = try await Shell.run(["rnx", "job", "run", "--follow"] + arguments, directory: "/")
      #expect(run.status == expected, "\(run)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `options reach the job`() async throws {
      let run = try await rnx(
        "job", "run", "--follow", "-e", "A=1", "--env", "B=two words", "-s", "C=secret", "--max-memory", "64",
        "--max-cpu", "50", "--pids", "20", "sh", "-c", "echo $A/$B/${#C}")
      #expect(run.status == 0, "\(run)")
      #expect(run.text.contains("1/two words/6\n"))
    }

    @Test(.timeLimit(.minutes(10)))
    func `--json is the record`() async throws {
      let run = try await rnx("--json", "job", "run", "true")
      let alternative = run.status == 0 ? run : try await rnx("job", "run", "--json", "true")
      let object = try #require(
        try JSONSerialization.jsonObject(with: alternative.bytes) as? [String: Any], "\(alternative)")
      #expect(object["command"] as? String == "true")
      let id = try #require(object["id"] as? String)
      _ = try await API().ended(id)
      let status = try await rnx("job", "status", "--json", id)
      let record = try #require(try JSONSerialization.jsonObject(with: status.bytes) as? [String: Any], "\(status)")
      #expect(record["status"] as? String == "COMPLETED")
      #expect(record["exit_code"] as? Int == 0)
      let list = try await rnx("job", "list", "--json")
      #expect(list.text.contains(id))
      _ = try JSONSerialization.jsonObject(with: list.bytes)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a log is followed to its end, and resumes`() async throws {
      let api = try API()
      let job = try await api.sh(
        "trap 'echo second; exit 4' TERM; echo first; exec 2>/dev/null; while :; do sleep 0.2; done")
      let follow = try RunningProgram(["rnx", "job", "log", "--follow", job.id], directory: "/")
      try await eventually("the line shows") { try follow.text().contains("first\n") }
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      _ = try await follow.wait()
      #expect(try follow.text() == "first\nsecond\n")
    }

    @Test(.timeLimit(.minutes(10)))
    func `the configuration is searched in its order`() async throws {
      let root = NSTemporaryDirectory() + "joblet-rnx-\(UUID().uuidString)"
      for folder in ["home/.rnx", "cwd/config"] {
        try FileManager.default.createDirectory(atPath: "\(root)/\(folder)", withIntermediateDirectories: true)
      }
      defer { do { try FileManager.default.removeItem(atPath: root) } catch { print("left behind: \(root)") } }
      let text = try String(contentsOfFile: Installed.clientConfig, encoding: .utf8)
      /// A configuration whose address tells which file was taken.
      func place(_ path: String, port: Int) throws {
        let changed = text.replacing(/:50051/, with: ":\(port)")
        try #require(changed != text, "no port 50051 in \(Installed.clientConfig)")
        try changed.write(toFile: "\(root)/\(path)", atomically: true, encoding: .utf8)
        chmod("\(root)/\(path)", 0o600)
      }
      func list(_ arguments: String...) async throws -> Output {
        try await Shell.run(
          ["rnx", "job", "list"] + arguments, environment: ["HOME": "\(root)/home"], directory: "\(root)/cwd")
      }
      #expect(try await list().status == 0)
      try place("home/.rnx/rnx-config.yml", port: 11)
      let home = try await list()
      #expect(home.status == 125 && home.errors.contains("11"), "\(home)")
      try place("cwd/config/rnx-config.yml", port: 12)
      let config = try await list()
      #expect(config.status == 125 && config.errors.contains("12"), "\(config)")
      try place("cwd/rnx-config.yml", port: 13)
      let here = try await list()
      #expect(here.status == 125 && here.errors.contains("13"), "\(here)")
      let named = try await list("--config", Installed.clientConfig)
      #expect(named.status == 0, "\(named)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `its own failures are 125 with a sentence`() async throws {
      let missing = try await rnx("job", "list", "--config", "/nonexistent/rnx.yml")
      #expect(missing.status == 125)
      #expect(missing.errors.contains("/nonexistent/rnx.yml"))
      let node = try await rnx("job", "list", "--node", "no-such-node")
      #expect(node.status == 125)
      #expect(node.errors.contains("no-such-node"))
      let unknown = try await rnx("job", "status", "0190a2b4-0000-7000-8000-000000000000")
      #expect(unknown.status == 125)
      let reader = try await rnx("job", "run", "--config", Installed.clientConfig(role: "reader"), "true")
      #expect(reader.status == 125)
      #expect(reader.errors.lowercased().contains("role") || reader.errors.lowercased().contains("reader"), "\(reader)")
    }
  }
}
