import CSeccomp
import Glibc

/// The default profile's allow-list, by purpose. Not in it, and so refused: mounting and namespaces (mount, umount2, move_mount,
/// fsopen …, unshare, setns, pivot_root, chroot), other processes' memory and descriptors (ptrace, process_vm_*, kcmp,
/// pidfd_getfd), kernel keys, bpf, perf_event_open, io_uring, userfaultfd, clocks, the kernel log, and, with the end of the
/// job, ``neverLegitimate``. What is allowed by its arguments stands in ``ArgumentRules``.
enum SyscallNames {
  /// Calls that change the host's kernel, its hardware or its accounts, or go around a mount to its file system: no right a job
  /// could ever have lets them succeed, and no program tries them by accident.
  static let neverLegitimate = [
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "query_module",
    "get_kernel_syms", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "open_by_handle_at", "iopl",
    "ioperm", "lookup_dcookie", "nfsservctl",
  ]

  /// What `compat` allows besides: a job's processes may trace and copy from each other (PID 1 is another user's, and not
  /// dumpable), and choose where their memory lies.
  static let compat = [
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "modify_ldt", "mbind",
    "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages", "sysfs", "ustat", "uselib", "_sysctl",
  ]

  /// What `strict` takes out of ``allowed``.
  static let notInStrict =
    interprocess + [
      "accept", "accept4", "bind", "connect", "listen", "recvmmsg", "sendmmsg", "mlock", "mlock2", "mlockall",
      "munlock",
      "munlockall", "process_mrelease",
      "remap_file_pages", "vmsplice", "name_to_handle_at", "sync", "syncfs", "capset", "setgroups", "setfsuid",
      "setfsgid", "ioprio_set", "sched_setattr", "sched_setparam", "sched_setscheduler", "epoll_ctl_old",
      "epoll_wait_old",
    ]

  /// The kernel's older asynchronous I/O (io_setup(2)).
  static let asynchronous = [
    "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
  ]

  /// POSIX message queues (mq_overview(7)): their files are below no mount of the job, so Landlock refuses them anyway.
  static let messageQueues = [
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
  ]

  static let allowed =
    files + attributes + memory + processes + signals + scheduling + time + waiting + sockets + identity
    + interprocess + ownSandbox

  static let files = [
    "access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "copy_file_range", "creat", "dup", "dup2",
    "dup3",
    "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2",
    "fchown",
    "fchownat", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd",
    "getdents",
    "getdents64", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "lchown", "link", "linkat",
    "lseek",
    "lstat", "mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pipe",
    "pread64",
    "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
    "rename",
    "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync",
    "sync_file_range", "syncfs", "tee", "truncate", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes",
    "vmsplice",
    "write", "writev", "cachestat",
  ]
  static let attributes = [
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "lgetxattr", "listxattr", "llistxattr",
    "lremovexattr",
    "lsetxattr", "removexattr", "setxattr",
  ]
  static let memory = [
    "brk", "get_mempolicy", "madvise", "map_shadow_stack", "mincore", "mlock", "mlock2", "mlockall",
    "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free",
    "pkey_mprotect",
    "process_mrelease", "remap_file_pages",
  ]
  static let processes = [
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority",
    "getrlimit", "getrusage", "getsid", "gettid", "get_robust_list", "get_thread_area", "pidfd_open",
    "pidfd_send_signal",
    "prctl", "rseq", "setpgid", "setpriority", "setsid", "set_robust_list", "set_thread_area",
    "set_tid_address", "sysinfo", "times", "uname", "vfork", "wait4", "waitid",
  ]
  static let signals = [
    "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack", "signalfd", "signalfd4", "tgkill", "tkill",
  ]
  static let scheduling = [
    "getcpu", "ioprio_get", "ioprio_set", "membarrier", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler", "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
  ]
  static let time = [
    "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep", "setitimer",
    "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
  ]
  static let waiting = [
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "epoll_wait_old", "eventfd", "eventfd2", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
    "poll", "ppoll", "pselect6", "select",
  ]
  static let sockets = [
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
    "recvmmsg",
    "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
  ]
  static let identity = [
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getuid", "setfsgid",
    "setfsuid",
    "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid", "setuid",
  ]
  static let interprocess = [
    "msgctl", "msgget",
    "msgrcv",
    "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt",
  ]
  /// What a job may use to confine itself further, and what only reads.
  static let ownSandbox = [
    "getrandom", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "name_to_handle_at",
    "seccomp",
  ]
}

/// A call that ended its job, as the kernel reported it to joblet-init.
public struct SyscallViolation: Hashable, Sendable {
  /// The call's number; nil if its caller was gone before it could be asked.
  public var call: Int32?
  /// AUDIT_ARCH_* of the number: 0xC000003E is x86_64, 0x40000003 is i386.
  public var architecture: UInt32

  public init(call: Int32?, architecture: UInt32) {
    self.call = call
    self.architecture = architecture
  }

  /// What was called, in words: `kexec_load`, or a number with its architecture where this libseccomp knows no name.
  public var description: String {
    guard let call else { return "a system call that no job may make" }
    let x32: UInt32 = 0x4000_0000
    let isX32 = architecture == 0xC000_003E && UInt32(bitPattern: call) & x32 != 0
    let native = seccomp_arch_native()
    // x32 numbers have a bit more than x86_64's; libseccomp has a name of its own for that architecture.
    let token = isX32 ? UInt32(0x4000_003E) : architecture
    guard let text = seccomp_syscall_resolve_num_arch(token, call) else {
      return "system call \(call) of architecture 0x\(String(architecture, radix: 16))"
    }
    defer { free(text) }
    let name = "the system call \(String(cString: text))"
    return token == native ? name : name + " by another architecture's number"
  }
}
