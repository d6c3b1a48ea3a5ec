import Foundation
import Testing

extension SystemTests {
  /// What a job can see and do, asked from inside it; its limits, read from outside.
  @Suite struct Isolation {
    /// Runs a script that prints `key=value` lines.
    private func facts(_ script: String, fields: [String: Any] = [:]) async throws -> [String: String] {
      let result = try await API().finish(script, fields: fields)
      #expect(result.job.exitCode == 0, "\(result)")
      var facts: [String: String] = [:]
      for line in result.stdout.split(separator: "\n") {
        let parts = line.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        facts[String(parts[0])] = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
      }
      return facts
    }

    @Test(.timeLimit(.minutes(10)))
    func `no privileges, a range of user IDs of its own, a filter`() async throws {
      let facts = try await facts(
        """
        sed -n 's/^\\([A-Z][A-Za-z_]*\\):[ \\t]*/\\1=/p' /proc/self/status
        echo uid_map=$(cat /proc/self/uid_map)
        echo gid_map=$(cat /proc/self/gid_map)
        echo setgroups=$(cat /proc/self/setgroups)
        """)
      for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        #expect(facts[set] == "0000000000000000", "\(set)")
      }
      #expect(facts["NoNewPrivs"] == "1")
      #expect(facts["Seccomp"] == "2")
      #expect(facts["Uid"]?.split(separator: "\t").first == "65534")
      for map in ["uid_map", "gid_map"] {
        let numbers = (facts[map] ?? "").split(separator: " ").compactMap { Int($0) }
        #expect(numbers.count == 3, "\(map): \(facts[map] ?? "")")
        guard numbers.count == 3 else { continue }
        #expect(numbers[0] == 0 && numbers[2] == 65_536)
        #expect(numbers[1] >= 1_879_048_192)
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `two jobs do not share user IDs`() async throws {
      let api = try API()
      let script = "cat /proc/self/uid_map; trap 'exit 0' TERM; while :; do sleep 0.2; done"
      let jobs = [try await api.sh(script), try await api.sh(script)]
      var maps: Set<String> = []
      for job in jobs {
        maps.insert(
          try await eventually("the map of \(job.id)") {
            let text = String(decoding: try await api.text(job.id), as: UTF8.self)
            return text.isEmpty ? nil : text
          })
      }
      for job in jobs { _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop") }
      for job in jobs { _ = try await api.ended(job.id) }
      #expect(maps.count == 2)
    }

    @Test(.timeLimit(.minutes(10)))
    func `every namespace is the job's own`() async throws {
      let names = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"]
      let facts = try await facts(
        "for n in \(names.joined(separator: " ")); do echo $n=$(readlink /proc/self/ns/$n); done")
      for name in names {
        let host = try await Shell.must("readlink /proc/self/ns/\(name)")
        #expect(facts[name]?.hasPrefix("\(name):[") == true, "\(name): \(facts[name] ?? "nothing")")
        #expect(facts[name] != host, "\(name)")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `processes, network, host name and cgroups of the host are out of sight`() async throws {
      // A kernel with tunnels built in puts their fallback devices, which are down, into every namespace: not counted.
      let facts = try await facts(
        """
        echo processes=$(ls /proc | grep -c '^[0-9]')
        echo highest=$(ls /proc | grep '^[0-9]' | sort -n | tail -1)
        echo interfaces=$(tail -n +3 /proc/net/dev | cut -d: -f1 | grep -vE 'sit0|tunl0|gre|erspan0|vti0|ip6tnl0')
        echo hostname=$(cat /proc/sys/kernel/hostname)
        echo cgroup=$(cat /proc/self/cgroup)
        echo loopback=$(bash -c 'exec 3<>/dev/tcp/127.0.0.1/1' 2>&1 | grep -c refused)
        echo outside=$(bash -c 'exec 3<>/dev/tcp/192.0.2.1/1' 2>&1 | grep -c unreachable)
        """)
      #expect((Int(facts["processes"] ?? "") ?? 99) <= 6)
      #expect((Int(facts["highest"] ?? "") ?? 9999) < 100)
      #expect(facts["interfaces"] == "lo")
      #expect(facts["hostname"] != (try await Shell.must("cat /proc/sys/kernel/hostname")))
      #expect(facts["cgroup"] == "0::/")
      #expect(facts["loopback"] != "0", "nothing answers on 127.0.0.1")
      #expect(facts["outside"] != "0", "there is a way out")
    }

    @Test(.timeLimit(.minutes(10)))
    func `the root is read-only and has only what is allowed; the workspace is writable`() async throws {
      let facts = try await facts(
        """
        can() { if "$@" 2>/dev/null; then echo yes; else echo no; fi; }
        echo pwd=$PWD
        echo work=$(can touch /work/new)
        echo tmp=$(can touch /tmp/new)
        for p in /usr /usr/bin /bin / /etc /proc/sys/kernel; do echo "write $p=$(can touch $p/joblet-new)"; done
        for p in /opt/joblet /root /home /etc/shadow /etc/passwd- /var/log /boot /run/systemd /sys/fs/cgroup/cgroup.procs; do
          echo "see $p=$(can test -e $p)"; done
        echo "hostname=$(can sh -c 'echo x > /proc/sys/kernel/hostname')"
        echo "sysrq=$(can sh -c 'echo h > /proc/sysrq-trigger')"
        echo "kcore=$(can head -c1 /proc/kcore)"
        echo "null=$(can sh -c 'echo x > /dev/null')"
        echo "random=$(head -c 8 /dev/urandom | wc -c)"
        echo "devices=$(ls /dev | tr '\\n' ' ')"
        echo "mknod=$(can mknod /work/disk b 8 0)"
        echo "mount=$(can mount -t tmpfs none /work)"
        echo "unshare=$(can unshare -U true)"
        """)
      #expect(facts["pwd"] == "/work")
      #expect(facts["work"] == "yes")
      #expect(facts["tmp"] == "yes")
      for (key, value) in facts where key.hasPrefix("write ") { #expect(value == "no", "\(key)") }
      for (key, value) in facts where key.hasPrefix("see ") { #expect(value == "no", "\(key)") }
      for key in ["hostname", "sysrq", "mknod", "mount", "unshare"] { #expect(facts[key] == "no", "\(key)") }
      #expect(facts["null"] == "yes")
      #expect(facts["random"] == "8")
      let devices = Set((facts["devices"] ?? "").split(separator: " ").map(String.init))
      #expect(devices.isSuperset(of: ["null", "zero", "full", "random", "urandom"]))
      #expect(devices.isDisjoint(with: ["vda", "ubda", "mem", "kmsg", "console", "disk"]))
    }

    @Test(.timeLimit(.minutes(10)))
    func `a job gets descriptors 0 to 2 and nothing else`() async throws {
      let facts = try await facts(
        "for f in /proc/$$/fd/*; do [ -L $f ] && echo ${f##*/}=$(readlink $f); done; echo end=1")
      #expect(Set(facts.keys) == ["0", "1", "2", "end"], "\(facts)")
      #expect(facts["0"] == "/dev/null")
      #expect(facts["1"]?.hasPrefix("pipe:") == true)
      #expect(facts["2"]?.hasPrefix("pipe:") == true)
    }

    @Test(.timeLimit(.minutes(10)))
    func `the environment is the job's, not the daemon's`() async throws {
      let facts = try await facts("env", fields: ["env": ["MINE": "1"]])
      #expect(facts["MINE"] == "1")
      #expect(facts["PATH"]?.contains("/bin") == true)
      for leaked in [
        "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "INVOCATION_ID", "JOBLET_CONFIG_PATH", "JOURNAL_STREAM",
      ] {
        #expect(facts[leaked] == nil, "\(leaked)")
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `limits stand in the kernel before the job can act`() async throws {
      let api = try API()
      let job = try await api.sh(
        "trap 'exit 0' TERM; echo up; while :; do sleep 0.2; done",
        fields: ["limits": ["cpu_percent": 50, "memory_mb": 64, "pids": 32]])
      try await eventually("the job is up") { try await api.text(job.id) == Data("up\n".utf8) }
      let group = try await JobCgroup.payload(of: job.id)
      let read = { (file: String) in try await Shell.must("cat \(group)/\(file)") }
      #expect(try await read("memory.max") == "\(64 << 20)")
      #expect(try await read("memory.swap.max") == "0")
      #expect(try await read("memory.oom.group") == "1")
      #expect(try await read("pids.max") == "32")
      let quota = try await read("cpu.max").split(separator: " ").compactMap { Double($0) }
      #expect(quota.count == 2 && quota[0] / quota[1] == 0.5)
      #expect(!(try await read("cgroup.procs")).isEmpty)
      _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
      _ = try await api.ended(job.id)
      try await eventually("its cgroup is gone") {
        try await Shell.run("test -e \(group)").status != 0
      }
    }

    @Test(.timeLimit(.minutes(10)))
    func `a fork bomb ends at its limit`() async throws {
      let result = try await API().finish(
        "i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; echo all",
        fields: ["limits": ["pids": 16], "timeout": "60s"])
      #expect(result.job.status == "FAILED")
      #expect(!result.stdout.contains("all"))
      #expect(result.stderr.lowercased().contains("fork"), "\(result)")
    }
  }
}
