import CInitABI

/// One thing joblet-init does for a job. The order of steps in a ``Plan`` is the order of execution.
public enum PlanStep: Hashable, Sendable {
  // joblet-init, as host root in new namespaces: the template, then each sandbox.
  case privateMounts
  case loopback
  case root(staging: String, size: UInt64)
  case bind(source: String, target: String, BindOptions)
  case tmpfs(target: String, size: UInt64, mode: UInt32, BindOptions)
  case devices
  case mountPoint(String)
  case symlink(path: String, content: String)
  case terminals
  case workspace(target: String)
  case facts(target: String)
  case proc
  case mask(String)
  case readOnlyPath(String)
  case file(path: String, content: String, mode: UInt32)
  case pivot
  case readOnlyRoot
  /// Catches calls that are never legitimate, with the listener at joblet-init.
  case violations(SeccompProgram)
  /// Makes the ruleset: rights that only a rule gives, and the scopes.
  case landlockRules(handled: LandlockRights, scoped: UInt64)
  case landlockAllow(path: String, LandlockRights)

  // The payload's process, before there is a job.
  case cgroupNamespace
  case oomScore(UInt32)
  case resourceLimit(ResourceLimit, soft: UInt64, hard: UInt64)
  case userNamespace
  case ids(uid: UInt32, gid: UInt32)
  case keyring
  case directory(String)
  case dropCapabilities
  case noNewPrivileges
  case landlock
  case seccomp(SeccompProgram)

  // joblet-init, once the payload's process is made.
  case initIDs(UInt32)
  case initSeccomp(SeccompProgram)

  // The payload's process, at the job's start.
  case standardStreams(merge: Bool)
  case timeout(after: Duration, grace: Duration)
  case jobSeccomp(SeccompProgram)
  case environment([String])
  case closeDescriptors
  case exec([String])
}

/// How something is mounted inside a job.
public struct BindOptions: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  public static let readOnly = BindOptions(rawValue: UInt16(JOBLET_FLAG_READ_ONLY.rawValue))
  public static let noExec = BindOptions(rawValue: UInt16(JOBLET_FLAG_NO_EXEC.rawValue))
  /// A source that does not exist is left out.
  public static let optional = BindOptions(rawValue: UInt16(JOBLET_FLAG_OPTIONAL.rawValue))
}

/// setrlimit(2) resources; the raw values are the kernel's.
public enum ResourceLimit: UInt64, Hashable, Sendable, CaseIterable {
  case core = 4
  case openFiles = 7
  case memoryLock = 8
  case signals = 11
  case messageQueueBytes = 12
  case nice = 13
  case realTimePriority = 14
}

