import Foundation
import Testing

extension SystemTests {
  /// The gateway's edge under load, ill will and an operator's hands: what the rootless tests do in small, in large.
  @Suite struct Edge {
    /// Runs a Python script in the client files' folder.
    private func python(_ script: String, _ files: ClientFiles, within limit: Duration = .seconds(300)) async throws
      -> Output
    {
      try await Shell.run(["python3", "-c", script], directory: files.directory, within: limit)
    }

    private func files() throws -> ClientFiles { try #require(try API().files) }

    @Test(.timeLimit(.minutes(10)))
    func `curl sends a thousand requests over one connection`() async throws {
      let files = try files()
      try await Shell.must(
        """
        cd \(files.directory) && for i in $(seq 1000); do [ $i = 1 ] || echo next
        printf 'url = \(Installed.api)/v1/jobs?limit=1\\ncacert = ca.pem\\ncert = cert.pem\\nkey = key.pem\\noutput = /dev/null\\n'
        printf 'silent\\nshow-error\\nwrite-out = "%%{http_code} %%{num_connects}\\\\n"\\n'; done > many.cfg
        """)
      let output = try await Shell.must("cd \(files.directory) && curl -K many.cfg 2>&1 | sort | uniq -c | sort -n")
      let lines = output.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
      #expect(lines == ["1 200 1", "999 200 0"], "\(output)")
    }

    @Test(.timeLimit(.minutes(15)))
    func `a restart of the whole refuses no connection`() async throws {
      try await Systemd.waitUntilReady()
      let files = try files()
      try await Systemd.disturbing {
        let client = try RunningProgram(
          [
            "bash", "-c",
            """
            while [ ! -e stop ]; do
              curl -sS --max-time 100 --cacert ca.pem --cert cert.pem --key key.pem -o /dev/null -w '%{http_code}\\n' \
                \(Installed.api)/v1/jobs?limit=1 2>> errors || echo "exit $?"
            done
            """,
          ], directory: files.directory)
        try await eventually("it asks") { try client.text().split(separator: "\n").count > 2 }
        let old = try await Systemd.mainPID("joblet-api.service")
        try await Shell.must("systemctl restart joblet.service", within: .seconds(300))
        try await Systemd.waitUntilReady()
        #expect(try await Systemd.mainPID("joblet-api.service") != old)
        let after = try client.text().split(separator: "\n").count
        try await eventually("it goes on") { try client.text().split(separator: "\n").count > after + 2 }
        try await Shell.must("touch \(files.directory)/stop")
        _ = try await client.wait()
        let answers = Set(try client.text().split(separator: "\n").map(String.init))
        // 7 is "couldn't connect". A part that is still on its way may be told as 503.
        let errors = try await Shell.run("cat \(files.directory)/errors").text
        #expect(answers.isSubset(of: ["200", "503"]) && answers.contains("200"), "\(answers) \(errors)")
        for socket in Installed.sockets { #expect(try await Systemd.isActive(socket), "\(socket)") }
      }
    }

    @Test(.timeLimit(.minutes(15)))
    func `a reload drops no stream, and a revoked client loses its own`() async throws {
      let api = try API()
      let job = try await api.sh("while :; do echo tick; sleep 1; done")
      // Events: plain text has no place for a reason.
      let follow = ["-N", "-H", "Accept: text/event-stream", Installed.api + "/v1/jobs/\(job.id)/logs?follow=true"]
      let honest = try RunningProgram(api.arguments + follow)
      let developer = try API(role: "developer")
      let stolen = try RunningProgram(developer.arguments + follow)
      try await eventually("both follow") {
        try honest.text().contains("tick") && stolen.text().contains("tick")
      }
      let folder = try #require(developer.files?.directory)
      let key = try await Shell.must("find /opt/joblet -name 'ca*key*' -type f | head -n 1")
      try await Shell.must(
        """
        cd \(folder) && : > index.txt && echo 01 > number && printf '%s\\n' '[ca]' 'default_ca=d' '[d]' 'database=index.txt' \
        'crlnumber=number' 'default_md=sha256' 'default_crl_days=30' > ca.cnf &&
        openssl ca -config ca.cnf -cert ca.pem -keyfile \(key) -revoke cert.pem 2>&1 &&
        openssl ca -config ca.cnf -cert ca.pem -keyfile \(key) -gencrl -out /opt/joblet/certs/revoked.pem 2>&1 &&
        chmod 644 /opt/joblet/certs/revoked.pem
        """)
      try await Systemd.withConfiguration(
        replacing: #"  crl: """#, with: #"  crl: "/opt/joblet/certs/revoked.pem""#
      ) {
        let pid = try await Systemd.mainPID("joblet-api.service")
        try await Shell.must("systemctl reload joblet.service")
        try await eventually("the stream of the revoked client ends with its reason") { !stolen.isRunning }
        let told = try stolen.text()
        #expect(told.contains("event: problem") && told.contains("revoked"), "\(told.suffix(2000))")
        let refused = try await developer.get("/v1/jobs")
        #expect(refused.status == 401 && refused.text.contains("revoked"), "\(refused)")
        #expect(try await api.get("/v1/jobs").status == 200)
        #expect(honest.isRunning)
        #expect(try await Systemd.mainPID("joblet-api.service") == pid)
      } after: {
        try await Shell.must("systemctl reload joblet.service; rm -f /opt/joblet/certs/revoked.pem")
        honest.terminate()
        _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      }
      try await eventually("the developer is welcome again") { try await developer.get("/v1/jobs").status == 200 }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a session that is taken up again is the same client`() async throws {
      let files = try files()
      let request = #"printf 'GET /v1/jobs?limit=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'; sleep 3"#
      let connect = "openssl s_client -connect localhost:50051 -CAfile ca.pem -alpn http/1.1"
      let first = try await Shell.must(
        "cd \(files.directory) && (\(request)) | \(connect) -cert cert.pem -key key.pem -sess_out session 2>&1")
      #expect(first.contains("HTTP/1.1 200"), "\(first)")
      let again = try await Shell.must("cd \(files.directory) && (\(request)) | \(connect) -sess_in session 2>&1")
      #expect(again.contains("Reused") && again.contains("HTTP/1.1 200"), "\(again)")
      // New ticket keys: who wants to go on shows the certificate again.
      try await Shell.must("systemctl reload joblet-api.service")
      try await eventually("the old session is worth nothing") {
        let output = try await Shell.run("cd \(files.directory) && (\(request)) | \(connect) -sess_in session 2>&1")
        return !output.text.contains("Reused") && !output.text.contains("HTTP/1.1 200")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a body of a gibibyte is refused and costs nothing`() async throws {
      let api = try API()
      for version in ["--http1.1", "--http2"] {
        let reply = try await Shell.run(
          "head -c 1G /dev/zero | \(api.arguments.joined(separator: " ")) \(version) -X POST -H 'Content-Type: application/json' "
            + "-H 'Expect:' -T - -o /dev/null -w '%{http_code}' \(Installed.api)/v1/jobs")
        #expect(reply.text == "413", "\(reply)")
      }
      #expect(try await Daemon.memory("joblet-api.service", "VmHWM") < 150 << 10)
    }

    @Test(.timeLimit(.minutes(15)))
    func `ten thousand connections without a certificate keep nobody out`() async throws {
      let files = try files()
      let pid = try await Systemd.mainPID("joblet-api.service")
      let output = try await python(
        """
        import resource, socket, ssl, time
        resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
        context = ssl.create_default_context(cafile='ca.pem'); context.load_cert_chain('cert.pem', 'key.pem')
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); plain.check_hostname = False; plain.verify_mode = ssl.CERT_NONE
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try: plain.wrap_bio(into, out).do_handshake()
        except ssl.SSLWantReadError: pass
        hello, flood, slowest, answers, peak = out.read(), [], 0, 0, 0
        def rss(): return max(int(l.split()[1]) for l in open('/proc/\(pid)/status') if l.startswith('VmRSS'))
        for number in range(10000):
            one = socket.socket(); one.setblocking(False)
            try: one.connect(('127.0.0.1', 50051))
            except BlockingIOError: pass
            if number % 2:
                try: one.send(hello)
                except OSError: pass
            flood.append(one)
            if number % 500 == 499:
                begun = time.time(); peak = max(peak, rss())
                with context.wrap_socket(socket.create_connection(('127.0.0.1', 50051), timeout=60), server_hostname='localhost') as client:
                    client.sendall(b'GET /v1/jobs?limit=1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
                    answers += client.recv(12) == b'HTTP/1.1 200'
                slowest = max(slowest, time.time() - begun)
        print(answers, int(slowest), peak)
        """, files, within: .seconds(600))
      let figures = output.text.split(separator: " ").compactMap { Int($0.trimmingCharacters(in: .newlines)) }
      try #require(figures.count == 3, "\(output)")
      #expect(figures[0] == 20, "every honest client was answered")
      #expect(figures[1] < 30, "the slowest took \(figures[1]) s")
      #expect(figures[2] < 150 << 10, "the gateway held \(figures[2]) KiB")
    }

    @Test(.timeLimit(.minutes(15)))
    func `a gateway out of files goes on when there are some again`() async throws {
      let files = try files()
      let folder = "/run/systemd/system/joblet-api.service.d"
      let undo = "rm -rf \(folder) && systemctl daemon-reload && systemctl restart joblet-api.service"
      try await Systemd.disturbing {
        try await Shell.must(
          "mkdir -p \(folder) && printf '[Service]\\nLimitNOFILE=100\\n' > \(folder)/99-test.conf && systemctl daemon-reload"
            + " && systemctl restart joblet-api.service", within: .seconds(300))
        do {
          try await runOutOfFiles(files)
        } catch {
          try await Shell.must(undo, within: .seconds(300))
          throw error
        }
        try await Shell.must(undo, within: .seconds(300))
      }
    }

    private func runOutOfFiles(_ files: ClientFiles) async throws {
      try await Systemd.waitUntilReady()
      let cursor = try await Systemd.cursor()
      let output = try await python(
        """
        import socket, time
        flood = [socket.create_connection(('127.0.0.1', 50051), timeout=60) for _ in range(200)]
        time.sleep(3)
        """, files)
      #expect(output.status == 0, "\(output)")
      try await eventually("it is said") {
        try await Systemd.journal("joblet-api.service", after: cursor).contains("no connection can be accepted")
      }
      try await eventually("it serves again") { try await API().get("/v1/jobs?limit=1").status == 200 }
      let journal = try await Systemd.journal("joblet-api.service", after: cursor)
      let lines = journal.split(separator: "\n").filter { $0.contains("no connection can be accepted") }
      #expect(lines.count < 6, "said when it begins, not once a try: \(lines)")
    }
  }
}
