import Foundation
import Testing

extension SystemTests {
  /// What the operator does with what is stored: `joblet-persist sweep`, `verify`, `cat`, retention, the floor of free space.
  @Suite struct Store {
    static let persist = "/opt/joblet/bin/joblet-persist"

    private func files(_ id: String) -> Bool { FileManager.default.fileExists(atPath: "\(Installed.logs)/\(id)") }

    /// Waits until a job's output is in its file.
    private func sealed(_ id: String) async throws {
      try await eventually("job \(id) is sealed") {
        FileManager.default.fileExists(atPath: "\(Installed.logs)/\(id)/stdout.log.gz")
      }
    }

    /// Edits the installed configuration, has persist take it, and puts the old one back behind `body`.
    private func with(_ old: String, _ new: String, _ body: () async throws -> Void) async throws {
      let before = try String(contentsOfFile: Installed.config, encoding: .utf8)
      try #require(before.contains(old), "\(Installed.config) has no '\(old)'")
      func put(_ text: String) async throws {
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: Installed.config))
        try handle.truncate(atOffset: 0)
        try handle.write(contentsOf: Data(text.utf8))
        try handle.close()
        try await Shell.must("systemctl reload joblet-persist.service")
      }
      do {
        try await put(before.replacing(old, with: new))
        try await body()
      } catch {
        try await put(before)
        throw error
      }
      try await put(before)
    }

    @Test(.timeLimit(.minutes(10)))
    func `cat and verify read what zcat reads`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let script = "for i in $(seq 1 500); do echo out $i; echo err $i >&2; done; printf 'no newline'"
      let job = try await api.finish(script).job
      try await sealed(job.id)
      let lines = try await Shell.must("\(Self.persist) cat \(job.id)")
      #expect(lines.split(separator: "\n").count == 1001)
      let stored = try await Shell.must("zcat \(Installed.logs)/\(job.id)/stdout.log.gz")
      #expect(try await Shell.must("\(Self.persist) cat \(job.id) --stream stdout") == stored)
      #expect(
        try await Shell.run("\(Self.persist) cat \(job.id) --stream stdout --text").bytes
          == (try await api.text(job.id, "?stream=stdout")))
      #expect(
        try await Shell.must("\(Self.persist) cat \(job.id) --text --filter 'err 49' --tail 2") == "err 498\nerr 499")
      #expect(try await Shell.must("\(Self.persist) cat \(job.id) --text --regex '^out 1?7$'") == "out 7\nout 17")
      #expect(try await Shell.must("\(Self.persist) cat \(job.id) --since 1s --until 1970-01-02T00:00:00Z") == "")

      let verified = try await Shell.run("\(Self.persist) verify \(job.id)")
      #expect(verified.status == 0, "\(verified.text)\(verified.errors)")
      #expect(verified.text.contains("sound") && !verified.text.contains("FAULTY"))
      let all = try await Shell.run("\(Self.persist) verify --all --json")
      #expect(all.status != 2, "\(all.text.suffix(2000))\(all.errors)")
      #expect(all.lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") })

      // A byte that changed is found, by its file and place, and the rest can still be read.
      let file = "\(Installed.logs)/\(job.id)/stderr.log.gz"
      try await Shell.must(
        "byte=$(od -An -tu1 -j200 -N1 \(file)); printf \"\\\\$(printf %03o $((byte ^ 255)))\" | dd of=\(file) bs=1 seek=200 conv=notrunc status=none"
      )
      let faulty = try await Shell.run("\(Self.persist) verify \(job.id)")
      #expect(faulty.status == 1)
      #expect(faulty.text.contains("FAULTY") && faulty.text.contains(file), "\(faulty.text)")
      let rest = try await Shell.run("\(Self.persist) cat \(job.id)")
      #expect(rest.status == 1 && rest.text.contains("out 500"))
      #expect(try await api.call("DELETE", "/v1/jobs/\(job.id)").status < 300)
    }

    @Test(.timeLimit(.minutes(5)))
    func `commands say what they were asked wrong`() async throws {
      for arguments in ["cat", "cat nonsense", "verify", "sweep --days -3", "sweep --max-bytes lots", "sing"] {
        let output = try await Shell.run("\(Self.persist) \(arguments)")
        #expect(output.status == 64, "\(arguments): \(output.status)")
        #expect(!output.errors.isEmpty)
      }
      let nobody = "00000000-0000-7000-8000-000000000000"
      #expect(try await Shell.run("\(Self.persist) cat \(nobody)").status == 1)
      #expect(try await Shell.run("\(Self.persist) verify \(nobody)").status == 2)
      #expect(try await Shell.run("\(Self.persist) verify --all --config /nowhere.yml").status == 2)
      for command in ["", "cat", "verify", "sweep", "serve"] {
        let help = try await Shell.run("\(Self.persist) \(command) --help")
        #expect(help.status == 0)
        if command != "serve" { #expect(help.text.contains("Exit status")) }
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `sweep shows what would go, and then it goes`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let large = try await api.finish("seq 1 200000").job
      let running = try await api.sh("seq 1 200000; sleep 600")
      try await sealed(large.id)
      let shown = try await Shell.run("\(Self.persist) sweep --dry-run --max-bytes-per-job 100KB")
      #expect(shown.status == 0, "\(shown.errors)")
      #expect(shown.text.contains(large.id) && shown.text.contains("max_bytes_per_job"), "\(shown.text)")
      #expect(!shown.text.contains(running.id), "\(shown.text)")
      #expect(shown.text.contains("would remove"))
      #expect(files(large.id))
      let swept = try await Shell.run("\(Self.persist) sweep --max-bytes-per-job 100KB")
      #expect(swept.status == 0 && swept.text.contains("removed"), "\(swept.text)\(swept.errors)")
      #expect(!files(large.id))
      #expect(try await api.get("/v1/jobs/\(running.id)").status == 200)
      let none = try await Shell.run("\(Self.persist) sweep --dry-run --days 1")
      #expect(none.text.contains("would remove 0 jobs"), "\(none.text)")
      _ = try await api.call("POST", "/v1/jobs/\(running.id)/stop")
      _ = try await api.ended(running.id)
    }

    @Test(.timeLimit(.minutes(10)))
    func `persist sweeps by itself when its configuration says so`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.finish("seq 1 200000").job
      try await sealed(job.id)
      let cursor = try await Systemd.cursor()
      try await with("max_bytes_per_job: 0", "max_bytes_per_job: 100KB") {
        try await eventually("the job is swept", within: .seconds(240)) { !files(job.id) }
        try await eventually("the journal says it") {
          try await Systemd.journal("joblet-persist.service", after: cursor).contains("by persist.retention")
        }
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job's directory removed by hand upsets nothing`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let job = try await api.finish("echo gone").job
      try await sealed(job.id)
      let pid = try await Systemd.mainPID("joblet-persist.service")
      try await Shell.must(
        "find \(Installed.logs) -mindepth 1 -type d -name '\(job.id)' -exec rm -rf {} \\; ; mkdir -p \(Installed.logs)/not-a-job"
      )
      #expect(try await Shell.run("\(Self.persist) sweep --dry-run --days 1").status == 0)
      #expect(try await Shell.run("\(Self.persist) verify --all").status != 2)
      #expect(try await api.get("/v1/jobs/\(job.id)").status == 200)
      #expect(try await api.finish("echo on").stdout == "on\n")
      #expect(FileManager.default.fileExists(atPath: "\(Installed.logs)/not-a-job"))
      try await Shell.must("rmdir \(Installed.logs)/not-a-job")
      #expect(try await Systemd.mainPID("joblet-persist.service") == pid)
    }

    @Test(.timeLimit(.minutes(10)))
    func `even the whole directory may be removed by hand`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let pid = try await Systemd.mainPID("joblet-persist.service")
      // What the advice to clean up by age does on a host that was idle for a week.
      try await Shell.must("rm -rf \(Installed.logs)")
      try await Daemon.replaced("joblet-persist.service", since: pid)
      try await Systemd.waitUntilReady()
      #expect(try await Shell.must("stat -c '%U %a' \(Installed.logs)") == "joblet 750")
      let job = try await api.finish("echo anew")
      #expect(job.stdout == "anew\n")
      try await sealed(job.job.id)
    }

    @Test(.timeLimit(.minutes(10)))
    func `below the floor new jobs are refused, and what runs goes on`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      let running = try await api.sh("i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo tick $i; sleep 0.1; done")
      try await api.running(running.id)
      let cursor = try await Systemd.cursor()
      try await with("min_free: 1GiB", "min_free: 900TiB") {
        let refused = try await eventually("new jobs are refused") { () -> Reply? in
          let reply = try await api.call("POST", "/v1/jobs", body: #"{"command":"true"}"#)
          return reply.status == 503 ? reply : nil
        }
        let problem = try refused.decode(ProblemReply.self)
        #expect(problem.type == "urn:joblet:problem:unavailable")
        #expect(problem.detail.contains("persist.retention.min_free"), "\(problem.detail)")
        #expect(refused.headers["retry-after"] != nil)
        let ready = try await eventually("readyz says why") { () -> String? in
          let output = try await Shell.run(["curl", "-sS", "-w", "%{http_code}", Installed.health + "/readyz"])
          return output.text.hasSuffix("503") ? output.text : nil
        }
        #expect(ready.contains("persist.retention.min_free"), "\(ready)")
        // A reload's own sentence stands there for up to ten seconds.
        try await eventually("the status says it") {
          try await Systemd.property("joblet-persist.service", "StatusText").contains("no new jobs")
        }
        let journal = try await Systemd.journal("joblet-persist.service", after: cursor)
        #expect(journal.components(separatedBy: "new jobs are refused").count == 2, "\(journal)")
        // The running job's output still comes.
        let before = try await api.lines(running.id).count
        try await eventually("the running job goes on") { try await api.lines(running.id).count > before }
      }
      try await Systemd.waitUntilReady()
      let taken = try await eventually("new jobs are taken on again") { () -> Reply? in
        let reply = try await api.call("POST", "/v1/jobs", body: #"{"command":"true"}"#)
        return reply.status == 201 ? reply : nil
      }
      _ = try await api.ended(try taken.decode(Job.self).id)
      _ = try await api.call("POST", "/v1/jobs/\(running.id)/stop")
      _ = try await api.ended(running.id)
    }

    @Test(.timeLimit(.minutes(10)))
    func `persist's own figures stand on the gateway's page`() async throws {
      try await Systemd.waitUntilReady()
      let api = try API()
      _ = try await api.finish("seq 1 1000")
      let page = try await eventually("persist's figures") { () -> String? in
        let text = try await Shell.must("curl -sS \(Installed.health)/metrics")
        return text.contains("joblet_persist_lines_total") ? text : nil
      }
      #expect(page.contains("\njoblet_persist_dropped_lines_total 0\n"))
      for name in ["fsync_seconds_bucket", "query_seconds_count", "members_total", "free_bytes", "unsynced_lines"] {
        #expect(page.contains("joblet_persist_\(name)"), "\(name)")
      }
    }
  }
}
