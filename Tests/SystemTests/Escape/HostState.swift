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
        [ ! -r $f ] || { read -r value <$f; echo "$f=$value"; }; done
      stat -c '%n=%A %u:%g %s %i %Z' / /etc /etc/passwd /etc/shadow /etc/hosts /root /usr /usr/bin /usr/bin/env \\
        /opt/joblet/bin/* \(EscapeHost.folder)/* \(EscapeHost.secret)
      stat -c '%n=%A %u:%g %t:%T' /dev/null /dev/zero /dev/kmsg
      echo "mounts=$(grep -vc ' /run/credentials' /proc/mounts)"
      echo "devices=$(echo /dev/*)"
      systemctl show -p MainPID --value \(Installed.services.joined(separator: " ")) | sed '/^$/d; s/^/daemons=/' | tr '\\n' ' '
      """)
    var facts: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "=", maxSplits: 1)
      if parts.count == 2 { facts[String(parts[0])] = String(parts[1]) }
    }
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
  /// Its cgroup on the host.
  let cgroup: String

  struct State {
    /// Processes with their start times, files and limits, as the host sees them.
    var outside: String
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
    cgroup = try await JobCgroup.payload(of: job.id)
  }

  /// Its processes as the host numbers them.
  func pids() async throws -> [String] {
    try await Shell.must("cat \(cgroup)/cgroup.procs").split(separator: "\n").map(String.init)
  }

  func look() async throws -> State { State(outside: try await outside(), pulses: pulses(try await output())) }

  private func outside() async throws -> String {
    try await Shell.must(
      """
      set -e
      cd \(cgroup); cat memory.max pids.max cpu.max cgroup.freeze memory.swap.max
      for p in $(cat cgroup.procs); do awk '{print $1, $22}' /proc/$p/stat; done
      cd \(Installed.jobs)/\(job.id)/work; find . -type f | sort; cat canary
      """)
  }

  private func output() async throws -> String { String(decoding: try await api.text(job.id), as: UTF8.self) }

  private func pulses(_ output: String) -> Int { output.split(separator: "\n").count { $0.hasPrefix("pulse") } }

  func isUnharmed(since before: State) async throws {
    #expect(try await outside() == before.outside, "the neighbour's processes, files or limits changed")
    try await eventually("the neighbour's pulse") {
      let output = try await output()
      #expect(!output.contains("somebody connected"), "somebody reached the neighbour")
      return pulses(output) > before.pulses
    }
  }

  func stop() async throws {
    _ = try await api.call("POST", "/v1/jobs/\(job.id)/stop")
    _ = try await api.ended(job.id)
  }
}
