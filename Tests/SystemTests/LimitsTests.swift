import Foundation
import Testing

extension SystemTests {
  /// What a job may use, and that it uses no more; standing still and going on.
  @Suite struct LimitsSuite {
    /// The payload's cgroup of the job that runs `sleep marker`, a number nobody else sleeps for.
    private func group(_ marker: String) async throws -> String {
      try await eventually("the job's cgroup is known") {
        let output = try await Shell.run("cut -d: -f3 /proc/$(pgrep -nfx 'sleep \(marker)')/cgroup")
        return output.text.hasSuffix("/pay\n") ? "/sys/fs/cgroup" + output.text.dropLast() : nil
      }
    }

    private func status(_ api: API, _ id: String, _ verb: String) async throws -> (Int, String) {
      let reply = try await api.call("POST", "/v1/jobs/\(id)/\(verb)")
      return (reply.status, reply.status == 200 ? try reply.decode(Job.self).status : reply.text)
    }

    @Test(.timeLimit(.minutes(10)))
    func `every limit stands in the kernel, and in the record as applied`() async throws {
      let api = try API()
      let job = try await api.sh(
        "sleep 47110",
        fields: [
          "limits": [
            "cpu_weight": 250, "cpu_cores": "0", "memory_mb": 64, "memory_high_mb": 48, "io_bps": 5_000_000, "pids": 32,
          ]
        ])
      let group = try await group("47110")
      let read = { (file: String) in try await Shell.must("cat \(group)/\(file)") }
      #expect(try await read("../cpu.weight") == "250")
      #expect(try await read("cpuset.cpus.effective") == "0")
      #expect(try await read("memory.max") == "\(64 << 20)")
      #expect(try await read("memory.high") == "\(48 << 20)")
      #expect(try await read("memory.swap.max") == "0")
      #expect(try await read("memory.oom.group") == "1")
      #expect(try await read("pids.max") == "32")
      let disk = try await Shell.must("lsblk -ndo MAJ:MIN $(findmnt -nvo SOURCE -T \(Installed.jobs)) | tr -d ' '")
      let io = try await read("io.max")
      #expect(io.hasPrefix("\(disk) rbps=5000000 wbps=5000000"), "\(io) on \(disk)")
      let body = try await api.get("/v1/jobs/\(job.id)").text
      for part in [#""cpu_cores":"0""#, #""cpu_weight":250"#, #""memory_high_mb":48"#, #""io_bps":5000000"#] {
        #expect(body.contains(part), "\(body)")
      }
      let shown = try await Shell.must("rnx job status \(job.id)")
      #expect(shown.contains("CPUs 0") && shown.contains("64 MiB of memory"), "\(shown)")
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"0s"}"#)
      _ = try await api.ended(job.id)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a pinned job sees its CPUs and no others`() async throws {
      let result = try await API().finish(
        "nproc; grep Cpus_allowed_list /proc/self/status", fields: ["limits": ["cpu_cores": "0"]])
      #expect(result.stdout == "1\nCpus_allowed_list:\t0\n", "\(result)")
    }

    static let refused: [(String, String)] = [
      (#"{"cpu_cores":"0-8191"}"#, "online"), (#"{"cpu_cores":"1-0"}"#, "reversed"), (#"{"cpu_cores":"0,0"}"#, "twice"),
      (#"{"cpu_cores":"0-4294967295"}"#, "8191"), (#"{"memory_mb":8,"memory_high_mb":9}"#, "memory_mb"),
      (#"{"cpu_weight":10001}"#, "1 to 10000"), (#"{"io_bps":1}"#, "4096"),
    ]

    @Test(.timeLimit(.minutes(10)), arguments: refused)
    func `a limit that can't be held is refused by name`(limits: String, part: String) async throws {
      let reply = try await API().call("POST", "/v1/jobs", body: #"{"command":"true","limits":\#(limits)}"#)
      #expect(reply.status == 422 && reply.text.contains(part) && reply.text.contains("limits."), "\(reply)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `who is killed for its memory is told the limit and the peak`() async throws {
      let job = try await API().finish(
        "s=x; while :; do s=$s$s; done", fields: ["limits": ["memory_mb": 48]]
      ).job
      #expect(job.reason == "oom_killed")
      #expect(job.message?.contains("48 MiB") == true && job.message?.contains("MiB used") == true, "\(job)")
      let shown = try await Shell.must("rnx job status \(job.id)")
      #expect(shown.contains("FAILED: the kernel killed it for reaching its memory limit of 48 MiB"), "\(shown)")
    }

