import CEscape
import Glibc

/// Offers what a neighbour could reach if it were in the same namespaces: an abstract socket, a TCP port of the loopback, a
/// message queue, System V memory, a signal handler that must never run. Lives until it is stopped.
func beVictim() {
  let abstract = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
  report(
    "abstract socket",
    withSocketAddress("@joblet-victim") { address, length in attempt { bind(abstract, address, length) } })
  listen(abstract, 8)
  report("TCP port", listenOnLoopback(7777))
  report("System V memory", attempt { shmget(0x4A4F42, 4096, 0o1666) })
  report("System V messages", attempt { msgget(0x4A4F42, 0o1666) })
  let file = open("/work/canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
  write(file, "mine\n", 5)
  close(file)
  report("ready", "done")
  var pulses = 0
  while true {
    var entry = pollfd(fd: abstract, events: Int16(POLLIN), revents: 0)
    let ready = poll(&entry, 1, 200)
    if ready > 0, accept(abstract, nil, nil) >= 0 { report("somebody connected", "done") }
    if ready == 0 {
      pulses += 1
      report("pulse", "\(pulses)")
    }
  }
}

private func listenOnLoopback(_ port: UInt16) -> String {
  let number = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
  return withLoopback(port) { address, length in
    let result = attempt { bind(number, address, length) }
    return result == "done" ? attempt { listen(number, 8) } : result
  }
}

private func withLoopback(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> String) -> String {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  return withUnsafePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
  }
}

/// Tries to reach the victim, and what the host itself offers.
/// - Parameters:
///   - victim: the victim's job ID.
///   - pids: the victim's process numbers as the host sees them.
func attackNeighbour(victim: String, pids: [Int32]) {
  report("its abstract socket", connecting("@joblet-victim"))
  report("the host's abstract socket", connecting("@joblet-host"))
  for (name, port) in [("its TCP port", UInt16(7777)), ("the API", 50_051), ("the health port", 9090)] {
    let number = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    report(name, withLoopback(port) { address, length in attempt { connect(number, address, length) } })
    close(number)
  }
  report("its System V memory", attempt { shmget(0x4A4F42, 4096, 0o666) })
  report("its System V messages", attempt { msgget(0x4A4F42, 0o666) })
  for pid in pids {
    report("signal to its host PID", attempt { kill(pid, SIGKILL) })
    report("its /proc", opening("/proc/\(pid)/environ", O_RDONLY))
  }
  let paths = [
    ("its workspace", "/opt/joblet/jobs/\(victim)/work/canary"), ("its ring", "/run/joblet/jobs/\(victim)/ring"),
    ("its logs", "/opt/joblet/logs/\(victim)"), ("its workspace beside /work", "/work/../\(victim)/work/canary"),
    ("its workspace through PID 1", "/proc/1/root/opt/joblet/jobs/\(victim)/work/canary"),
  ]
  for (name, path) in paths { report(name, opening(path, O_RDONLY)) }
  report("signal to everyone", attempt { kill(-1, SIGURG) })
}

/// On the host: an abstract socket that a job must not reach.
func listenAbstract() {
  let number = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
  report("listen", withSocketAddress("@joblet-host") { address, length in attempt { bind(number, address, length) } })
  listen(number, 8)
  while true {
    if accept(number, nil, nil) >= 0 { report("somebody connected", "done") }
  }
}
