import Glibc
import LinuxKernel

/// What a job may use at most. Nil is no limit.
public struct CgroupLimits: Hashable, Sendable {
  /// CPU time per wall time in percent of one core: 50 is half a core, 200 two cores.
  public var cpuPercent: Int?
  /// Bytes of memory; swap is forbidden on top of it.
  public var memoryBytes: Int64?
  /// Processes and threads together.
  public var pids: Int?

  public init(cpuPercent: Int? = nil, memoryBytes: Int64? = nil, pids: Int? = nil) {
    self.cpuPercent = cpuPercent
    self.memoryBytes = memoryBytes
    self.pids = pids
  }
}

/// How a limit in percent of a core is written to `cpu.max`.
package enum CPUQuota {
  /// Microseconds the quota counts over. The kernel's default; shorter means smoother and dearer.
  static let period = 100_000

  /// `50000 100000` is half a core. The kernel takes no quota below 1 ms, so 1 percent is the least.
  package static func text(percent: Int) -> String { "\(max(1000, percent * period / 100)) \(period)" }
}

/// `cpu.max`.
enum CPUController {
  static func apply(percent: Int, to group: CgroupDirectory) throws(Errno) {
    try group.write(CPUQuota.text(percent: percent), to: "cpu.max")
  }
}

/// `memory.max`, `memory.swap.max`, `memory.oom.group`.
enum MemoryController {
  static func apply(bytes: Int64, to group: CgroupDirectory) throws(Errno) {
    // Swap first: with the memory limit alone there would be an instant in which the job may swap instead.
    do {
      try group.write("0", to: "memory.swap.max")
    } catch let error where error.code == ENOENT {}  // a kernel without swap support has no such file, and no swap
    try group.write("\(bytes)", to: "memory.max")
    // All or nothing: a job with one process shot away is in a state nobody wrote code for.
    try group.write("1", to: "memory.oom.group")
  }
}

/// `pids.max`.
enum PidsController {
  static func apply(maximum: Int, to group: CgroupDirectory) throws(Errno) {
    try group.write("\(maximum)", to: "pids.max")
  }
}
