import Cgroups
import JobletModel
import LinuxKernel

/// The disk that jobs' workspaces are on: the one `limits.io_bps` speaks of.
package enum WorkDisk: Hashable, Sendable {
  case disk(BlockDevice)
  /// There is none that the kernel could limit, and why.
  case none(String)

  /// Looks for it. Blocks for microseconds.
  package static func behind(_ path: String) -> WorkDisk {
    do { return .disk(try BlockDevice.behind(path)) } catch { return .none("\(error)") }
  }
}

/// Which limits this node can hold, and what it gives to who asks for none.
package struct NodeLimits: Sendable {
  package var cgroups: CgroupRoot
  package var disk: WorkDisk
  /// What a job gets that does not say.
  package var defaults: Limits

  package init(cgroups: CgroupRoot, disk: WorkDisk, defaults: Limits) {
    self.cgroups = cgroups
    self.disk = disk
    self.defaults = defaults
  }

  /// The limits as they will be applied: the defaults filled in, lists in their shortest form.
  ///
  /// A limit that can't be held is refused here, before the job is admitted, and once more when it is applied: a CPU may have
  /// gone meanwhile. It is never left out.
  /// - Throws: `Problem` naming the limit, and what this node has.
  package func effective(_ asked: Limits) throws(Problem) -> Limits {
    var limits = asked
    limits.cpuPercent = asked.cpuPercent ?? defaults.cpuPercent
    limits.memoryMB = asked.memoryMB ?? defaults.memoryMB
    limits.ioBps = asked.ioBps ?? defaults.ioBps
    limits.pids = asked.pids ?? defaults.pids
    let kernel: CgroupLimits
    do { kernel = try cgroupLimits(limits) } catch { throw Problem(.invalidField, "\(error)", field: error.step) }
    for need in kernel.needs where !cgroups.controllers.contains(need.controller) {
      throw Problem(
        .invalidField,
        "\(need.field): this node does not offer the cgroup controller '\(need.controller.rawValue)', so no such limit can be held",
        field: need.field)
    }
    // With the node's own limit in place: above that, the one asked for would never act.
    do { try limits.checkMemoryOrder() } catch { throw Problem(error) }
    if let text = limits.cpuCores { limits.cpuCores = try cores(text).description }
    return limits
  }

  /// The limits in the kernel's units.
  /// - Throws: `SetupProblem` where the workspaces' disk can't be limited; its step is the limit's name.
  package func cgroupLimits(_ limits: Limits) throws(SetupProblem) -> CgroupLimits {
    var io: IOLimit?
    if let bytes = limits.ioBps {
      switch disk {
      case .disk(let device): io = IOLimit(device: device, bytesPerSecond: bytes)
      case .none(let why):
        throw SetupProblem(step: "limits.io_bps", message: "this node can't limit I/O: \(why)")
      }
    }
    return CgroupLimits(
      cpuPercent: limits.cpuPercent, cpuWeight: limits.cpuWeight, cpus: limits.cpuCores,
      memoryBytes: limits.memoryMB.map { Int64($0) << 20 },
      memoryHighBytes: limits.memoryHighMB.map { Int64($0) << 20 },
      io: io, pids: limits.pids)
  }

  /// Every CPU that is asked for must be there: the kernel would give what it has of them and say nothing.
  private func cores(_ text: String) throws(Problem) -> CPUList {
    let field = "limits.cpu_cores"
    let asked: CPUList
    do { asked = try CPUList(text) } catch { throw Problem(.invalidField, "\(field): \(error)", field: field) }
    let given: CPUList
    do {
      given = try CPUList(try cgroups.directory.read("cpuset.cpus.effective"))
    } catch {
      throw Problem(.internalError, "\(field): which CPUs this node has can't be read: \(error)")
    }
    let missing = asked.subtracting(given)
    guard missing.cpus.isEmpty else {
      throw Problem(
        .invalidField,
        "\(field): CPU \(missing) is not online or not for jobs on this node; allowed is any of \(given)", field: field)
    }
    return asked
  }
}
