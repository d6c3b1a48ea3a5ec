import Foundation
import Testing

extension SystemTests {
  /// `security.audit.log_file`: who changed what, and who was refused.
  @Suite struct Audit {
    private struct Line: Decodable {
      var ts: String
      var who: String
      var role: String
      var operation: String
      var method: String
      var path: String
      var target: String?
      var outcome: String
      var status: Int
      var problem: String?
      var requestId: String
      var remote: String
    }

    /// A call by a role, and what its line says; `outcome` is nil where there is none.
    private struct Call {
      var role: String
      var method: String
      var path: String
      var body: String?
      var status: Int
      var outcome: String?
      var operation = ""
    }

    private func lines(_ file: String) throws -> [(text: String, line: Line)] {
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      return try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map { text in
        (String(text), try decoder.decode(Line.self, from: Data(text.utf8)))
      }
    }

    /// Runs `body` on a gateway that keeps an audit file of its own.
    private func auditing(to file: String, _ body: () async throws -> Void) async throws {
      func restart() async throws {
        try await Shell.must("systemctl restart joblet-api.service", within: .seconds(300))
        try await Systemd.waitUntilReady()
      }
      try await Systemd.waitUntilReady()
      try await Systemd.withConfiguration(replacing: #"log_file: """#, with: "log_file: \"\(file)\"") {
        try await restart()
        try await body()
      } after: {
        try await restart()
        try await Shell.must("rm -f \(file) \(file).1")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a changing or refused call leaves one line, and no secret is in it or in the journal`() async throws {
      let mark = UUID().uuidString
      let secret = "hunter2-\(UUID().uuidString)"
      let file = "/var/log/joblet/audit-\(mark).log"
      let apis = try Dictionary(
        uniqueKeysWithValues: ["reader", "developer", "maintainer"].map { ($0, try API(role: $0)) })
      func body(_ more: String = "") -> String {
        #"{"command":"sh","args":["-c","test -n \"$TOKEN\""],"secret_env":{"TOKEN":"\#(secret)"}\#(more)}"#
      }
      let cursor = try await Systemd.cursor()
      try await auditing(to: file) {
        let developer = try #require(apis["developer"])
        let run = try await developer.call(
          "POST", "/v1/jobs", body: body(), headers: ["X-Request-Id: \(mark)-run", "Prefer: wait=60"])
        let id = try run.decode(Job.self).id
        // It had its secret.
        #expect(try await developer.ended(id).status == "COMPLETED")
        let job = "/v1/jobs/\(id)"
        let calls = [
          Call(role: "developer", method: "GET", path: job, status: 200),
          Call(role: "reader", method: "GET", path: "/v1/jobs?colour=red", status: 422),
          Call(
            role: "reader", method: "POST", path: "/v1/jobs", body: body(), status: 403, outcome: "refused",
            operation: "jobs:run"),
          Call(
            role: "developer", method: "POST", path: "/v1/jobs", body: body(#","colour":1"#), status: 422,
            outcome: "failed", operation: "jobs:run"),
          Call(
            role: "developer", method: "POST", path: "/v1/jobs", body: body("]"), status: 400, outcome: "failed",
            operation: "jobs:run"),
          Call(
            role: "developer", method: "POST", path: "\(job)/stop", status: 409, outcome: "failed",
            operation: "jobs:stop"),
          Call(role: "reader", method: "DELETE", path: job, status: 403, outcome: "refused", operation: "jobs:delete"),
          Call(
            role: "maintainer", method: "DELETE", path: "/v1/jobs", status: 403, outcome: "refused",
            operation: "jobs:delete-all"),
          Call(role: "developer", method: "DELETE", path: job, status: 204, outcome: "ok", operation: "jobs:delete"),
        ]
        for (number, call) in calls.enumerated() {
          let reply = try await #require(apis[call.role]).call(
            call.method, call.path, body: call.body, headers: ["X-Request-Id: \(mark)-\(number)"])
          #expect(reply.status == call.status, "\(call): \(reply)")
        }

        // Written before the answer left, so all are there.
        let written = try lines(file)
        try await expect(calls, mark, id, in: written.map(\.line))
        #expect(try await Shell.must("stat -c '%U %a' \(file)") == "joblet-api 600")
        try await eventually("the journal has the same lines") {
          let journal = try await Systemd.journal("joblet-api.service", after: cursor)
          return written.allSatisfy { journal.contains("audit \($0.text)") }
        }
        try await expectRotation(file, mark, try #require(apis["reader"]))
        #expect(try await Shell.run("grep -lF '\(secret)' \(file) \(file).1").text == "")
        let said = "journalctl --no-pager -a -o export --since='\(cursor)'"
        #expect(try await Shell.must("\(said) | grep -acF '\(secret)' || true") == "0")
        // Nothing is found where nothing is looked at.
        #expect(try await Shell.must("\(said) | grep -acF '\(mark)-run' || true") != "0")
      }
    }

    private func expect(_ calls: [Call], _ mark: String, _ job: String, in lines: [Line]) async throws {
      let run = try #require(lines.first { $0.requestId == "\(mark)-run" })
      #expect(run.outcome == "ok" && run.status == 201 && run.operation == "jobs:run" && run.target == job, "\(run)")
      #expect(run.who == "joblet-developer" && run.role == "developer" && !run.remote.isEmpty, "\(run)")
      for (number, call) in calls.enumerated() {
        let told = lines.filter { $0.requestId == "\(mark)-\(number)" }
        #expect(told.count == (call.outcome == nil ? 0 : 1), "\(call): \(told)")
        guard let line = told.first else { continue }
        #expect(line.outcome == call.outcome && line.status == call.status, "\(call): \(line)")
        #expect(line.role == call.role && line.who == "joblet-\(call.role)", "\(call): \(line)")
        #expect(line.operation == call.operation && line.method == call.method && line.path == call.path, "\(line)")
        #expect(line.target == (call.path.contains(job) ? job : nil), "\(call): \(line)")
        #expect(line.outcome == "ok" || line.problem != nil, "\(line)")
        #expect(line.ts.hasSuffix("Z"), "\(line)")
      }
      #expect(lines.filter { $0.requestId.hasPrefix(mark) }.count == 1 + calls.filter { $0.outcome != nil }.count)
    }

    /// Moved away, and a reload: what comes is in a new file, and the old one stays as it was.
    private func expectRotation(_ file: String, _ mark: String, _ reader: API) async throws {
      try await Shell.must("mv \(file) \(file).1 && systemctl reload joblet-api.service")
      try await eventually("the file is opened anew") { FileManager.default.fileExists(atPath: file) }
      let old = try lines("\(file).1").count
      let headers = ["X-Request-Id: \(mark)-rotated"]
      #expect(try await reader.call("POST", "/v1/jobs", body: #"{"command":"true"}"#, headers: headers).status == 403)
      #expect(try lines(file).filter { $0.line.requestId == "\(mark)-rotated" }.count == 1)
      #expect(try lines("\(file).1").count == old)
    }
  }
}
