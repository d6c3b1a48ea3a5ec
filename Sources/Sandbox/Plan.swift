import JobletModel

/// What joblet-init does, in order. Pure, so that it can be looked at and tested anywhere.
///
/// Three plans make a job. The *template*, once for each start of exec, is what all jobs share: a root with the allowed mounts,
/// `/dev`, `/etc`, and nothing else of the host. A *sandbox*, ahead of need, adds to a copy of that what is each job's own, makes
/// the payload's process, and takes everyone's privileges; it knows nothing of any job. The *job*, at its start, is what its
/// request says, applied by a process that has no privileges any more.
public struct Plan: Hashable, Sendable {
  public let steps: [PlanStep]

  package init(steps: [PlanStep]) { self.steps = steps }

  /// - Throws: ``SandboxError`` naming the setting that is wrong and what is allowed.
  public static func template(_ settings: SandboxSettings) throws(SandboxError) -> Plan {
    Plan(steps: PlanMaker.template(settings, try PlanMaker.validatedMounts(settings)))
  }

  /// - Throws: ``SandboxError`` naming the setting that is wrong and what is allowed.
  public static func sandbox(_ settings: SandboxSettings, filters: SeccompFilters) throws(SandboxError) -> Plan {
    let mounts = try PlanMaker.validatedMounts(settings)
    return Plan(
      steps: PlanMaker.root(settings) + PlanMaker.confinement(settings, mounts, filters)
        + PlanMaker.payload(settings, filters) + PlanMaker.supervision(filters))
  }

  /// - Parameter timeout: how long the job may run; nil is for ever.
  /// - Throws: ``SandboxError`` or ``ValidationError`` (a request's field) naming what is wrong and what is allowed.
  public static func job(
    _ request: JobRequest, timeout: Duration?, settings: SandboxSettings, filters: SeccompFilters
  ) throws -> Plan {
    try request.validate()
    let profile = try filters.profile(asked: request.seccomp)
    // The node's own is there already, since the sandbox was made.
    let filter = profile == filters.profile ? nil : try filters.program(profile)
    return Plan(steps: PlanMaker.job(request, settings, filter, timeout: timeout))
  }

  /// A job's host name: at most 64 bytes (HOST_NAME_MAX). Set by exec at the job's start, as are the files of ``facts(of:)``.
  public static func hostName(of id: JobID) -> String { "job-\(id)" }

  /// The files of `/run/joblet` in a job, by name: what `/etc/hostname` and `/etc/hosts` lead to.
  public static func facts(of id: JobID) -> [(name: String, content: String)] {
    let name = hostName(of: id)
    return [
      ("hostname", "\(name)\n"),
      ("hosts", "127.0.0.1 localhost \(name)\n::1 localhost ip6-localhost ip6-loopback\n"),
    ]
  }

  /// The names of those files.
  public static let factNames = ["hostname", "hosts"]
}

/// The phases of the plans.
enum PlanMaker {
  /// Where a job finds its ``Plan/facts(of:)``.
  static let factsPath = "/run/joblet"

  /// joblet-init as host root, in a mount namespace that still has the host's tree: builds what all jobs see, and leaves the host.
  static func template(_ settings: SandboxSettings, _ mounts: [String]) -> [PlanStep] {
    // Privacy first: a mount made before it would show on the host, and stay there.
    var steps: [PlanStep] = [.privateMounts]
    // 1 MiB holds a root of empty directories and the files of /etc; no job can write to it.
    steps.append(.root(staging: settings.stagingDirectory, size: 1 << 20))
    for path in mounts { steps.append(.bind(source: path, target: path, [.readOnly, .optional])) }
    steps += ["/proc", "/tmp", factsPath, settings.workspacePath].map { .mountPoint($0) }
    steps.append(.devices)
    // A node that shows its own /etc has said what is in it.
    func isFree(_ path: String) -> Bool { !mounts.contains { isSame(path, orBelow: $0) } }
    steps += files(settings.runAs).filter { isFree($0.0) }.map { .file(path: $0, content: $1, mode: 0o644) }
    steps += Plan.factNames.filter { isFree("/etc/\($0)") }.map {
      .symlink(path: "/etc/\($0)", content: "\(factsPath)/\($0)")
    }
    // All of the above is made before these two: afterwards the root takes no more, and the host's is gone. So no copy of this
    // namespace, which is what every job gets, ever had the host's tree in it.
    steps += [.pivot, .readOnlyRoot]
    return steps
  }

