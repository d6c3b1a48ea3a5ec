import Glibc
import LinuxKernel

/// What a job may use at most. Nil is no limit. The files are described in Documentation/admin-guide/cgroup-v2.rst.
public struct CgroupLimits: Hashable, Sendable {
  /// CPU time per wall time in percent of one core: 50 is half a core, 200 two cores (`cpu.max`).
  public var cpuPercent: Int?
  /// The job's share beside other jobs, 1 to 10,000; without it 100 (`cpu.weight`).
  public var cpuWeight: Int?
  /// The CPUs it may run on, in the kernel's list form (`cpuset.cpus`).
  public var cpus: String?
  /// Bytes of memory; swap is forbidden on top of it (`memory.max`).
  public var memoryBytes: Int64?
  /// Bytes of memory from which on the job is throttled and reclaimed (`memory.high`).
  public var memoryHighBytes: Int64?
  /// Bytes a second, and of which disk (`io.max`).
  public var io: IOLimit?
  /// Processes and threads together (`pids.max`).
  public var pids: Int?

  public init(
    cpuPercent: Int? = nil, cpuWeight: Int? = nil, cpus: String? = nil, memoryBytes: Int64? = nil,
    memoryHighBytes: Int64? = nil, io: IOLimit? = nil, pids: Int? = nil
  ) {
    self.cpuPercent = cpuPercent
    self.cpuWeight = cpuWeight
    self.cpus = cpus
    self.memoryBytes = memoryBytes
    self.memoryHighBytes = memoryHighBytes
    self.io = io
    self.pids = pids
  }

  /// Each limit that is set, with the controller it needs and its name in a request.
  public var needs: [(controller: Controller, field: String)] {
    let all: [(Bool, Controller, String)] = [
      (cpuPercent != nil, .cpu, "limits.cpu_percent"), (cpuWeight != nil, .cpu, "limits.cpu_weight"),
      (cpus != nil, .cpuset, "limits.cpu_cores"), (memoryBytes != nil, .memory, "limits.memory_mb"),
      (memoryHighBytes != nil, .memory, "limits.memory_high_mb"), (io != nil, .io, "limits.io_bps"),
      (pids != nil, .pids, "limits.pids"),
    ]
    return all.filter(\.0).map { ($0.1, $0.2) }
  }
}

/// So many bytes a second may be read from a disk, and as many written to it.
public struct IOLimit: Hashable, Sendable {
  public var device: BlockDevice
  public var bytesPerSecond: Int64

  public init(device: BlockDevice, bytesPerSecond: Int64) {
    self.device = device
    self.bytesPerSecond = bytesPerSecond
  }
}

/// How a limit in percent of a core is written to `cpu.max`.
package enum CPUQuota {
  /// Microseconds the quota counts over. The kernel's default; shorter means smoother and dearer.
  static let period = 100_000

  /// `50000 100000` is half a core. The kernel takes no quota below 1 ms, so 1 percent is the least.
  package static func text(percent: Int) -> String { "\(max(1000, percent * period / 100)) \(period)" }
}

extension JobCgroup {
  /// Sets what every job's payload has, whatever its limits: before anything is in it.
  func prepare(root: CgroupRoot) throws(Errno) {
    guard root.controllers.contains(.memory) else { return }
    do {
      // Before any memory limit: with that alone there would be an instant in which the job may swap instead.
      try payLeaf.write("0", to: "memory.swap.max")
    } catch let error where error.code == ENOENT {}  // a kernel without swap support has no such file, and no swap
    // All or nothing: a job with one process shot away is in a state nobody wrote code for.
    try payLeaf.write("1", to: "memory.oom.group")
  }

  /// Sets the limits, before the payload's program runs: it must not have an instant without them.
  /// - Throws: ``CgroupError/missingController(_:limit:available:)`` for a limit this node can't hold,
  ///   ``CgroupError/cpusNotGiven(asked:given:)`` where not all of the CPUs are there; then some limits may be set already.
  public func apply(_ limits: CgroupLimits, root: CgroupRoot) throws(CgroupError) {
    for need in limits.needs where !root.controllers.contains(need.controller) {
      throw .missingController(
        need.controller, limit: need.field, available: root.controllers.sorted { $0.rawValue < $1.rawValue })
    }
    do {
      let pay = payLeaf
      if let percent = limits.cpuPercent { try pay.write(CPUQuota.text(percent: percent), to: "cpu.max") }
      // On the job's own directory: weights count among siblings, which there are the other jobs. Set on `pay/` it would
      // only weigh the payload against joblet-init.
      if let weight = limits.cpuWeight { try directory.write("\(weight)", to: "cpu.weight") }
      if let bytes = limits.memoryHighBytes { try pay.write("\(bytes)", to: "memory.high") }
      if let bytes = limits.memoryBytes { try pay.write("\(bytes)", to: "memory.max") }
      if let io = limits.io {
        try pay.write("\(io.device) rbps=\(io.bytesPerSecond) wbps=\(io.bytesPerSecond)", to: "io.max")
      }
      if let pids = limits.pids { try pay.write("\(pids)", to: "pids.max") }
    } catch { throw .kernel(error) }
    if let cpus = limits.cpus { try pin(to: cpus) }
  }

  /// cgroup v2 takes any list, and gives what it can of it, or silently all of the parent's CPUs where that would be none
  /// (cgroup-v2.rst, "cpuset.cpus"): so what it gave is compared.
  private func pin(to cpus: String) throws(CgroupError) {
    let given: String
    do {
      try payLeaf.write(cpus, to: "cpuset.cpus")
      given = try payLeaf.read("cpuset.cpus.effective")
    } catch { throw .kernel(error) }
    guard given == cpus else { throw .cpusNotGiven(asked: cpus, given: given) }
  }

  /// Takes the limit on I/O away, so that processes which are being killed end: one that waits for a throttled disk is in an
  /// uninterruptible sleep until its last request was dispatched, which at a few KiB a second is as long as a job likes
  /// (block/blk-throttle.c, tg_conf_updated, dispatches what waits).
  func liftIO() throws(Errno) {
    let text: String
    do { text = try payLeaf.read("io.max") } catch {
      // No such controller, or the cgroup is gone.
      guard [ENOENT, ENODEV].contains(error.code) else { throw error }
      return
    }
    for line in text.split(separator: "\n") {
      guard let device = line.split(separator: " ").first else { continue }
      try payLeaf.write("\(device) rbps=max wbps=max", to: "io.max")
    }
  }
}
