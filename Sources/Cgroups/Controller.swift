import LinuxKernel

/// The cgroup v2 controllers a job's limits and figures need.
public enum Controller: String, Sendable, CaseIterable, Hashable {
  case cpu, cpuset, io, memory, pids
}

/// Why a cgroup could not be made as asked.
public enum CgroupError: Error, Sendable, Equatable {
  /// A limit was asked for whose controller this root does not have.
  case missingController(Controller, limit: String, available: [Controller])
  /// Some of the CPUs asked for are not online, or not this node's to give.
  case cpusNotGiven(asked: String, given: String)
  /// The root is not a cgroup v2 directory.
  case notCgroup2(path: String)
  case kernel(Errno)
}

extension CgroupError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .missingController(let controller, let limit, let available):
      let list = available.isEmpty ? "none" : available.map(\.rawValue).joined(separator: ", ")
      return
        "\(limit) needs the cgroup v2 controller '\(controller.rawValue)', which this node does not offer (it has: \(list)); ask for no such limit, or enable the controller"
    case .cpusNotGiven(let asked, let given):
      return
        "limits.cpu_cores: of the CPUs \(asked) the kernel gives only \(given); a CPU went offline, or was taken away"
    case .notCgroup2(let path):
      return "\(path) is not a cgroup v2 directory (it has no cgroup.controllers); mount cgroup2 or name another root"
    case .kernel(let error): return error.description
    }
  }
}
