import CInitABI

/// A ring's `setup_step` and `setup_errno`, read back: which step of a job's plan failed, and how.
public struct SetupFailure: Hashable, Sendable {
  /// enum joblet_plan_op.
  public var op: UInt32
  /// The step's index in the plan.
  public var index: Int
  /// The kernel's error number, positive.
  public var code: Int32

  public init(setupStep: UInt32, setupErrno: Int32) {
    op = setupStep >> 16
    index = Int(setupStep & 0xFFFF)
    code = setupErrno
  }

  /// True if the command itself could not be executed (the payload's last step).
  public var isExec: Bool { op == JOBLET_OP_EXEC.rawValue }

  /// 127 if the command is not in the job's root, 126 if it may not be executed, nil for every other step: the codes of a shell.
  public var exitCode: Int? {
    guard isExec else { return nil }
    switch code {
    case 2, 20: return 127  // ENOENT, ENOTDIR
    default: return 126
    }
  }

  /// The failed step in words: that of one of `plans` if it is at hand (it is not after a restart of exec), else its kind.
  public func step(in plans: [Plan]) -> String {
    for plan in plans where plan.steps.indices.contains(index) && plan.steps[index].op == op {
      return plan.steps[index].description
    }
    return SetupFailure.names[op] ?? "step \(index)"
  }

  private static let names: [UInt32: String] = [
    JOBLET_OP_PRIVATE_MOUNTS.rawValue: "private mounts", JOBLET_OP_LOOPBACK.rawValue: "loopback interface",
    JOBLET_OP_ROOT.rawValue: "root file system",
    JOBLET_OP_BIND.rawValue: "mount", JOBLET_OP_TMPFS.rawValue: "mount tmpfs", JOBLET_OP_DEVICES.rawValue: "/dev",
    JOBLET_OP_PROC.rawValue: "/proc", JOBLET_OP_MASK.rawValue: "mask a path",
    JOBLET_OP_READ_ONLY_PATH.rawValue: "make a path read-only", JOBLET_OP_FILE.rawValue: "write a file",
    JOBLET_OP_PIVOT.rawValue: "pivot_root", JOBLET_OP_READ_ONLY_ROOT.rawValue: "make the root read-only",
    JOBLET_OP_VIOLATIONS.rawValue: "filter for calls that are never legitimate",
    JOBLET_OP_LANDLOCK_RULES.rawValue: "Landlock ruleset", JOBLET_OP_LANDLOCK_ALLOW.rawValue: "Landlock rule",
    JOBLET_OP_LANDLOCK.rawValue: "enter the Landlock ruleset",
    JOBLET_OP_OOM_SCORE.rawValue: "oom_score_adj",
    JOBLET_OP_CGROUP_NAMESPACE.rawValue: "cgroup namespace", JOBLET_OP_STDIO.rawValue: "standard streams",
    JOBLET_OP_RLIMIT.rawValue: "resource limit", JOBLET_OP_USER_NAMESPACE.rawValue: "user namespace",
    JOBLET_OP_IDS.rawValue: "user and group", JOBLET_OP_KEYRING.rawValue: "session keyring",
    JOBLET_OP_DIRECTORY.rawValue: "working directory", JOBLET_OP_CAPABILITIES.rawValue: "drop capabilities",
    JOBLET_OP_NO_NEW_PRIVILEGES.rawValue: "no_new_privs", JOBLET_OP_SECCOMP.rawValue: "seccomp filter",
    JOBLET_OP_CLOSE.rawValue: "close descriptors", JOBLET_OP_ENVIRONMENT.rawValue: "environment",
    JOBLET_OP_EXEC.rawValue: "exec", JOBLET_OP_TIMEOUT.rawValue: "time-out",
    JOBLET_OP_INIT_IDS.rawValue: "joblet-init's user",
    JOBLET_OP_INIT_SECCOMP.rawValue: "joblet-init's seccomp filter", JOBLET_OP_READ_PLAN.rawValue: "read the plan",
    JOBLET_OP_MOUNT_POINT.rawValue: "make a directory", JOBLET_OP_SYMLINK.rawValue: "make a symbolic link",
    JOBLET_OP_TERMINALS.rawValue: "mount devpts", JOBLET_OP_WORKSPACE.rawValue: "mount the workspace",
    JOBLET_OP_FACTS.rawValue: "mount the job's facts", JOBLET_OP_JOB_SECCOMP.rawValue: "the job's own seccomp filter",
    JOBLET_OP_READ_JOB_PLAN.rawValue: "read the job's plan", JOBLET_OP_CLONE_PAYLOAD.rawValue: "clone the payload",
    JOBLET_OP_SUPERVISE.rawValue: "supervise",
  ]
}
