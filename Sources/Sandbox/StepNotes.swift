/// Why a step stands where it does.
public struct StepNote: Hashable, Sendable {
  /// The man page or kernel document it rests on.
  public var source: String
  /// What breaks if it is left out or moves.
  public var breaks: String

  init(_ source: String, _ breaks: String) {
    self.source = source
    self.breaks = breaks
  }
}

extension PlanStep {
  /// The note of the step's kind.
  public var note: StepNote {
    switch self {
    case .root, .bind, .devices, .file, .mountPoint, .symlink, .pivot, .readOnlyRoot: templateNote
    case .privateMounts, .loopback, .tmpfs, .terminals, .proc, .mask, .readOnlyPath, .workspace, .facts: rootNote
    case .landlockRules, .landlockAllow, .landlock, .violations, .seccomp, .jobSeccomp, .initSeccomp:
      confinementNote
    case .cgroupNamespace, .standardStreams, .oomScore, .resourceLimit, .userNamespace, .ids, .keyring, .directory,
      .dropCapabilities, .noNewPrivileges, .closeDescriptors, .environment, .exec:
      payloadNote
    case .timeout, .initIDs: supervisionNote
    }
  }

  private var rootNote: StepNote {
    switch self {
    case .privateMounts:
      StepNote(
        "mount_namespaces(7), mount(2) MS_PRIVATE", "later: mounts made before it appear on the host, and stay there")
    case .loopback:
      StepNote("netdevice(7), network_namespaces(7)", "after host root is given up: the interface can't be brought up")
    case .tmpfs: StepNote("tmpfs(5)", "without size and inode bounds: the job fills the host's memory")
    case .terminals:
      StepNote("pts(4), Documentation/filesystems/devpts.rst", "left out: no terminals; not new: those of other jobs")
    case .proc:
      StepNote(
        "proc(5) hidepid=, pid_namespaces(7)",
        "mounted from a user namespace with read-only binds the kernel refuses it; without hidepid PID 1's /proc/1/exe shows"
      )
    case .mask:
      StepNote(
        "proc(5); OCI runtime specification, maskedPaths",
        "once a process of the job runs: it swaps the path under the mount (CVE-2025-31133)")
    case .readOnlyPath:
      StepNote(
        "proc(5); OCI runtime specification, readonlyPaths",
        "left out: settings of the host's kernel that ask for no capability can be written")
    case .workspace:
      StepNote(
        "move_mount(2), mount_setattr(2) MOUNT_ATTR_IDMAP, Documentation/filesystems/idmappings.rst",
        "not through the job's ID map: its files belong to another host user each time, or to nobody")
    default:
      StepNote("move_mount(2), hosts(5), hostname(5)", "writable: the job changes what its /etc says")
    }
  }

  private var templateNote: StepNote {
    switch self {
    case .root:
      StepNote("tmpfs(5), pivot_root(2)", "after the binds: they would be mounted in the host's tree and covered by it")
    case .bind:
      StepNote(
        "open_tree(2) OPEN_TREE_CLONE, mount_setattr(2), move_mount(2)",
        "attributes after the mount is in place: an instant in which host files can be written")
    case .devices:
      StepNote(
        "null(4), random(4), tty(4)",
        "before the root: nodes in the host's tree; after the pivot and its read-only mark: nowhere to make them")
    case .file:
      StepNote("passwd(5), hosts(5), nsswitch.conf(5)", "after the root is read-only: it can't be written any more")
    case .mountPoint: StepNote("mkdir(2)", "after the root is read-only: there is nothing to mount on")
    case .symlink:
      StepNote(
        "symlink(7), hosts(5), hostname(5)", "left out: /etc has no name of the job; the file itself is each job's")
    case .pivot:
      StepNote("pivot_root(2), umount2(2) MNT_DETACH", "before the mounts: the host's files they come from are gone")
    default:
      StepNote(
        "mount_setattr(2) MOUNT_ATTR_RDONLY",
        "before the files are written: they can't be; left out: the job changes its root")
    }
  }

  private var confinementNote: StepNote {
    switch self {
    case .landlockRules:
      StepNote("landlock_create_ruleset(2)", "a right that is not handled is everybody's everywhere")
    case .landlockAllow:
      StepNote("landlock_add_rule(2)", "before the pivot: a path may mean the host's file, and the rule lies on that")
    case .landlock:
      StepNote(
        "landlock_restrict_self(2)", "before no_new_privs: refused; after the filter: every profile had to allow it")
    case .violations:
      StepNote(
        "seccomp_unotify(2), seccomp(2) SECCOMP_FILTER_FLAG_NEW_LISTENER",
        "after the payload's clone: the payload has no such filter, and its own lets these calls through")
    case .seccomp:
      StepNote(
        "seccomp(2), Documentation/userspace-api/seccomp_filter.rst",
        "earlier: it refuses the steps above; after the exec: the job has run without it")
    case .jobSeccomp:
      StepNote("seccomp(2)", "on top of the node's filter: the stricter answer holds, so it can only refuse more")
    default: StepNote("seccomp(2)", "earlier: it kills joblet-init at the steps above")
    }
  }

