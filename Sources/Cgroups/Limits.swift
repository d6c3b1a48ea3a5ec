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

/// `cpu.max`, `cpu.stat`.
enum CPUController {
  static func apply(percent: Int, to group: CgroupDirectory) throws(Errno) {
    try group.write(CPUQuota.text(percent: percent), to: "cpu.max")
  }

  /// CPU time used so far in microseconds.
  static func usage(_ group: CgroupDirectory) throws(Errno) -> Int64? {
    FlatKeyed(try group.read("cpu.stat"))["usage_usec"]
  }
}

/// `memory.max`, `memory.swap.max`, `memory.oom.group`, `memory.events`, `memory.peak`.
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

  /// How many processes the kernel killed for the limit.
  static func oomKills(_ group: CgroupDirectory) throws(Errno) -> Int64 {
    FlatKeyed(try group.read("memory.events"))["oom_kill"] ?? 0
  }

  static func peak(_ group: CgroupDirectory) throws(Errno) -> Int64? { Int64(try group.read("memory.peak")) }
}

/// `pids.max`.
enum PidsController {
  static func apply(maximum: Int, to group: CgroupDirectory) throws(Errno) {
    try group.write("\(maximum)", to: "pids.max")
  }
}

/// `io.stat`.
enum IOController {
  /// Bytes read and written over all devices: lines of `8:0 rbytes=1 wbytes=2 rios=3 …`.
  static func bytes(_ text: String) -> (read: Int64, written: Int64) {
    var sum: (read: Int64, written: Int64) = (0, 0)
    for field in text.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      let parts = field.split(separator: "=")
      guard parts.count == 2, let value = Int64(parts[1]) else { continue }
      if parts[0] == "rbytes" { sum.read &+= value }
      if parts[0] == "wbytes" { sum.written &+= value }
    }
    return sum
  }
}
