/// A job's resource limits. Absent means the node's default; the node's own bounds hold in any case.
///
/// In a record they are the limits as applied, the node's defaults filled in: what is absent there is not limited.
/// The files in brackets are cgroup v2's (Documentation/admin-guide/cgroup-v2.rst).
public struct Limits: Codable, Hashable, Sendable {
  /// CPU time per wall time in percent of one core: 50 is half a core, 200 two cores. 1 to 100,000 (`cpu.max`).
  public var cpuPercent: Int?
  /// The job's share of the CPU where jobs compete for it, beside a job of weight 100. 1 to 10,000 (`cpu.weight`).
  public var cpuWeight: Int?
  /// The CPUs it may run on, ``CPUList``'s form: `0-3,6` (`cpuset.cpus`).
  public var cpuCores: String?
  /// Memory in MiB, swap not allowed on top. 1 to 16,777,216 (`memory.max`).
  public var memoryMB: Int?
  /// Memory in MiB above which the job is slowed down and its memory reclaimed, before ``memoryMB`` kills it; at most
  /// that. 1 to 16,777,216 (`memory.high`).
  public var memoryHighMB: Int?
  /// Bytes a second from, and as many to, the disk that `/work` is on. 4096 to 2^50 (`io.max`, rbps and wbps).
  public var ioBps: Int64?
  /// Processes and threads together. 1 to 4,194,304 (`pids.max`).
  public var pids: Int?

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case cpuPercent = "cpu_percent"
    case cpuWeight = "cpu_weight"
    case cpuCores = "cpu_cores"
    case memoryMB = "memory_mb"
    case memoryHighMB = "memory_high_mb"
    case ioBps = "io_bps"
    case pids
  }

  public init(
    cpuPercent: Int? = nil, cpuWeight: Int? = nil, cpuCores: String? = nil, memoryMB: Int? = nil,
    memoryHighMB: Int? = nil, ioBps: Int64? = nil, pids: Int? = nil
  ) {
    self.cpuPercent = cpuPercent
    self.cpuWeight = cpuWeight
    self.cpuCores = cpuCores
    self.memoryMB = memoryMB
    self.memoryHighMB = memoryHighMB
    self.ioBps = ioBps
    self.pids = pids
  }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseUnknownFields(CodingKeys.self)
    let container = try decoder.container(keyedBy: CodingKeys.self)
    cpuPercent = try container.decodeIfPresent(Int.self, forKey: .cpuPercent)
    cpuWeight = try container.decodeIfPresent(Int.self, forKey: .cpuWeight)
    cpuCores = try container.decodeIfPresent(String.self, forKey: .cpuCores)
    memoryMB = try container.decodeIfPresent(Int.self, forKey: .memoryMB)
    memoryHighMB = try container.decodeIfPresent(Int.self, forKey: .memoryHighMB)
    ioBps = try container.decodeIfPresent(Int64.self, forKey: .ioBps)
    pids = try container.decodeIfPresent(Int.self, forKey: .pids)
  }

  public static let cpuPercentRange = 1...100_000
  public static let cpuWeightRange = 1...10_000
  public static let memoryMBRange = 1...16_777_216
  /// Less than a page a second, and what a killed job still waits for would keep its processes from ending.
  public static let ioBpsRange: ClosedRange<Int64> = 4096...1 << 50
  public static let pidsRange = 1...4_194_304

  /// Checks every limit's range, and those that bound each other.
  /// - Throws: ``ValidationError`` for the first one that is wrong, with what is allowed.
  public func validate() throws(ValidationError) {
    try Limits.check("limits.cpu_percent", cpuPercent, Limits.cpuPercentRange)
    try Limits.check("limits.cpu_weight", cpuWeight, Limits.cpuWeightRange)
    if let cpuCores {
      do { _ = try CPUList(cpuCores) } catch {
        throw ValidationError(field: "limits.cpu_cores", message: "\(error); allowed is \(CPUList.allowed)")
      }
    }
    try Limits.check("limits.memory_mb", memoryMB, Limits.memoryMBRange)
    try Limits.check("limits.memory_high_mb", memoryHighMB, Limits.memoryMBRange)
    try checkMemoryOrder()
    try Limits.check("limits.io_bps", ioBps, Limits.ioBpsRange)
    try Limits.check("limits.pids", pids, Limits.pidsRange)
  }

  /// Above `memory.max` a `memory.high` would never act: a limit that does nothing is refused.
  public func checkMemoryOrder() throws(ValidationError) {
    guard let memoryHighMB, let memoryMB, memoryHighMB > memoryMB else { return }
    throw ValidationError(
      field: "limits.memory_high_mb", message: "\(memoryHighMB) is over limits.memory_mb, which is \(memoryMB)")
  }

  private static func check<Number: FixedWidthInteger & Sendable>(
    _ field: String, _ value: Number?, _ range: ClosedRange<Number>
  ) throws(ValidationError) {
    guard let value, !range.contains(value) else { return }
    throw ValidationError(
      field: field, message: "\(value) is out of range; allowed is \(range.lowerBound) to \(range.upperBound)")
  }
}