    @Test(.timeLimit(.minutes(20)))
    func `a throttled disk is slow, and holds up nobody who is to end`() async throws {
      let api = try API()
      // 2 MiB at 512 KiB/s are four seconds, less what the kernel lets through at once.
      let slow = try await api.finish(
        "start=$(date +%s); dd if=/dev/zero of=f bs=256k count=8 oflag=direct 2>/dev/null; echo $(($(date +%s)-start))",
        fields: ["limits": ["io_bps": 512 << 10]])
      #expect((Int(slow.stdout.dropLast()) ?? 0) >= 3, "\(slow)")
      // At a page a second these would be 17 minutes in a sleep that no signal ends.
      let stuck = try await api.sh(
        "echo up; dd if=/dev/zero of=f bs=4M count=1 oflag=direct", fields: ["limits": ["io_bps": 4096]])
      try await eventually("it writes") { try await api.text(stuck.id) == Data("up\n".utf8) }
      _ = try await api.call("POST", "/v1/jobs/\(stuck.id)/stop", body: #"{"grace":"1s"}"#)
      #expect(try await api.ended(stuck.id).status == "STOPPED")
      let late = try await api.sh(
        "dd if=/dev/zero of=f bs=4M count=1 oflag=direct", fields: ["limits": ["io_bps": 4096], "timeout": "2s"])
      let ended = try await api.ended(late.id)
      #expect(ended.status == "FAILED" && ended.reason == "timeout", "\(ended)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `a paused job stands still until it is resumed`() async throws {
      let api = try API()
      let job = try await api.sh("echo up; exec sleep 47111")
      let group = try await group("47111")
      #expect(try await status(api, job.id, "pause") == (200, "PAUSED"))
      #expect(try await Shell.must("cat \(group)/cgroup.events").contains("frozen 1"))
      #expect(try await status(api, job.id, "pause") == (200, "PAUSED"))
      #expect(try await api.job(job.id).status == "PAUSED")
      #expect(try await Shell.must("rnx job list").contains("PAUSED"))
      #expect(try await api.text(job.id) == Data("up\n".utf8), "what it said before is readable")
      try await Shell.must("rnx job resume \(job.id)")
      #expect(try await api.job(job.id).status == "RUNNING")
      #expect(try await Shell.must("cat \(group)/cgroup.events").contains("frozen 0"))
      // A stop of a paused job is a stop: it ends by SIGTERM, long before its grace is over.
      try await Shell.must("rnx job pause \(job.id)")
      #expect(try await Shell.must("cat \(group)/cgroup.events").contains("frozen 1"))
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"1h"}"#)
      let ended = try await api.ended(job.id)
      #expect(ended.status == "STOPPED" && ended.signal == 15, "\(ended)")
      for verb in ["pause", "resume"] { #expect(try await status(api, job.id, verb).0 == 409) }
      #expect(try await status(api, "01900000-0000-7000-8000-000000000001", "pause").0 == 404)
      #expect(try await API(role: "reader").call("POST", "/v1/jobs/\(job.id)/pause").status == 403)
      let audit = try await Shell.must(
        "journalctl --no-pager -o cat -u joblet-exec.service | grep -c 'operation=pause'")
      #expect((Int(audit) ?? 0) >= 3)
    }

    @Test(.timeLimit(.minutes(20)))
    func `a paused job's time-out goes on, and a restarted worker still knows that it is paused`() async throws {
      let api = try API()
      let job = try await api.sh("exec sleep 47112", fields: ["timeout": "1h"])
      let group = try await group("47112")
      #expect(try await status(api, job.id, "pause").0 == 200)
      try await Shell.must("systemctl restart joblet-exec.service", within: .seconds(300))
      try await Systemd.waitUntilReady()
      #expect(try await api.job(job.id).status == "PAUSED")
      #expect(try await Shell.must("cat \(group)/cgroup.events").contains("frozen 1"))
      #expect(try await status(api, job.id, "resume") == (200, "RUNNING"))
      #expect(try await status(api, job.id, "pause").0 == 200)
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"0s"}"#)
      #expect(try await api.ended(job.id).status == "STOPPED")

      let short = try await api.sh("exec sleep 47113", fields: ["timeout": "5s"])
      _ = try await self.group("47113")
      let (code, text) = try await status(api, short.id, "pause")
      #expect(code == 200 || text.contains("ended"), "\(text)")
      let ended = try await api.ended(short.id)
      #expect(ended.status == "FAILED" && ended.reason == "timeout", "\(ended)")
    }

    /// The command is through, only its last lines wait for persist.
    @Test(.timeLimit(.minutes(20)))
    func `a stop that comes after a command's own end does not make it stopped`() async throws {
      let api = try API()
      var stopped: Job?
      try await Systemd.disturbing {
        // Masked first: between a stop and the mask the next connection would start it again, and a unit that is masked while it
        // starts is never told ready.
        try await Shell.must("systemctl mask --runtime joblet-persist.service && systemctl stop joblet-persist.service")
        // A little more than the ring holds, and less than the pipe takes on top.
        let job = try await api.sh("sleep 9.47114; head -c 1080000 /dev/zero | tr '\\0' 'x' | fold -w 999; exit 0")
        let group = try await group("9.47114")
        try await eventually("its command is through") {
          try await Shell.must("cat \(group)/cgroup.events").contains("populated 0")
        }
        let reply = try await api.call("POST", "/v1/jobs/\(job.id)/stop", body: #"{"grace":"1h"}"#)
        #expect(reply.status == 202 || reply.status == 409, "\(reply)")
        stopped = job
      }
      let ended = try await api.ended(try #require(stopped).id)
      #expect(ended.status == "COMPLETED" && ended.exitCode == 0, "\(ended)")
    }

    @Test(.timeLimit(.minutes(10)))
    func `all jobs together leave the host a reserve`() async throws {
      let total = Int(try await Shell.must("awk '/MemTotal/ {print $2}' /proc/meminfo")) ?? 0
      let memory = Int(try await Shell.must("cat \(Installed.jobsCgroup)/memory.max")) ?? 0
      #expect(memory > 0 && memory < total << 10)
      let before = try await Shell.must("cat \(Installed.jobsCgroup)/pids.max")
      #expect(Int(before) != nil)
      try await Shell.must("systemctl daemon-reload")
      #expect(try await Shell.must("cat \(Installed.jobsCgroup)/memory.max") == "\(memory)", "systemd leaves it")
    }
  }
}
