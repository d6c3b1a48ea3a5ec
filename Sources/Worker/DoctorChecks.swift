import JobletConfig
import Sandbox

/// What the facts mean, each check a function; pure.
struct DoctorChecks {
  typealias Finding = DoctorReport.Finding

  let configuration: Configuration
  let facts: HostFacts

  var all: [Finding] {
    [
      kernel, cgroups, controllers, cgroupFiles, pressure, systemd, userNamespaces, namespaceCounts, seccomp, landlock,
      clone, idMapping, quota, state, idPool, processIDs, cores, swap, links, initProgram, gatewayUser,
    ]
  }

  private func ok(_ check: String, _ found: String) -> Finding { Finding(check: check, status: .ok, found: found) }

  private func fail(
    _ check: String, _ found: String, _ means: String, mend: String, _ status: DoctorReport.Status = .failed
  ) -> Finding {
    Finding(check: check, status: status, found: found, means: means, mend: mend)
  }

  /// A probe's outcome as a finding.
  private func finding(
    _ check: String, _ probe: HostFacts.Probe, _ works: String, _ means: String, mend: String
  ) -> Finding {
    switch probe {
    case .works: ok(check, works)
    case .fails(let why): fail(check, why, means, mend: mend)
    case .notTried(let why): Finding(check: check, status: .skipped, found: why)
    }
  }

  private func number(_ setting: String) -> Int? { facts.settings[setting].flatMap { Int($0) } }

  /// How many jobs may run at once, where that is bounded by more than what the host has.
  private var mostJobs: Int? {
    configuration.joblet.maxConcurrentJobs > 0 ? configuration.joblet.maxConcurrentJobs : nil
  }

  /// How many namespaces of a kind are needed at once, those that wait prepared included.
  private var jobs: Int { (mostJobs ?? 1) + configuration.isolation.prepared + 16 }

  // MARK: Kernel and cgroups

  var kernel: Finding {
    let parts = facts.kernel.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    guard parts.count == 2 else {
      return Finding(check: "kernel", status: .skipped, found: "its version '\(facts.kernel)' can't be read")
    }
    guard (parts[0], parts[1]) >= (5, 14) else {
      return fail(
        "kernel", facts.kernel, "5.14 is the first with all that jobs need: cgroup.kill, ID-mapped mounts, quotactl_fd",
        mend: "install a newer kernel")
    }
    return ok("kernel", facts.kernel)
  }

  var cgroups: Finding {
    guard facts.isUnified else {
      return fail(
        "cgroup v2", "it is not what is mounted at \(facts.cgroupPath)",
        "without it there are no limits and no end of a job",
        mend: "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all, or give joblet-exec --cgroup-root")
    }
    return ok("cgroup v2", "at \(facts.cgroupPath)")
  }

  var controllers: Finding {
    guard facts.isUnified else {
      return Finding(check: "controllers", status: .skipped, found: "it takes cgroup v2")
    }
    let missing = configuration.cgroup.enableControllers.filter { !facts.controllers.contains($0) }
    let at = facts.cgroupPath
    guard missing.isEmpty else {
      return fail(
        "controllers", "\(at) does not offer \(missing.joined(separator: ", "))",
        "cgroup.enableControllers names them, so joblet-exec does not start; limits that need them could not be held",
        mend:
          "check cgroup_disable= on the kernel's command line and cgroup.subtree_control above \(at), or take them off "
          + "cgroup.enableControllers")
    }
    return ok(
      "controllers",
      facts.controllers.isEmpty ? "none, and none is asked for" : facts.controllers.joined(separator: " "))
  }

  var cgroupFiles: Finding {
    guard let files = facts.cgroupFiles else {
      return Finding(check: "cgroup files", status: .skipped, found: "there is no cgroup below the root to look at")
    }
    let missing = ["cgroup.kill", "cgroup.freeze"].filter { !files.contains($0) }
    guard missing.isEmpty else {
      return fail(
        "cgroup files", "no \(missing.joined(separator: ", "))", "jobs can't be ended as a whole, or paused",
        mend: "install Linux 5.14 or newer")
    }
    return ok("cgroup files", "cgroup.kill, cgroup.freeze")
  }

  var pressure: Finding {
    facts.hasPressure
      ? ok("pressure (PSI)", "/proc/pressure")
      : fail(
        "pressure (PSI)", "there is no /proc/pressure", "metrics have no psi_cpu, psi_memory, psi_io",
        mend: "boot with psi=1, on a kernel with CONFIG_PSI", .warning)
  }

