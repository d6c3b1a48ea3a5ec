import Glibc
import LinuxKernel

/// What all jobs of the node get together at most, whatever each of them may have: jobs without a limit of their own then run
/// out of memory, or of process numbers, among themselves, and the host's services go on.
package struct JobsBounds: Hashable, Sendable {
  /// Bytes (`memory.max` of the jobs' scope).
  package var memory: Int64
  /// Processes and threads (`pids.max`).
  package var processes: Int64

  package init(memory: Int64, processes: Int64) {
    self.memory = memory
    self.processes = processes
  }

  /// The host's totals less a reserve.
  ///
  /// - Parameters:
  ///   - total: the host's memory in bytes. A tenth is kept back, at least 256 MiB and at most 2 GiB, never more than half.
  ///   - pidMax: kernel.pid_max, the numbers there are (proc_sys_kernel(5)).
  ///   - threadsMax: kernel.threads-max, the threads the kernel will make. Half of the smaller one is kept back.
  package init(total: Int64, pidMax: Int64, threadsMax: Int64) {
    let mebibyte: Int64 = 1 << 20
    let reserve = min(max(total / 10, 256 * mebibyte), 2048 * mebibyte, total / 2)
    // Whole mebibytes: the kernel rounds to pages, and what it then says must be what was asked for.
    memory = max(mebibyte, (total - reserve) / mebibyte * mebibyte)
    processes = max(1, min(pidMax, threadsMax) / 2)
  }

  /// Of this host. Blocks for microseconds.
  package static func host() throws(Errno) -> JobsBounds {
    let pages = try Kernel.call("sysconf", "_SC_PHYS_PAGES") { sysconf(CInt(_SC_PHYS_PAGES)) }
    let pageSize = try Kernel.call("sysconf", "_SC_PAGESIZE") { sysconf(CInt(_SC_PAGESIZE)) }
    return JobsBounds(
      total: Int64(pages) * Int64(pageSize), pidMax: try number("/proc/sys/kernel/pid_max"),
      threadsMax: try number("/proc/sys/kernel/threads-max"))
  }

  private static func number(_ path: String) throws(Errno) -> Int64 {
    let text = String(decoding: try FileDescriptor.open(path, O_RDONLY).readAll(limit: 64), as: UTF8.self)
    guard let line = text.split(separator: "\n").first, let value = Int64(line) else {
      throw Errno(EINVAL, "read", "\(path): no number")
    }
    return value
  }

  /// As properties of a unit (systemd.resource-control(5)).
  var properties: [String] { ["MemoryMax=\(memory)", "TasksMax=\(processes)"] }
}