  private var payloadNote: StepNote {
    switch self {
    case .cgroupNamespace:
      StepNote(
        "cgroup_namespaces(7), clone(2) CLONE_INTO_CGROUP",
        "as a flag of the clone: the job's root cgroup would be joblet-init's, not its own")
    case .standardStreams:
      StepNote("pipe(7), dup2(2)", "after the descriptors are closed: there is nothing to connect")
    case .oomScore:
      StepNote(
        "proc(5) /proc/PID/oom_score_adj", "left out: a job's greed is answered with the end of the host's daemons")
    case .resourceLimit: StepNote("setrlimit(2), core(5)", "after the IDs: a hard limit can't be raised any more")
    case .userNamespace:
      StepNote("setns(2), user_namespaces(7)", "after the IDs: without CAP_SYS_ADMIN the namespace can't be entered")
    case .ids:
      StepNote(
        "setgroups(2), setresgid(2), setresuid(2)",
        "before the user namespace: host users; after the capabilities: refused. User before groups: root's groups stay"
      )
    case .keyring:
      StepNote("keyctl(2) KEYCTL_JOIN_SESSION_KEYRING, keyrings(7)", "before the IDs: the keyring is host root's")
    case .directory:
      StepNote("chdir(2)", "before the IDs: a directory the job's user may not enter opens with root's rights")
    case .dropCapabilities:
      StepNote(
        "capabilities(7), prctl(2) PR_CAPBSET_DROP",
        "before the IDs: they can't be set; bounding set last: without CAP_SETPCAP it can't be emptied")
    case .noNewPrivileges:
      StepNote(
        "prctl(2) PR_SET_NO_NEW_PRIVS", "after the filter: refused; left out: a setuid program gives rights back")
    case .closeDescriptors:
      StepNote(
        "close_range(2), open(2)",
        "left to close-on-exec: /proc/self/fd/N as the command leads through what is open (CVE-2024-21626)")
    case .environment: StepNote("environ(7)", "after the plan is gone: there is none")
    default: StepNote("execve(2)", "the last: everything after it would be the job's own")
    }
  }

  private var supervisionNote: StepNote {
    switch self {
    case .timeout:
      StepNote(
        "clock_gettime(2) CLOCK_MONOTONIC, ppoll(2)", "in joblet-exec alone: its restart would lose the time-out")
    default:
      StepNote(
        "setns(2), capabilities(7), prctl(2) PR_SET_DUMPABLE",
        "before the payload's clone into its cgroup: refused; left out: PID 1 of hostile code is host root")
    }
  }

  /// What the step is given, a value each; empty where its kind says all. The environment is as it is in the plan, secrets and
  /// all: mask them before the plan is made.
  public var details: [String] {
    switch self {
    case .root(_, let size): ["\(size) bytes"]
    case .bind(_, _, let options): options.names
    case .tmpfs(_, let size, let mode, let options):
      ["\(size) bytes", "mode \(String(mode, radix: 8))"] + (options.contains(.noExec) ? ["noexec"] : [])
    case .file(_, let content, let mode): ["\(content.utf8.count) bytes", "mode \(String(mode, radix: 8))"]
    case .violations(let program), .seccomp(let program), .jobSeccomp(let program), .initSeccomp(let program):
      ["\(program.instructionCount) BPF instructions"]
    case .landlockRules(let handled, let scoped):
      ["handled 0x\(String(handled.rawValue, radix: 16))", "scoped 0x\(String(scoped, radix: 16))"]
    case .landlockAllow(_, let rights): ["rights 0x\(String(rights.rawValue, radix: 16))"]
    case .standardStreams(let merge): [merge ? "one pipe" : "two pipes"]
    case .oomScore(let score): ["\(score)"]
    case .resourceLimit(_, let soft, let hard): ["soft \(soft)", "hard \(hard)"]
    case .environment(let values), .exec(let values): values
    case .timeout(let after, let grace): ["after \(after)", "grace \(grace)"]
    case .initIDs(let id): ["user \(id)"]
    case .privateMounts, .loopback, .devices, .mountPoint, .symlink, .terminals, .workspace, .facts, .proc, .mask,
      .readOnlyPath, .pivot, .readOnlyRoot, .cgroupNamespace,
      .userNamespace, .ids, .keyring, .directory, .dropCapabilities, .noNewPrivileges, .landlock, .closeDescriptors:
      []
    }
  }
}

extension BindOptions {
  var names: [String] {
    var names = ["nosuid", "nodev"]
    if contains(.readOnly) { names.append("read-only") }
    if contains(.noExec) { names.append("noexec") }
    if contains(.optional) { names.append("left out if absent") }
    return names
  }
}