  var systemd: Finding {
    facts.hasSystemd
      ? ok("systemd", "it runs this host")
      : fail(
        "systemd", "it does not run this host", "there is no joblet-jobs.scope for jobs to live in",
        mend: "start joblet-exec with --listen and --cgroup-root", .warning)
  }

  // MARK: Namespaces

  var userNamespaces: Finding {
    var mend = "check user.max_user_namespaces (\(facts.settings["user.max_user_namespaces"] ?? "no such setting"))"
    if facts.settings["kernel.apparmor_restrict_unprivileged_userns"] == "1" {
      mend += ", and AppArmor, which restricts user namespaces here (kernel.apparmor_restrict_unprivileged_userns)"
    }
    // kernel.unprivileged_userns_clone is of no matter: joblet-exec has the right it asks for.
    return finding(
      "user namespaces", facts.userNamespace, "one was made, with IDs of isolation.id_pool", "no job can be started",
      mend: mend + ", and that the kernel has CONFIG_USER_NS")
  }

  var namespaceCounts: Finding {
    let small = HostFacts.namespaceCounts.compactMap { setting -> String? in
      guard let most = number(setting), most < jobs else { return nil }
      return "\(setting) is \(most)"
    }
    guard small.isEmpty else {
      return fail(
        "namespace counts", small.joined(separator: ", "),
        "up to \(jobs) are needed for joblet.maxConcurrentJobs; jobs above fail",
        mend:
          "sysctl -w \(small.first?.split(separator: " ").first ?? "")=\(jobs * 2) and the like, in /etc/sysctl.d too",
        .warning)
    }
    return ok("namespace counts", "enough for \(jobs) jobs")
  }

  var clone: Finding {
    finding(
      "clone3", facts.cloneIntoCgroup, "CLONE_INTO_CGROUP",
      "a job could run before its limits hold, so none is started",
      mend: "install Linux 5.7 or newer; if this is a container, let its filter allow clone3")
  }

  // MARK: Filters

  var seccomp: Finding {
    finding(
      "seccomp", facts.notification, "filters with user notification (profile \(configuration.isolation.seccomp))",
      "no job can be started: its system calls would not be filtered",
      mend: "use a kernel with CONFIG_SECCOMP_FILTER")
  }

  var landlock: Finding {
    let wanted = configuration.isolation.landlock
    guard wanted != "off" else { return ok("Landlock", "isolation.landlock is off") }
    let found: String
    switch facts.landlock {
    case .success(let abi):
      guard abi < LandlockSupport.leastABI else { return ok("Landlock", "ABI \(abi)") }
      found = "ABI \(abi) is too old: \(LandlockSupport.leastABI) (Linux 5.19) is needed"
    case .failure(let error):
      found = error.name == "EOPNOTSUPP" ? "it is turned off" : "the kernel has none (\(error.name))"
    }
    return fail(
      "Landlock", found,
      wanted == "required"
        ? "isolation.landlock is 'required', so joblet-exec does not start" : "jobs run with one layer less",
      mend: "a kernel with CONFIG_SECURITY_LANDLOCK, and 'landlock' in the lsm= boot parameter",
      wanted == "required" ? .failed : .warning)
  }

  // MARK: Files

  var idMapping: Finding {
    finding(
      "ID-mapped mounts", facts.idMapping, "for \(configuration.filesystem.baseDir)",
      "no job can be started: its workspace would belong to IDs that change from job to job",
      mend: "put filesystem.baseDir on a file system that can: ext4, xfs, btrfs, f2fs, or tmpfs from Linux 6.3 on")
  }

  var quota: Finding {
    let bytes = configuration.filesystem.workspace.defaultQuota
    guard bytes > 0 else {
      return fail(
        "workspace quota", "filesystem.workspace.default_quota is 0",
        "a job can fill the disk under filesystem.baseDir",
        mend: "set default_quota, on a file system with project quotas", .warning)
    }
    switch facts.quota {
    case .success("enforced"): return ok("workspace quota", "enforced for \(configuration.filesystem.baseDir)")
    case .success(let state):
      return fail(
        "workspace quota", "project quotas are \(state) for \(configuration.filesystem.baseDir)",
        "default_quota would not hold, so joblet-exec does not start",
        mend:
          "mount it with prjquota (xfs, or ext4 made with -O project,quota), or run contrib/install, which makes such a file "
          + "system, or set default_quota to 0")
    case .failure(let error):
      return Finding(check: "workspace quota", status: .skipped, found: "it can't be looked at: \(error.description)")
    }
  }

