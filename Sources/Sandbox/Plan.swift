import JobletModel

/// Everything joblet-init does for one job, in order. Made from a request and the node's settings; pure, so that it can be
/// looked at and tested anywhere.
public struct Plan: Hashable, Sendable {
  public let steps: [PlanStep]

  /// Makes the plan of a job.
  /// - Parameters:
  ///   - timeout: how long the job may run; nil is for ever.
  ///   - workspace: the host directory that becomes the job's workspace.
  /// - Throws: ``SandboxError`` or ``ValidationError`` (a request's field) naming what is wrong and what is allowed.
  public init(
    request: JobRequest, id: JobID, timeout: Duration?, workspace: String, settings: SandboxSettings,
    filters: SeccompFilters
  ) throws {
    try request.validate()
    let mounts = try PlanMaker.validatedMounts(settings)
    let hostname = PlanMaker.hostname(id)
    let filter = try filters.program(try filters.profile(asked: request.seccomp))
    steps =
      PlanMaker.root(settings, mounts, workspace: workspace, hostname: hostname)
      + PlanMaker.confinement(settings, mounts, filters)
      + PlanMaker.payload(request, settings, filter)
      + PlanMaker.supervision(settings, filters, timeout: timeout)
  }

  package init(steps: [PlanStep]) { self.steps = steps }
}

/// The three phases of a plan.
enum PlanMaker {
  /// `job-` and the job ID's first 18 digits that differ between jobs of a node; at most 64 bytes (HOST_NAME_MAX).
  static func hostname(_ id: JobID) -> String { "job-\(id)" }

  /// joblet-init as host root: builds the job's file system and enters it.
  static func root(
    _ settings: SandboxSettings, _ mounts: [String], workspace: String, hostname: String
  ) -> [PlanStep] {
    // Privacy first: a mount made before it would show on the host, and stay there after the job.
    var steps: [PlanStep] = [.privateMounts, .loopback, .hostname(hostname)]
    // 1 MiB holds a root of empty directories and the files of /etc; the job can't write to it.
    steps.append(.root(staging: settings.stagingDirectory, size: 1 << 20))
    for path in mounts { steps.append(.bind(source: path, target: path, [.readOnly, .optional])) }
    // Mapped through the job's own user namespace, so that two jobs' files never belong to the same host user at run time.
    steps.append(.bind(source: workspace, target: settings.workspacePath, [.idMapped]))
    steps.append(.tmpfs(target: "/tmp", size: UInt64(settings.tmpSize), mode: 0o1777))
    steps.append(.devices(sharedMemorySize: UInt64(settings.tmpSize)))
    steps.append(.proc)
    // After /proc is there, before the job is: once a process of the job runs it could swap a path under the mount.
    steps += maskedPaths.map { .mask($0) }
    steps += readOnlyPaths.map { .readOnlyPath($0) }
    // A node that shows its own /etc has said what is in it.
    let files = files(settings.runAs, hostname: hostname).filter { file in
      !mounts.contains { isSame(file.0, orBelow: $0) }
    }
    steps += files.map { .file(path: $0, content: $1, mode: 0o644) }
    // The files above are written before these two: afterwards the root takes no more, and the host's is gone.
    steps += [.pivot, .readOnlyRoot]
    return steps
  }

  /// joblet-init, still host root: what confines the payload and has to be made by someone else.
  static func confinement(
    _ settings: SandboxSettings, _ mounts: [String], _ filters: SeccompFilters
  ) -> [PlanStep] {
    // Before the payload is cloned, which has it from there: the payload's own filter lets through what this one catches.
    landlock(settings, mounts) + [.violations(filters.violations)]
  }

