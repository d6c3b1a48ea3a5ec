/// What a host is.
public struct HostDescription: Codable, Hashable, Sendable {
  public var hostname: String?
  /// `PRETTY_NAME` of os-release(5).
  public var os: String?
  /// `uname -r`.
  public var kernel: String?
  /// `uname -m`.
  public var architecture: String?
  public var bootedAt: Timestamp?

  public init() {}

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case hostname, os, kernel, architecture
    case bootedAt = "booted_at"
  }
}

/// The host's CPUs and what they did (proc_stat(5)). Times count from the boot, over all CPUs.
public struct ProcessorFigures: Codable, Hashable, Sendable {
  /// CPUs that are online.
  public var count: Int?
  public var model: String?
  /// What was used since the look before, in percent of one core: 150 of two CPUs are three quarters.
  public var usedPercent: Double?
  /// User, nice, system and interrupts.
  public var busyUsec: Int64?
  public var idleUsec: Int64?
  /// Idle with a request to a disk on its way.
  public var iowaitUsec: Int64?
  /// Taken by the hypervisor for others.
  public var stealUsec: Int64?

  public init() {}

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case count, model
    case usedPercent = "used_percent"
    case busyUsec = "busy_usec"
    case idleUsec = "idle_usec"
    case iowaitUsec = "iowait_usec"
    case stealUsec = "steal_usec"
  }
}

/// The host's memory (proc_meminfo(5)), in bytes.
public struct MemoryFigures: Codable, Hashable, Sendable {
  public var totalBytes: Int64?
  /// What new programs could get without swapping, an estimate of the kernel's.
  public var availableBytes: Int64?
  public var freeBytes: Int64?
  /// The page cache.
  public var cachedBytes: Int64?
  public var swapTotalBytes: Int64?
  public var swapFreeBytes: Int64?

  public init() {}

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case totalBytes = "total_bytes"
    case availableBytes = "available_bytes"
    case freeBytes = "free_bytes"
    case cachedBytes = "cached_bytes"
    case swapTotalBytes = "swap_total_bytes"
    case swapFreeBytes = "swap_free_bytes"
  }
}

/// Processes that ran or waited for a disk, averaged (proc_loadavg(5)).
public struct LoadFigures: Codable, Hashable, Sendable {
  public var oneMinute: Double
  public var fiveMinutes: Double
  public var fifteenMinutes: Double

  public init(oneMinute: Double, fiveMinutes: Double, fifteenMinutes: Double) {
    self.oneMinute = oneMinute
    self.fiveMinutes = fiveMinutes
    self.fifteenMinutes = fifteenMinutes
  }

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case oneMinute = "one_minute"
    case fiveMinutes = "five_minutes"
    case fifteenMinutes = "fifteen_minutes"
  }
}

/// How long tasks waited for a resource (Documentation/accounting/psi.rst): percent of the last 10 and 60 seconds in which
/// some task did, or all of them at once, and microseconds since the boot.
public struct PressureFigures: Codable, Hashable, Sendable {
  public var someAvg10: Double?
  public var someAvg60: Double?
  public var someTotalUsec: Int64?
  public var fullAvg10: Double?
  public var fullAvg60: Double?
  public var fullTotalUsec: Int64?

  public init() {}

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case someAvg10 = "some_avg10"
    case someAvg60 = "some_avg60"
    case someTotalUsec = "some_total_usec"
    case fullAvg10 = "full_avg10"
    case fullAvg60 = "full_avg60"
    case fullTotalUsec = "full_total_usec"
  }
}

/// The host's pressure by resource; absent where the kernel does not account it.
public struct PressureReport: Codable, Hashable, Sendable {
  public var cpu: PressureFigures?
  public var memory: PressureFigures?
  public var io: PressureFigures?

  public init(cpu: PressureFigures? = nil, memory: PressureFigures? = nil, io: PressureFigures? = nil) {
    self.cpu = cpu
    self.memory = memory
    self.io = io
  }

  public enum CodingKeys: String, CodingKey, CaseIterable { case cpu, memory, io }
}

/// A file system that Joblet keeps something on.
public struct DiskFigures: Codable, Hashable, Sendable {
  /// A directory on it.
  public var path: String
  /// What is kept there: `workspaces`, `logs`, `metrics`, `volumes`, `state`.
  public var holds: [String]
  /// The whole disk it is on, as the kernel numbers it: `8:0`; absent where it has none of its own.
  public var device: String?
  public var totalBytes: Int64?
  /// What its users can still write.
  public var availableBytes: Int64?
  public var inodes: Int64?
  public var inodesAvailable: Int64?
  /// What the disk did since the boot.
  public var readBytes: Int64?
  public var writeBytes: Int64?
  public var readOps: Int64?
  public var writeOps: Int64?
  /// Time in which it had something to do.
  public var busyUsec: Int64?

  public init(path: String, holds: [String]) {
    self.path = path
    self.holds = holds
  }

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case path, holds, device, inodes
    case totalBytes = "total_bytes"
    case availableBytes = "available_bytes"
    case inodesAvailable = "inodes_available"
    case readBytes = "read_bytes"
    case writeBytes = "write_bytes"
    case readOps = "read_ops"
    case writeOps = "write_ops"
    case busyUsec = "busy_usec"
  }
}

/// What a network interface did since it came up (proc_pid_net(5), `dev`).
public struct InterfaceFigures: Codable, Hashable, Sendable {
  public var name: String
  public var rxBytes: Int64
  public var txBytes: Int64
  public var rxPackets: Int64
  public var txPackets: Int64
  public var rxErrors: Int64
  public var txErrors: Int64
  public var rxDropped: Int64
  public var txDropped: Int64

  /// - Parameter numbers: the sixteen of a line of `/proc/net/dev`; nil if there are fewer.
  public init?(name: String, numbers: [Int64]) {
    guard numbers.count >= 16 else { return nil }
    self.name = name
    (rxBytes, rxPackets, rxErrors, rxDropped) = (numbers[0], numbers[1], numbers[2], numbers[3])
    (txBytes, txPackets, txErrors, txDropped) = (numbers[8], numbers[9], numbers[10], numbers[11])
  }

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case name
    case rxBytes = "rx_bytes"
    case txBytes = "tx_bytes"
    case rxPackets = "rx_packets"
    case txPackets = "tx_packets"
    case rxErrors = "rx_errors"
    case txErrors = "tx_errors"
    case rxDropped = "rx_dropped"
    case txDropped = "tx_dropped"
  }
}