  var state: Finding {
    guard facts.isStateOnTmpfs else {
      return fail(
        "state directory", "/run is no tmpfs", "secrets of jobs that wait would reach a disk",
        mend: "mount a tmpfs at /run")
    }
    let ring = Int64(RingMapping.dataSize(forRecords: configuration.ipc.bufferSize))
    let room = facts.stateBytesFree / ring
    let found = "tmpfs with \(facts.stateBytesFree >> 20) MiB free, room for the rings of \(room) jobs"
    guard let mostJobs, room < mostJobs else { return ok("state directory", found) }
    return fail(
      "state directory", found, "joblet.maxConcurrentJobs is \(mostJobs); jobs above that room are refused",
      mend: "make /run larger, or lower joblet.maxConcurrentJobs or ipc.buffer_size", .warning)
  }

  var idPool: Finding {
    let pool = configuration.isolation.idPool
    let (first, end) = (UInt64(pool.first), UInt64(pool.first) + UInt64(pool.count))
    if let other = facts.takenIDs.first(where: { $0.first < end && first < $0.first + $0.count && $0.count > 0 }) {
      return fail(
        "ID pool", "\(other.file) gives \(other.name) IDs \(other.first) to \(other.first + other.count - 1)",
        "isolation.id_pool has them too: a job's processes would be that user's on this host",
        mend: "move isolation.id_pool, or that range")
    }
    return ok(
      "ID pool", "\(pool.first) to \(end - 1): nobody else's, room for \(pool.count / IDRangePool.rangeSize) jobs")
  }

  // MARK: Settings

  var processIDs: Finding {
    guard let most = number("kernel.pid_max") else {
      return Finding(check: "process IDs", status: .skipped, found: "kernel.pid_max can't be read")
    }
    if let mostJobs, most <= mostJobs * configuration.process.pids {
      return fail(
        "process IDs", "kernel.pid_max is \(most)",
        "\(mostJobs) jobs (joblet.maxConcurrentJobs) with process.pids each may want \(mostJobs * configuration.process.pids); some can't fork then",
        mend: "sysctl -w kernel.pid_max=4194304, in /etc/sysctl.d too; or lower process.pids", .warning)
    }
    return ok("process IDs", "kernel.pid_max is \(most)")
  }

  var cores: Finding {
    let pattern = facts.settings["kernel.core_pattern"] ?? ""
    guard facts.settings["fs.suid_dumpable"].map({ $0 != "1" }) ?? true else {
      return fail(
        "core dumps", "fs.suid_dumpable is 1", "a process that gave up rights can be dumped into files others read",
        mend: "sysctl -w fs.suid_dumpable=0", .warning)
    }
    return ok("core dumps", pattern.hasPrefix("|") ? "go to a program; jobs have none" : "jobs have none")
  }

  var swap: Finding {
    guard facts.hasSwap, facts.controllers.contains("memory"), let files = facts.cgroupFiles else {
      return ok("swap", facts.hasSwap ? "there is some" : "there is none")
    }
    guard files.contains("memory.swap.max") || !files.contains("memory.max") else {
      return fail(
        "swap", "there is some, and cgroups don't count it", "a job over its memory limit swaps in place of ending",
        mend: "boot with swapaccount=1, or turn swap off", .warning)
    }
    return ok("swap", "there is some; jobs have none of it")
  }

  var links: Finding {
    let off = ["fs.protected_symlinks", "fs.protected_hardlinks"].filter { facts.settings[$0] == "0" }
    guard off.isEmpty else {
      return fail(
        "link protection", "\(off.joined(separator: ", ")) is 0",
        "host programs can be led astray by links in shared directories",
        mend: off.map { "sysctl -w \($0)=1" }.joined(separator: "; "), .warning)
    }
    return ok("link protection", "on")
  }

  // MARK: Installation

  var initProgram: Finding {
    finding(
      "joblet-init", facts.initProgram, "is there", "no job can be started", mend: "run contrib/install")
  }

  var gatewayUser: Finding {
    facts.hasGatewayUser
      ? ok("user joblet-api", "exists")
      : fail(
        "user joblet-api", "there is no such user",
        "under systemd joblet-exec does not start: nobody may ask it anything",
        mend: "run contrib/install, or systemd-sysusers with units/joblet.sysusers", .warning)
  }
}
