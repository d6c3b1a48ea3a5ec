import Foundation
import Testing

/// What no job may change of the host, read from outside.
struct HostState {
  var facts: [String: String]
  /// The wall clock minus the time since boot, in seconds: setting the clock moves it.
  var clockOffset: Double

  static func look() async throws -> HostState {
    let text = try await Shell.must(
      """
      cd /proc/sys
      for f in kernel/hostname kernel/domainname kernel/core_pattern kernel/modprobe kernel/sysrq kernel/panic \\
        vm/overcommit_memory fs/suid_dumpable net/ipv4/ip_forward user/max_user_namespaces; do
        [ ! -r $f ] || echo "$f=$(cat $f)"; done
      stat -c '%n=%A %u:%g %s %i %Z' / /etc /etc/passwd /etc/shadow /etc/hosts /root /usr /usr/bin /usr/bin/env \\
        /opt/joblet/bin/* \(EscapeHost.folder)/* \(EscapeHost.secret)
      stat -c '%n=%A %u:%g %t:%T' /dev/null /dev/zero /dev/kmsg
      echo "mounts=$(grep -vcE ' /run/credentials' /proc/mounts)"
      echo "devices=$(ls /dev | sort | tr '\\n' ' ')"
      """)
    var facts: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { facts[String(parts[0])] = String(parts[1]) }
    }
    for service in Installed.services { facts[service] = "\(try await Systemd.mainPID(service))" }
    return HostState(facts: facts, clockOffset: seconds(CLOCK_REALTIME) - seconds(CLOCK_BOOTTIME))
  }

  private static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}

/// A job of somebody else's: it prints a pulse five times a second, has a file in its workspace, and offers what it can to
/// whoever shares a namespace with it.
struct Neighbour {
  let api: API
  let job: Job

  struct State {
    var pids: [String]
    var files: String
    var limits: String
    var pulses: Int
  }

  init(_ api: API) async throws {
    self.api = api
    let job = try await api.run(
      EscapeHost.payload, ["victim"],
      fields: [
        "limits": ["memory_mb": 256, "pids": 32, "cpu_percent": 90], "secret_env": ["TOKEN": "neighbours-secret"],
      ])
    self.job = job
    try await eventually("the neighbour is up") {
      String(decoding: try await api.text(job.id), as: UTF8.self).contains("ready\t")
    }
  }

  /// Its processes as the host numbers them.
  func pids() async throws -> [String] {
    try await Shell.must("cat \(try await JobCgroup.payload(of: job.id))/cgroup.procs").split(separator: "\n").map(
      String.init)
  }

  func look() async throws -> State {
    let group = try await JobCgroup.payload(of: job.id)
    let pids = try await pids()
    return State(
      pids: try await Shell.must(
        "for p in \(pids.joined(separator: " ")); do awk '{print $1, $22}' /proc/$p/stat; done"
      )
      .split(separator: "\n").map(String.init),
      files: try await Shell.must("cd \(Installed.jobs)/\(job.id)/work && find . -type f | sort && cat canary"),
      limits: try await Shell.must("cd \(group) && cat memory.max pids.max cpu.max cgroup.freeze memory.swap.max"),
      pulses: try await lines().count { $0.hasPrefix("pulse") })
  }

  private func lines() async throws -> [Substring] {
    String(decoding: try await api.text(job.id), as: UTF8.self).split(separator: "\n")
  }

  func isUnharmed(since before: State) async throws {
    let after = try await look()
    #expect(after.pids == before.pids, "the neighbour's processes changed")
    #expect(after.files == before.files, "the neighbour's files changed")
    #expect(after.limits == before.limits, "the neighbour's limits changed")
    #expect(try await api.job(job.id).status == "RUNNING")
    #expect(try await !lines().contains { $0.hasPrefix("somebody connected") }, "somebody reached the neighbour")
    try await eventually("the neighbour's pulse") { try await lines().count { $0.hasPrefix("pulse") } > before.pulses }
  }

  func stop() async throws {
    _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
    _ = try await api.ended(job.id)
  }
}
