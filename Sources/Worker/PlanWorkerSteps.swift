import JobletConfig
import JobletModel

extension PlanDocument {
  /// What joblet-exec itself does for a sandbox, before joblet-init is there to do the rest; ``SandboxMaker`` in words.
  static func makingSandbox(_ configuration: Configuration) -> [Step] {
    let pool = configuration.isolation.idPool
    let quota = configuration.filesystem.workspace.defaultQuota
    return [
      worker(
        "user namespace", ["65536 IDs of \(pool.first):\(pool.count), no other job's"], "user_namespaces(7)",
        "made as root: what the kernel counts for its users is counted on root, and one job uses up everybody's"),
      worker(
        "cgroup with the leaves init and pay", ["memory.oom.group 1", "memory.swap.max 0"],
        "Documentation/admin-guide/cgroup-v2.rst",
        "one leaf for both: an OOM kill or cgroup.kill takes joblet-init too, and with it the output and the exit status"
      ),
      worker(
        "workspace below \(configuration.filesystem.baseDir)", [quota > 0 ? "quota \(quota) bytes" : "no quota"],
        "quotactl(2), open_tree(2) OPEN_TREE_CLONE, mount_setattr(2) MOUNT_ATTR_IDMAP",
        "quota after the first file: that one is not counted. By path and not as a detached mount: the host's tree had to be there"
      ),
      worker(
        "clone joblet-init into init", ["new pid, net, ipc and uts namespaces, a copy of the template's mounts"],
        "clone(2) CLONE_INTO_CGROUP CLONE_VFORK, setns(2)",
        "into the cgroup later: an instant outside it; mounts of the host: a reference kept anywhere is the whole host"),
    ]
  }

  /// What it does when a job takes a sandbox; ``JobLauncher`` in words.
  static func claimingSandbox(_ request: JobRequest) -> [Step] {
    [
      worker(
        "state directory and workspace get the job's name", [], "rename(2)",
        "after the go: a restart finds a job that runs and belongs to nobody"),
      worker(
        "limits of pay", limits(request.limits), "Documentation/admin-guide/cgroup-v2.rst",
        "after the go: the job runs without them, and what it has then it keeps"),
      worker(
        "host name", [], "setns(2) CLONE_NEWUTS, sethostname(2)", "after the go: the job can see it change"),
      worker(
        "the job's plan into sealed memory", [], "memfd_create(2), fcntl(2) F_ADD_SEALS",
        "not sealed: joblet-init refuses it, for who can change it could do so after it was checked"),
      worker(
        "record 'started', then the go", [], "fsync(2), rename(2)",
        "the go first: after a crash in between nobody knows whether the command ran"),
    ]
  }

  /// Those asked for; the node's own come on top.
  private static func limits(_ limits: Limits) -> [String] {
    var list: [String] = []
    func add(_ name: String, _ value: Int?) { if let value { list.append("\(name) \(value)") } }
    add("cpu_percent", limits.cpuPercent)
    add("cpu_weight", limits.cpuWeight)
    if let cores = limits.cpuCores { list.append("cpu_cores \(cores)") }
    add("memory_mb", limits.memoryMB)
    add("memory_high_mb", limits.memoryHighMB)
    if let rate = limits.ioBps { list.append("io_bps \(rate)") }
    add("pids", limits.pids)
    return list.isEmpty ? ["the node's defaults"] : list + ["and the node's defaults"]
  }

  private static func worker(_ step: String, _ details: [String], _ source: String, _ breaks: String) -> Step {
    Step(number: 0, by: "joblet-exec", step: step, details: details, source: source, breaks: breaks)
  }
}