extension PlanStep {
  /// The number of the step's kind in joblet_plan.h.
  public var op: UInt32 {
    switch self {
    case .privateMounts: JOBLET_OP_PRIVATE_MOUNTS.rawValue
    case .loopback: JOBLET_OP_LOOPBACK.rawValue
    case .root: JOBLET_OP_ROOT.rawValue
    case .bind: JOBLET_OP_BIND.rawValue
    case .tmpfs: JOBLET_OP_TMPFS.rawValue
    case .devices: JOBLET_OP_DEVICES.rawValue
    case .mountPoint: JOBLET_OP_MOUNT_POINT.rawValue
    case .symlink: JOBLET_OP_SYMLINK.rawValue
    case .terminals: JOBLET_OP_TERMINALS.rawValue
    case .workspace: JOBLET_OP_WORKSPACE.rawValue
    case .facts: JOBLET_OP_FACTS.rawValue
    case .proc: JOBLET_OP_PROC.rawValue
    case .mask: JOBLET_OP_MASK.rawValue
    case .readOnlyPath: JOBLET_OP_READ_ONLY_PATH.rawValue
    case .file: JOBLET_OP_FILE.rawValue
    case .pivot: JOBLET_OP_PIVOT.rawValue
    case .readOnlyRoot: JOBLET_OP_READ_ONLY_ROOT.rawValue
    case .violations: JOBLET_OP_VIOLATIONS.rawValue
    case .landlockRules: JOBLET_OP_LANDLOCK_RULES.rawValue
    case .landlockAllow: JOBLET_OP_LANDLOCK_ALLOW.rawValue
    case .landlock: JOBLET_OP_LANDLOCK.rawValue
    case .cgroupNamespace: JOBLET_OP_CGROUP_NAMESPACE.rawValue
    case .standardStreams: JOBLET_OP_STDIO.rawValue
    case .oomScore: JOBLET_OP_OOM_SCORE.rawValue
    case .resourceLimit: JOBLET_OP_RLIMIT.rawValue
    case .userNamespace: JOBLET_OP_USER_NAMESPACE.rawValue
    case .ids: JOBLET_OP_IDS.rawValue
    case .keyring: JOBLET_OP_KEYRING.rawValue
    case .directory: JOBLET_OP_DIRECTORY.rawValue
    case .dropCapabilities: JOBLET_OP_CAPABILITIES.rawValue
    case .noNewPrivileges: JOBLET_OP_NO_NEW_PRIVILEGES.rawValue
    case .seccomp: JOBLET_OP_SECCOMP.rawValue
    case .jobSeccomp: JOBLET_OP_JOB_SECCOMP.rawValue
    case .closeDescriptors: JOBLET_OP_CLOSE.rawValue
    case .environment: JOBLET_OP_ENVIRONMENT.rawValue
    case .exec: JOBLET_OP_EXEC.rawValue
    case .timeout: JOBLET_OP_TIMEOUT.rawValue
    case .initIDs: JOBLET_OP_INIT_IDS.rawValue
    case .initSeccomp: JOBLET_OP_INIT_SECCOMP.rawValue
    }
  }
}

extension PlanStep: CustomStringConvertible {
  /// The step in a few words, as it stands in a failed job's message. Holds no values of the environment.
  public var description: String {
    switch self {
    case .privateMounts: "private mounts"
    case .loopback: "loopback interface"
    case .root: "root file system"
    case .bind(let source, let target, _): "mount \(source) at \(target)"
    case .tmpfs(let target, _, _, _): "mount tmpfs at \(target)"
    case .devices: "/dev"
    case .mountPoint(let path): "make the directory \(path)"
    case .symlink(let path, let content): "link \(path) to \(content)"
    case .terminals: "mount devpts at /dev/pts"
    case .workspace(let target): "mount the workspace at \(target)"
    case .facts(let target): "mount the job's facts at \(target)"
    case .proc: "/proc"
    case .mask(let path): "mask \(path)"
    case .readOnlyPath(let path): "make \(path) read-only"
    case .file(let path, _, _): "write \(path)"
    case .pivot: "pivot_root"
    case .readOnlyRoot: "make the root read-only"
    case .violations: "filter for calls that are never legitimate"
    case .landlockRules: "Landlock ruleset"
    case .landlockAllow(let path, _): "Landlock rule for \(path)"
    case .landlock: "enter the Landlock ruleset"
    case .cgroupNamespace: "cgroup namespace"
    case .standardStreams: "standard streams"
    case .oomScore: "who is killed when the host has no memory left"
    case .resourceLimit(let limit, _, _): "resource limit \(limit)"
    case .userNamespace: "user namespace"
    case .ids(let uid, let gid): "user \(uid), group \(gid)"
    case .keyring: "session keyring"
    case .directory(let path): "working directory \(path)"
    case .dropCapabilities: "drop capabilities"
    case .noNewPrivileges: "no_new_privs"
    case .seccomp: "seccomp filter"
    case .jobSeccomp: "the job's own seccomp filter"
    case .closeDescriptors: "close descriptors"
    case .environment: "environment"
    case .exec: "exec"
    case .timeout: "time-out"
    case .initIDs: "joblet-init's user"
    case .initSeccomp: "joblet-init's seccomp filter"
    }
  }
}
