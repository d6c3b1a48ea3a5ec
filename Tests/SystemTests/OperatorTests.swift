import Foundation
import Testing

extension SystemTests {
  /// What the one sees who runs the host.
  @Suite struct Operator {
    @Test(.timeLimit(.minutes(10)), arguments: Installed.services)
    func `a service's status reads well`(service: String) async throws {
      try await Systemd.waitUntilReady()
      #expect(try await Systemd.property(service, "ActiveState") == "active")
      #expect(try await Systemd.property(service, "SubState") == "running")
      #expect(try await Systemd.property(service, "Type") == "notify")
      #expect(try await Systemd.property(service, "WatchdogUSec") != "0")
      #expect(try await Systemd.property(service, "Result") == "success")
      let sentence = try await Systemd.property(service, "StatusText")
      #expect(sentence.split(separator: " ").count >= 2, "STATUS= is '\(sentence)'")
      let status = try await Shell.run("systemctl --no-pager status \(service)")
      #expect(status.status == 0)
      #expect(status.text.contains("Status: \"\(sentence)\""))
      #expect(
        try await Shell.run("systemctl show -p Description --value \(service)").text.lowercased().contains("joblet"))
    }

    @Test(.timeLimit(.minutes(10)))
    func `sockets are systemd's, with their owners and modes`() async throws {
      let names = try await Shell.must("systemctl list-sockets --no-pager --no-legend 'joblet*'")
      for part in ["50051", "9090", "exec.sock", "persist-ipc.sock", "persist-query.sock"] {
        #expect(names.contains(part), "\(part) is not in\n\(names)")
      }
      let modes = try await Shell.must(
        "cd /opt/joblet/run && stat -c '%n %a %U:%G' exec.sock persist-ipc.sock persist-query.sock")
      #expect(
        modes
          == "exec.sock 660 root:joblet-api\npersist-ipc.sock 660 joblet:joblet\npersist-query.sock 660 joblet:joblet-api"
      )
      #expect(
        try await Shell.must("readlink -f /opt/joblet/run/persist-grpc.sock") == "/opt/joblet/run/persist-query.sock")
    }

    @Test(.timeLimit(.minutes(10)))
    func `each daemon runs as who it should, with no more than it needs`() async throws {
      func status(_ unit: String, _ field: String) async throws -> String {
        try await Shell.must("awk '/^\(field):/ {print $2}' /proc/\(try await Systemd.mainPID(unit))/status")
      }
      let api = try await Shell.must("id -u joblet-api")
      let persist = try await Shell.must("id -u joblet")
      #expect(try await status("joblet-api.service", "Uid") == api)
      #expect(try await status("joblet-persist.service", "Uid") == persist)
      #expect(try await status("joblet-exec.service", "Uid") == "0")
      #expect(try await status("joblet-api.service", "CapEff") == "0000000000000000")
      #expect(try await status("joblet-persist.service", "CapEff") == "0000000000000000")
      #expect(try await status("joblet-exec.service", "CapBnd") != "000001ffffffffff")
    }

    @Test(.timeLimit(.minutes(10)))
    func `keys are for those who need them only`() async throws {
      let keys = try await Shell.must(
        "grep -rlE 'BEGIN (EC |RSA )?PRIVATE KEY' /opt/joblet 2>/dev/null | xargs stat -c '%a %U %n'")
      #expect(!keys.isEmpty)
      for line in keys.split(separator: "\n") { #expect(line.hasPrefix("600 "), "\(line)") }
      for path in [Installed.config, Installed.clientConfig] {
        #expect(
          try await Shell.run(["setpriv", "--reuid=65534", "--clear-groups", "cat", path]).text.contains("PRIVATE KEY")
            == false)
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `the health listener answers plain HTTP`() async throws {
      try await Systemd.waitUntilReady()
      #expect(
        try await Shell.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", Installed.health + "/healthz"])
          .text == "200")
      let metrics = try await Shell.must("curl -sS \(Installed.health)/metrics")
      #expect(metrics.contains("# TYPE"))
      #expect(
        try await Shell.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", Installed.health + "/v1/jobs"])
          .text == "404")
      let contract = try await API().get("/openapi.yaml")
      #expect(contract.status == 200 && contract.text.contains("openapi: 3.1"))
    }

    @Test(.timeLimit(.minutes(15)))
    func `joblet.service stops, starts and restarts the whole`() async throws {
      try await Systemd.waitUntilReady()
      try await Systemd.disturbing {
        try await Shell.must("systemctl stop joblet.service", within: .seconds(300))
        for service in Installed.services { #expect(try await Systemd.isActive(service) == false, "\(service)") }
        #expect(try await Shell.run(["curl", "-sS", "-m", "5", Installed.health + "/healthz"]).status != 0)
        let cursor = try await Systemd.cursor()
        try await Shell.must("systemctl start joblet.service", within: .seconds(300))
        for service in Installed.services { #expect(try await Systemd.isActive(service), "\(service)") }
        #expect(
          try await Systemd.journal("joblet.service", after: cursor).contains("persist service started successfully"))
        try await Systemd.waitUntilReady()
        #expect(try await API().finish("echo again").stdout == "again\n")
        let old = try await Systemd.mainPID("joblet-exec.service")
        try await Shell.must("systemctl restart joblet.service", within: .seconds(300))
        try await Systemd.waitUntilReady()
        #expect(try await Systemd.mainPID("joblet-exec.service") != old)
      }
    }

    @Test(.timeLimit(.minutes(15)))
    func `a start of the whole that fails stops nothing, and a stop after it stops everything`() async throws {
      let folder = "/run/systemd/system/joblet.service.d"
      try await Systemd.waitUntilReady()
      try await Systemd.disturbing {
        try await Shell.must(
          "mkdir -p \(folder) && printf '[Service]\\nExecStart=\\nExecStart=/bin/false\\n' > \(folder)/99-test.conf"
            + " && systemctl daemon-reload")
        let undo = "rm -rf \(folder) && systemctl daemon-reload"
        do {
          let restart = try await Shell.run("systemctl restart joblet.service 2>&1", within: .seconds(300))
          #expect(restart.status != 0, "\(restart)")
          try await Systemd.waitUntilReady()
          for unit in Installed.services + Installed.sockets { #expect(try await Systemd.isActive(unit), "\(unit)") }
          try await Shell.must("systemctl stop joblet.service", within: .seconds(300))
          for unit in Installed.services + Installed.sockets {
            try await eventually("\(unit) stops") { try await Systemd.isActive(unit) == false }
          }
        } catch {
          try await Shell.must(undo)
          throw error
        }
        try await Shell.must(undo)
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a wrong configuration is told to whoever restarts the node`() async throws {
      try await Systemd.waitUntilReady()
      try await Systemd.disturbing {
        let cursor = try await Systemd.cursor()
        try await Systemd.withConfiguration(appending: "bogus: 1\n") {
          let restart = try await Shell.run("systemctl restart joblet.service 2>&1", within: .seconds(150))
          #expect(restart.status == 1 && restart.text.contains("journalctl"), "\(restart)")
          try await eventually("its journal says why") {
            try await Systemd.journal("joblet.service", after: cursor).contains("bogus")
          }
        }
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a first connection starts a service`() async throws {
      try await Systemd.disturbing {
        try await Shell.must(
          "systemctl stop joblet-persist.service joblet-exec.service joblet-api.service 2>&1", within: .seconds(300))
        try await Shell.must("systemctl start \(Installed.sockets.joined(separator: " "))")
        #expect(try await Systemd.isActive("joblet-api.service") == false)
        // The gateway answers as soon as it is up; the worker may still be on its way, and the answer says so.
        let api = try API()
        let accepted = try await eventually("the job is taken") { () -> Reply? in
          let reply = try await api.call("POST", "/v1/jobs", body: #"{"command":"sh","args":["-c","echo woken"]}"#)
          if reply.status == 503 { #expect(reply.headers["retry-after"] != nil) }
          return reply.status == 503 ? nil : reply
        }
        #expect(accepted.status == 201, "\(accepted)")
        let job = try await api.ended(try accepted.decode(Job.self).id)
        #expect(try await api.text(job.id) == Data("woken\n".utf8))
      }
    }

    @Test(.timeLimit(.minutes(20)))
    func `a hundred jobs leave nothing behind`() async throws {
      let api = try API()
      _ = try await api.finish("true")
      func traces() async throws -> [String: Int] {
        func count(_ command: String) async throws -> Int { Int(try await Shell.must(command)) ?? -1 }
        return [
          "cgroups": try await count("find \(Installed.jobsCgroup) -type d | wc -l"),
          "mounts": try await count("cat /proc/$(systemctl show -p MainPID --value joblet-exec)/mountinfo | wc -l"),
          "state": try await count("ls -A \(Installed.runState) | wc -l"),
          "zombies": try await count("ps -eo stat= | grep -c '^Z' || true"),
          "inits": try await count("pgrep -c joblet-init || true"),
          "exec descriptors": try await Daemon.openDescriptors("joblet-exec.service"),
        ]
      }
      // A sandbox for each of the next jobs is part of how it was before.
      try await eventually("the stock of sandboxes is full") {
        try await Shell.must("ls /run/joblet/prepared | wc -l") == "8"
      }
      let before = try await traces()
      // Five at a time through one curl each: the point is the number, not the speed.
      let config = try ClientFiles(config: Installed.clientConfig).arguments.joined(separator: " ")
      try await Shell.must(
        """
        seq 100 | xargs -P 5 -I{} curl -sS --fail -o /tmp/joblet-hundred-{} \(config) -H 'Content-Type: application/json' \
          -d '{"command":"sh","args":["-c","echo {}"]}' \(Installed.api)/v1/jobs
        """, within: .seconds(600))
      let ids = try await Shell.must("cat /tmp/joblet-hundred-* | jq -r .id; rm /tmp/joblet-hundred-*").split(
        separator: "\n")
      #expect(ids.count == 100)
      for id in ids { #expect(try await api.ended(String(id)).status == "COMPLETED") }
      for id in ids.prefix(50) { #expect(try await api.call("DELETE", "/v1/jobs/\(id)").status == 204) }
      let descriptors = before["exec descriptors"] ?? 0
      try await eventually("everything is as before: \(before)") {
        var after = try await traces()
        // A handful of pooled descriptors may come and go.
        if let open = after["exec descriptors"], open <= descriptors + 8 { after["exec descriptors"] = descriptors }
        return after == before
      }
      // Workspaces of failed jobs are kept for a while; those of completed ones are not.
      for id in ids { #expect(!FileManager.default.fileExists(atPath: "\(Installed.jobs)/\(id)"), "\(id)") }
    }
  }
}