  /// joblet-init as host root, in a copy of the template: adds what is each job's own.
  static func root(_ settings: SandboxSettings) -> [PlanStep] {
    // Privacy first: a mount made before it would show in the template, and in every job after this one.
    var steps: [PlanStep] = [.privateMounts, .loopback]
    steps.append(.tmpfs(target: "/tmp", size: UInt64(settings.tmpSize), mode: 0o1777, []))
    steps.append(.terminals)
    steps.append(.tmpfs(target: "/dev/shm", size: UInt64(settings.tmpSize), mode: 0o1777, [.noExec]))
    steps.append(.proc)
    // After /proc is there, before the job is: once a process of the job runs it could swap a path under the mount.
    steps += maskedPaths.map { .mask($0) }
    steps += readOnlyPaths.map { .readOnlyPath($0) }
    // Mapped through the job's own user namespace, so that two jobs' files never belong to the same host user at run time.
    steps.append(.workspace(target: settings.workspacePath))
    steps.append(.facts(target: factsPath))
    return steps
  }

  /// joblet-init, still host root: what confines the payload and has to be made by someone else.
  static func confinement(
    _ settings: SandboxSettings, _ mounts: [String], _ filters: SeccompFilters
  ) -> [PlanStep] {
    // Before the payload is cloned, which has it from there: the payload's own filter lets through what this one catches.
    landlock(settings, mounts) + [.violations(filters.violations)]
  }

  /// The payload's process, between its clone and its wait for a job.
  static func payload(_ settings: SandboxSettings, _ filters: SeccompFilters) -> [PlanStep] {
    var steps: [PlanStep] = [
      // In the payload, not by a flag of its clone: the flag would make init/ the root the job sees, not pay/.
      .cgroupNamespace,
      .oomScore(500),
      // 1 and not 0: with 0 the host's handler of cores runs all the same where core_pattern names a program (core(5)), as the
      // host's root, and the job's memory, with its secrets, is in the host's journal.
      .resourceLimit(.core, soft: 1, hard: 1),
      .resourceLimit(.openFiles, soft: min(1024, settings.openFiles), hard: settings.openFiles),
      .resourceLimit(.memoryLock, soft: 8 << 20, hard: 8 << 20),
      .resourceLimit(.signals, soft: 4096, hard: 4096),
      .resourceLimit(.messageQueueBytes, soft: 819_200, hard: 819_200),
      .resourceLimit(.nice, soft: 0, hard: 0),
      .resourceLimit(.realTimePriority, soft: 0, hard: 0),
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
    ]
    // After no_new_privs, without which it takes the capabilities that are gone; before the filter, which need not allow it.
    if settings.landlock != nil { steps.append(.landlock) }
    // Last: it refuses most of what the steps above call. What a job's own plan still does is what every program may do.
    steps.append(.seccomp(filters.payload))
    return steps
  }

  /// joblet-init itself, once the payload's process is made and before there is a job.
  static func supervision(_ filters: SeccompFilters) -> [PlanStep] {
    // After the payload is cloned: cloning into pay/ takes host root.
    [.initIDs(SandboxSettings.initID), .initSeccomp(filters.supervisor)]
  }

  /// The payload's process after the go. It is the job's user by now, without privileges and under the node's filter.
  static func job(
    _ request: JobRequest, _ settings: SandboxSettings, _ filter: SeccompProgram?, timeout: Duration?
  ) -> [PlanStep] {
    var steps: [PlanStep] = [.standardStreams(merge: request.merge)]
    if let timeout { steps.append(.timeout(after: timeout, grace: settings.timeoutGrace)) }
    steps.append(.environment(environment(request, settings)))
    // Last but for the descriptors and the exec: it may refuse more than they need, never what they need.
    if let filter { steps.append(.jobSeccomp(filter)) }
    steps += [.closeDescriptors, .exec([request.command] + request.args)]
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
  /// `/proc/pressure` too: anybody may write there to be told of pressure, and each who does costs the whole host.
  static let readOnlyPaths = [
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/pressure", "/proc/sys", "/proc/sysrq-trigger",
  ]

  /// The files programs expect in `/etc` that are the same for every job.
  static func files(_ user: RunAs) -> [(String, String)] {
    var passwd = "root:x:0:0:root:/root:/bin/sh\n"
    var group = "root:x:0:\n"
    if user.uid != 0, user.uid != 65_534 { passwd += "\(user.user):x:\(user.uid):\(user.gid):job:/work:/bin/sh\n" }
    if user.gid != 0, user.gid != 65_534 { group += "\(user.group):x:\(user.gid):\n" }
    passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    group += "nogroup:x:65534:\n"
    return [
      ("/etc/passwd", passwd),
      ("/etc/group", group),
      // No name server: a job without a network has none, and the host's would tell where it runs.
      ("/etc/resolv.conf", "# this job has no network\n"),
      (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
      ),
    ]
  }
}
