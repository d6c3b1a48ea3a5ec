import Foundation
import Testing

extension SystemTests {
  /// What is wrong is refused in words that name it and what is allowed, and nothing else suffers.
  @Suite struct BadInput {
    @Test(
      .timeLimit(.minutes(10)),
      arguments: [
        ("{", 400, "bad-request", ""),
        ("[]", 422, "invalid-field", ""),
        ("", 400, "bad-request", ""),
        (#"{"args":[]}"#, 422, "invalid-field", "command"),
        (#"{"command":""}"#, 422, "invalid-field", "command"),
        (#"{"command":7}"#, 422, "invalid-field", "command"),
        (#"{"command":"sh","comand":"x"}"#, 422, "invalid-field", "comand"),
        (#"{"command":"sh","limits":{"cpus":1}}"#, 422, "invalid-field", "cpus"),
        (#"{"command":"sh","limits":{"cpu_percent":0}}"#, 422, "invalid-field", "1 to 100000"),
        (#"{"command":"sh","limits":{"memory_mb":-1}}"#, 422, "invalid-field", "1 to 16777216"),
        (#"{"command":"sh","limits":{"memory_mb":16777217}}"#, 422, "invalid-field", "1 to 16777216"),
        (#"{"command":"sh","limits":{"pids":0}}"#, 422, "invalid-field", "1 to 4194304"),
        (#"{"command":"sh","timeout":"soon"}"#, 422, "invalid-field", "timeout"),
        (#"{"command":"sh","env":{"A=B":"1"}}"#, 422, "invalid-field", "env"),
        (#"{"command":"a\u0000b"}"#, 422, "invalid-field", "NUL"),
      ])
    func `a wrong request is answered with its problem`(body: String, status: Int, kind: String, says: String)
      async throws
    {
      let reply = try await API().call("POST", "/v1/jobs", body: body)
      #expect(reply.status == status, "\(reply.text)")
      #expect(reply.headers["content-type"] == "application/problem+json")
      let problem = try reply.decode(ProblemReply.self)
      #expect(problem.type == "urn:joblet:problem:\(kind)")
      #expect(problem.status == status)
      #expect(!problem.title.isEmpty)
      #expect(says.isEmpty || problem.detail.contains(says), "\(problem.detail)")
    }

    @Test(
      .timeLimit(.minutes(10)),
      arguments: [
        ("GET", "/v1/nothing", 404), ("GET", "/v1/jobs/not-an-id", 404), ("PUT", "/v1/jobs", 405),
        ("GET", "/v1/jobs/0190a2b4-0000-7000-8000-000000000000", 404),
        ("GET", "/v1/jobs/0190a2b4-0000-7000-8000-000000000000/logs", 404),
        ("POST", "/v1/jobs/0190a2b4-0000-7000-8000-000000000000/stop", 404),
        ("GET", "/v1/jobs?limit=0", 422), ("GET", "/v1/jobs?status=SLEEPING", 422),
      ])
    func `a wrong address is answered with its problem`(method: String, path: String, status: Int) async throws {
      let reply = try await API().call(method, path)
      // An ID that is none may be called a bad value as well as a thing that is not there.
      #expect(
        reply.status == status || path.hasSuffix("not-an-id") && [400, 422].contains(reply.status), "\(reply.text)")
      #expect(reply.headers["content-type"] == "application/problem+json")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a body of the wrong format or size is refused`() async throws {
      let api = try API()
      let format = try await api.call("POST", "/v1/jobs", extra: ["-H", "Content-Type: text/plain", "-d", "{}"])
      #expect(format.status == 415, "\(format)")
      let big = #"{"command":"sh","args":["-c","true"],"env":{"A":""# + String(repeating: "x", count: 4 << 20) + #""}}"#
      let size = try await api.call("POST", "/v1/jobs", body: big)
      #expect([413, 422].contains(size.status), "\(size.status)")
      let accept = try await api.get("/v1/jobs/0190a2b4-0000-7000-8000-000000000000/logs", accept: "image/png")
      #expect([404, 406].contains(accept.status))
    }

    @Test(.timeLimit(.minutes(10)))
    func `a client without a certificate gets no answer`() async throws {
      let trusting = try ClientFiles(config: Installed.clientConfig)
      let output = try await Shell.run([
        "curl", "-sS", "--max-time", "60", "--cacert", "\(trusting.directory)/ca.pem", Installed.api + "/v1/jobs",
      ])
      #expect(output.status != 0)
      #expect(output.text.isEmpty)
      // Under TLS 1.3 the client has finished by then; it may see the alert or only that the connection is gone.
      #expect([35, 52, 55, 56].contains(output.status), "\(output)")
    }

    /// Makes a client certificate with openssl, signed by `ca` (`ca.pem`, `ca.key` in the folder) for `unit`.
    private func certificate(in folder: String, unit: String) async throws {
      try await Shell.must(
        """
        cd \(folder) && openssl ecparam -name prime256v1 -genkey -noout -out key.pem 2>&1 &&
        openssl req -new -key key.pem -subj '/O=joblet/OU=\(unit)/CN=stranger' -out req.pem 2>&1 &&
        printf 'extendedKeyUsage=clientAuth\\nkeyUsage=digitalSignature\\n' > ext &&
        openssl x509 -req -in req.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem 2>&1
        """)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a client of another CA gets no answer`() async throws {
      let folder = NSTemporaryDirectory() + "joblet-other-ca-\(UUID().uuidString)"
      try await Shell.must(
        """
        mkdir -p \(folder) && cd \(folder) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -keyout ca.key -subj '/CN=Another CA' -days 2 -out ca.pem 2>&1
        """)
      try await certificate(in: folder, unit: "admin")
      let trusting = try ClientFiles(config: Installed.clientConfig)
      let output = try await Shell.run([
        "curl", "-sS", "--max-time", "60", "--cacert", "\(trusting.directory)/ca.pem", "--cert", "\(folder)/cert.pem",
        "--key", "\(folder)/key.pem", Installed.api + "/v1/jobs",
      ])
      #expect(output.status != 0)
      #expect(output.text.isEmpty, "\(output)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `an unknown OU is refused by name`() async throws {
      let key = try await Shell.must("find /opt/joblet -name 'ca*key*' -type f | head -n 1")
      try #require(!key.isEmpty, "no CA key below /opt/joblet")
      #expect(try await Shell.must("stat -c %a \(key)") == "600")
      let folder = NSTemporaryDirectory() + "joblet-ou-\(UUID().uuidString)"
      let trusting = try ClientFiles(config: Installed.clientConfig)
      try await Shell.must(
        "mkdir -p \(folder) && cp \(key) \(folder)/ca.key && cp \(trusting.directory)/ca.pem \(folder)/ca.pem")
      try await certificate(in: folder, unit: "janitor")
      let reply = try await API(files: ClientFiles(directory: folder)).get("/v1/jobs")
      #expect(reply.status == 401, "\(reply)")
      #expect(try reply.decode(ProblemReply.self).detail.contains("janitor"))
    }

    @Test(.timeLimit(.minutes(10)))
    func `roles may do what they may, and a refusal is audited`() async throws {
      let cursor = try await Systemd.cursor()
      let reader = try API(role: "reader")
      #expect(try await reader.get("/v1/jobs").status == 200)
      let refused = try await reader.call("POST", "/v1/jobs", body: #"{"command":"true"}"#)
      #expect(refused.status == 403, "\(refused)")
      #expect(refused.headers["content-type"] == "application/problem+json")
      let detail = try refused.decode(ProblemReply.self).detail
      #expect(detail.contains("reader"), "\(detail)")
      let developer = try API(role: "developer")
      let job = try await developer.run("true")
      #expect(job.owner.isEmpty == false)
      _ = try await developer.ended(job.id)
      for method in [("DELETE", "/v1/jobs/\(job.id)"), ("POST", "/v1/jobs/\(job.id)/stop")] {
        #expect(try await reader.call(method.0, method.1).status == 403)
      }
      #expect(try await developer.call("DELETE", "/v1/jobs/\(job.id)").status == 204)
      try await eventually("the audit lines") {
        let api = try await Systemd.journal("joblet-api.service", after: cursor)
        let exec = try await Systemd.journal("joblet-exec.service", after: cursor)
        return api.contains("jobs:run") && api.contains("reader") && api.contains(job.id) && exec.contains(job.id)
      }
    }

    @Test(.timeLimit(.minutes(10)), arguments: ["joblet-api", "joblet-exec", "joblet-persist"])
    func `a wrong configuration stops the daemon with file, line, key and what is allowed`(daemon: String) async throws
    {
      let folder = NSTemporaryDirectory() + "joblet-config-\(UUID().uuidString)"
      try await Shell.must("mkdir -p \(folder)")
      let cases = [
        ("server:\n  prot: 1\n", "prot", "port"), ("logging:\n  level: LOUD\n", "level", "DEBUG"),
        ("joblet:\n  stopGrace: soon\n", "stopGrace", "30s"), ("servre:\n  port: 1\n", "servre", "server"),
      ]
      for (index, (text, key, allowed)) in cases.enumerated() {
        let path = "\(folder)/\(index).yml"
        try ("version: \"3.0\"\n" + text).write(toFile: path, atomically: true, encoding: .utf8)
        let output = try await Shell.run(["/opt/joblet/bin/\(daemon)", "--validate", "--config", path])
        let said = output.text + output.errors
        #expect(output.status != 0, "\(text)")
        for word in [path, key, allowed] { #expect(said.contains(word), "\(word) is not in: \(said)") }
        #expect(said.contains(":\(text.hasPrefix("servre") ? 2 : 3)"), "no line number in: \(said)")
      }
      let version = "\(folder)/version.yml"
      try "version: \"9.9\"\n".write(toFile: version, atomically: true, encoding: .utf8)
      let output = try await Shell.run(["/opt/joblet/bin/\(daemon)", "--validate", "--config", version])
      #expect(output.status != 0 && (output.text + output.errors).contains("3.0"))
      let good = try await Shell.run(["/opt/joblet/bin/\(daemon)", "--validate", "--config", Installed.config])
      #expect(good.status == 0, "\(good)")
    }

    @Test(.timeLimit(.minutes(15)))
    func `under systemd a wrong key is a line in the journal, and mending it brings the daemon back`() async throws {
      let cursor = try await Systemd.cursor()
      try await Systemd.disturbing {
        try await Systemd.withConfiguration(appending: "\nfilesytem:\n  baseDir: /x\n") {
          _ = try await Shell.run("systemctl restart --no-block joblet-api.service")
          try await eventually("the journal names the key") {
            try await Systemd.journal("joblet-api.service", after: cursor).contains("filesytem")
          }
          let journal = try await Systemd.journal("joblet-api.service", after: cursor)
          #expect(journal.contains(Installed.config) && journal.contains("filesystem"), "\(journal)")
        }
      }
    }
  }
}