  /// The payload's process, between its clone and its exec.
  static func payload(_ request: JobRequest, _ settings: SandboxSettings, _ filter: SeccompProgram) -> [PlanStep] {
    var steps: [PlanStep] = [
      // In the payload, not by a flag of its clone: the flag would make init/ the root the job sees, not pay/.
      .cgroupNamespace,
      .standardStreams(merge: request.merge),
    ]
    steps += [
      .resourceLimit(.core, soft: 0, hard: 0),
      .resourceLimit(.openFiles, soft: min(1024, settings.openFiles), hard: settings.openFiles),
      .resourceLimit(.memoryLock, soft: 8 << 20, hard: 8 << 20),
      .resourceLimit(.messageQueueBytes, soft: 819_200, hard: 819_200),
      .resourceLimit(.nice, soft: 0, hard: 0),
      .resourceLimit(.realTimePriority, soft: 0, hard: 0),
    ]
    steps += [
      .userNamespace,
      // After the user namespace: these are its IDs. Before the capabilities go: it takes CAP_SETUID and CAP_SETGID.
      .ids(uid: settings.runAs.uid, gid: settings.runAs.gid),
      // After the IDs: the new keyring belongs to who makes it, and must not be host root's.
      .keyring,
      // After the IDs: a directory the payload's user may not enter must fail here, not open with root's rights.
      .directory(settings.workspacePath),
      .dropCapabilities,
      // Before the filter: without it, loading one would take the capabilities that are gone; and before the exec, so that
      // no setuid program gives anything back.
      .noNewPrivileges,
      .environment(environment(request, settings)),
    ]
    // After no_new_privs, without which it takes the capabilities that are gone; before the filter, which need not allow it.
    if settings.landlock != nil { steps.append(.landlock) }
    steps += [
      // Last but for the descriptors and the exec: it refuses most of what the steps above call.
      .seccomp(filter),
      .closeDescriptors,
      .exec([request.command] + request.args),
    ]
    return steps
  }

  /// joblet-init itself, once the payload's process is made.
  static func supervision(_ settings: SandboxSettings, _ filters: SeccompFilters, timeout: Duration?) -> [PlanStep] {
    var steps: [PlanStep] = []
    if let timeout { steps.append(.timeout(after: timeout, grace: settings.timeoutGrace)) }
    // After the payload is cloned: cloning into pay/ takes host root.
    steps += [.initIDs(SandboxSettings.initID), .initSeccomp(filters.supervisor)]
    return steps
  }

  /// `NAME=value`, sorted, so that equal requests make equal plans. The job's own values win over the defaults.
  static func environment(_ request: JobRequest, _ settings: SandboxSettings) -> [String] {
    var values = [
      "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      "HOME": settings.workspacePath,
      "USER": settings.runAs.user,
      "LOGNAME": settings.runAs.user,
      "LANG": "C.UTF-8",
      "TMPDIR": "/tmp",
    ]
    values.merge(request.env) { $1 }
    values.merge(request.secretEnv) { $1 }
    return values.map { "\($0)=\($1)" }.sorted()
  }

  /// What shows kernel memory, keys, hardware or other tenants (the list OCI runtimes agree on), though permissions would
  /// refuse most of it: the job's user owns nothing in this /proc.
  static let maskedPaths = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/scsi",
    "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats",
  ]
  static let readOnlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

  /// The files programs expect in `/etc`.
  static func files(_ user: RunAs, hostname: String) -> [(String, String)] {
    var passwd = "root:x:0:0:root:/root:/bin/sh\n"
    var group = "root:x:0:\n"
    if user.uid != 0, user.uid != 65_534 { passwd += "\(user.user):x:\(user.uid):\(user.gid):job:/work:/bin/sh\n" }
    if user.gid != 0, user.gid != 65_534 { group += "\(user.group):x:\(user.gid):\n" }
    passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    group += "nogroup:x:65534:\n"
    return [
      ("/etc/passwd", passwd),
      ("/etc/group", group),
      ("/etc/hostname", "\(hostname)\n"),
      ("/etc/hosts", "127.0.0.1 localhost \(hostname)\n::1 localhost ip6-localhost ip6-loopback\n"),
      // No name server: a job without a network has none, and the host's would tell where it runs.
      ("/etc/resolv.conf", "# this job has no network\n"),
      (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
      ),
    ]
  }
}
