import CSeccomp
import Glibc
import JobletModel
import Sandbox
import Testing

/// Classic BPF as seccomp(2) runs it: enough of it to ask a filter what it says about a call.
struct FilterMachine {
  enum Verdict: Equatable {
    case allow, kill, notify
    case errno(Int32)
    case other(UInt32)
  }

  let program: SeccompProgram

  func verdict(_ number: Int32, _ arguments: [UInt64] = [], architecture: UInt32 = nativeArchitecture) -> Verdict {
    var data = [UInt8](repeating: 0, count: 64)
    func put(_ value: some FixedWidthInteger, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) { bytes in
        for (index, byte) in bytes.enumerated() { data[offset + index] = byte }
      }
    }
    put(number, at: 0)
    put(architecture, at: 4)
    for (index, argument) in arguments.enumerated() { put(argument, at: 16 + 8 * index) }
    return run(data)
  }

  private func run(_ data: [UInt8]) -> Verdict {
    func load32(_ bytes: [UInt8], _ at: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << (8 * UInt32($1)) }
    }
    var accumulator: UInt32 = 0
    var at = 0
    for _ in 0..<10_000 {
      let base = at * 8
      let code = UInt16(program.bytes[base]) | UInt16(program.bytes[base + 1]) << 8
      let (yes, no) = (Int(program.bytes[base + 2]), Int(program.bytes[base + 3]))
      let k = load32(program.bytes, base + 4)
      at += 1
      switch code {
      case 0x20: accumulator = load32(data, Int(k))
      case 0x54: accumulator &= k
      case 0x05: at += Int(k)
      case 0x15: at += accumulator == k ? yes : no
      case 0x25: at += accumulator > k ? yes : no
      case 0x35: at += accumulator >= k ? yes : no
      case 0x45: at += accumulator & k != 0 ? yes : no
      case 0x06:
        switch k & 0xFFFF_0000 {
        case 0x7FFF_0000: return .allow
        case 0x8000_0000: return .kill
        case 0x7FC0_0000: return .notify
        case 0x0005_0000: return .errno(Int32(k & 0xFFFF))
        default: return .other(k)
        }
      default: return .other(0xBAD0_0000 | UInt32(code))
      }
    }
    return .other(0xDEAD_0000)
  }
}

#if arch(x86_64)
  let nativeArchitecture: UInt32 = 0xC000_003E
#else
  let nativeArchitecture: UInt32 = 0xC000_00B7
#endif

func number(_ name: String) -> Int32 { seccomp_syscall_resolve_name(name) }

@Suite struct SeccompTests {
  /// A profile above the filter that every job has below it, as the kernel takes the two together: the stricter answer holds.
  struct Job {
    let profile: FilterMachine
    let violations: FilterMachine

    func verdict(
      _ number: Int32, _ arguments: [UInt64] = [], architecture: UInt32 = nativeArchitecture
    ) -> FilterMachine.Verdict {
      func rank(_ verdict: FilterMachine.Verdict) -> Int {
        switch verdict {
        case .kill: 0
        case .errno: 1
        case .notify: 2
        case .allow: 3
        case .other: -1  // nothing a filter should say
        }
      }
      let two = [profile, violations].map { $0.verdict(number, arguments, architecture: architecture) }
      return rank(two[1]) < rank(two[0]) ? two[1] : two[0]
    }
  }

  let payload: Job
  let strict: Job
  let compat: Job
  let supervisor: FilterMachine

  /// Compiled once: a suite is made anew for every case.
  private static let filters = Result { try SeccompFilters(profile: "compat") }

  init() throws {
    let filters = try Self.filters.get()
    let violations = FilterMachine(program: filters.violations)
    func job(_ profile: SeccompProfile) throws -> Job {
      Job(profile: FilterMachine(program: try filters.program(profile)), violations: violations)
    }
    payload = try job(.default)
    strict = try job(.strict)
    compat = try job(.compat)
    supervisor = FilterMachine(program: filters.supervisor)
  }

  @Test(arguments: [
    "read", "write", "openat", "execve", "mmap", "futex", "epoll_wait", "wait4", "exit_group", "getrandom", "statx",
    "close_range", "rseq", "prctl", "seccomp", "connect", "rt_sigreturn", "setresuid", "memfd_create", "dup3", "fcntl",
  ])
  func whatProgramsNeedIsAllowed(_ name: String) { #expect(payload.verdict(number(name)) == .allow) }

  static let neverLegitimate = [
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff",
    "acct",
    "quotactl", "quotactl_fd", "open_by_handle_at", "iopl", "ioperm", "lookup_dcookie", "nfsservctl", "create_module",
    "query_module", "get_kernel_syms",
  ]

  @Test(arguments: neverLegitimate) func whatIsNeverLegitimateEndsTheJob(_ name: String) {
    guard number(name) >= 0 else { return }
    for job in [payload, strict, compat] {
      #expect(job.verdict(number(name)) == .notify)
      // The profile alone would allow it: joblet-init must never load one without the filter below.
      #expect(job.profile.verdict(number(name)) == .allow)
    }
  }

  @Test func theFilterBelowCatchesNothingElse() {
    let caught = (0..<512).filter { payload.violations.verdict($0) != .allow }
    #expect(Set(caught) == Set(Self.neverLegitimate.map(number).filter { $0 >= 0 }))
  }

  /// Each profile allows what the stricter ones allow, and each of them something that those do not.
  @Test func profilesStandInOrder() {
    func allowed(_ job: Job) -> Set<Int32> { Set((0..<512).filter { job.verdict($0) == .allow }) }
    #expect(allowed(strict).isStrictSubset(of: allowed(payload)))
    #expect(allowed(payload).isStrictSubset(of: allowed(compat)))
  }

  @Test(arguments: [
    "socket", "connect", "bind", "listen", "accept4", "shmget", "semop", "msgget", "mlockall", "ptrace",
    "sync", "name_to_handle_at", "sched_setscheduler", "ioctl", "mknodat",
  ])
  func strictTakesAway(_ name: String) { #expect(strict.verdict(number(name), [2, 2, 0x2000]) == .errno(EPERM)) }

  @Test(arguments: [
    "read", "execve", "clone", "mmap", "futex", "sendmsg", "recvmsg", "epoll_wait", "rename", "getrandom", "fsync",
    "sched_setaffinity", "memfd_create", "prctl", "seccomp",
  ])
  func strictLeavesWhatABatchProgramNeeds(_ name: String) { #expect(strict.verdict(number(name), [0x11]) == .allow) }

  @Test func strictKnowsTheHarmlessRequestsAndFiles() {
    #expect(strict.verdict(number("ioctl"), [1, 0x5401]) == .allow)
    #expect(strict.verdict(number("ioctl"), [1, 0x5401 | 1 << 40]) == .allow)
    #expect(strict.verdict(number("mknodat"), [0, 0, 0x11A4]) == .allow)  // a FIFO, mode 0644
    #expect(strict.verdict(number("mknodat"), [0, 0, 0x21A4]) == .errno(EPERM))  // a character device
    #expect(strict.verdict(number("socketpair"), [1, 1, 0]) == .allow)
    #expect(strict.verdict(number("socketpair"), [2, 1, 0]) == .errno(EPERM))
    #expect(strict.verdict(number("personality"), [0x20000]) == .errno(EPERM))
  }

  @Test(arguments: ["ptrace", "process_vm_readv", "kcmp", "pidfd_getfd", "set_mempolicy", "personality"])
  func compatAllows(_ name: String) {
    #expect(compat.verdict(number(name), [8]) == .allow)
    #expect(payload.verdict(number(name), [8]) == .errno(EPERM))
  }

  @Test(arguments: ["unshare", "setns", "mount", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "perf_event_open"])
  func noProfileAllows(_ name: String) { #expect(compat.verdict(number(name)) == .errno(EPERM)) }

  @Test func aRequestMayAskForAStricterProfileOnly() throws {
    let filters = try SeccompFilters(profile: "default")
    #expect(try filters.profile(asked: nil) == .default)
    #expect(try filters.profile(asked: "strict") == .strict)
    let more = #expect(throws: SandboxError.self) { try filters.profile(asked: "compat") }
    #expect(
      more?.description
        == "seccomp: 'compat' allows more than this node's profile 'default'; allowed are strict, default")
    #expect(throws: SandboxError.self) { try filters.profile(asked: "none") }
    #expect(throws: SandboxError.self) { try filters.program(.compat) }
  }

  @Test func aViolationIsNamed() {
    func text(_ call: Int32?, _ architecture: UInt32) -> String {
      SyscallViolation(call: call, architecture: architecture).description
    }
    #expect(text(number("reboot"), nativeArchitecture) == "the system call reboot")
    #expect(text(88, 0x4000_0003) == "the system call reboot by another architecture's number")  // i386
    #expect(text(4095, nativeArchitecture).hasPrefix("system call 4095 of architecture 0x"))
    #expect(text(nil, 0) == "a system call that no job may make")
    #if arch(x86_64)
      #expect(text(0x4000_0001, nativeArchitecture) == "the system call write by another architecture's number")
    #endif
  }

  @Test(arguments: [
    "mount", "umount2", "move_mount", "open_tree", "mount_setattr", "fsopen", "fsmount", "fsconfig", "fspick",
    "pivot_root",
    "chroot", "unshare", "setns", "bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "userfaultfd",
    "ptrace", "process_vm_readv", "process_vm_writev", "perf_event_open", "pidfd_getfd", "kcmp", "settimeofday",
    "clock_settime", "clock_adjtime", "adjtimex",
    "sethostname", "setdomainname", "syslog", "vhangup", "fanotify_init", "process_madvise", "move_pages", "mbind",
  ])
  func whatIsDangerousIsRefused(_ name: String) {
    guard number(name) >= 0 else { return }
    #expect(payload.verdict(number(name)) == .errno(EPERM))
  }

  @Test func clone3SaysThatItIsNotThere() { #expect(payload.verdict(number("clone3")) == .errno(ENOSYS)) }

  @Test(arguments: [0, 0x11, 0x3D_0F00, 0x4111, 0x1_0000_0011] as [UInt64])
  func cloneWithoutNamespacesIsAllowed(_ flags: UInt64) { #expect(payload.verdict(number("clone"), [flags]) == .allow) }

  @Test(
    arguments: [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] as [UInt64])
  func cloneWithANamespaceIsRefused(_ flag: UInt64) {
    #expect(payload.verdict(number("clone"), [flag]) == .errno(EPERM))
    #expect(payload.verdict(number("clone"), [flag | 0x11 | 0xFFFF_0000_0000_0000]) == .errno(EPERM))
    #expect(payload.verdict(number("clone"), [flag | 0x3D_0F00]) == .errno(EPERM))
  }

  /// The kernel takes the request as 32 bits: whatever stands above them must not get one through.
  @Test(arguments: [0x5412, 0x541C, 0x5423] as [UInt64], [0, 1 << 32, 0xFFFF_FFFF_0000_0000] as [UInt64])
  func harmfulRequestsAreRefused(_ request: UInt64, _ above: UInt64) {
    #expect(payload.verdict(number("ioctl"), [1, request | above]) == .errno(EPERM))
  }

  @Test(
    arguments: [
      0x5401, 0x5413, 0x541B, 0x5402, 0x4004_5412, 0x5422, 0x5421, 0x5403, 0x541D, 0x1412, 0x8000_5423, 0, 0xFFFF_FFFF,
      0x8008_5412,
    ] as [UInt64])
  func otherRequestsAreAllowed(_ request: UInt64) { #expect(payload.verdict(number("ioctl"), [1, request]) == .allow) }

  /// Whatever stands in the bits the kernel does not look at.
  @Test(arguments: [0, 1 << 32, 0xFFFF_FFFF_0000_0000] as [UInt64])
  func hugePagesAreNotThere(_ above: UInt64) {
    for job in [payload, strict, compat] {
      #expect(job.verdict(number("mmap"), [0, 0, 3, 0x22]) == .allow)
      #expect(job.verdict(number("mmap"), [0, 0, 3, 0x4_0022 | above]) == .errno(ENOMEM))
      #expect(job.verdict(number("memfd_create"), [0, 3]) == .allow)
      #expect(job.verdict(number("memfd_create"), [0, 4 | above]) == .errno(EINVAL))
    }
    #expect(payload.verdict(number("shmget"), [0, 1, 0x200]) == .allow)
    #expect(payload.verdict(number("shmget"), [0, 1, 0xA00 | above]) == .errno(EPERM))
  }

  @Test(arguments: [0, 1 << 32, 0xFFFF_FFFF_0000_0000] as [UInt64])
  func theCoreLimitStays(_ above: UInt64) {
    for job in [payload, strict, compat] {
      #expect(job.verdict(number("setrlimit"), [4 | above, 0x1000]) == .errno(0))
      #expect(job.verdict(number("prlimit64"), [0, 4 | above, 0x1000, 0]) == .errno(0))
      #expect(job.verdict(number("prlimit64"), [0, 4 | above, 0x1_0000_0000, 0]) == .errno(0))
      #expect(job.verdict(number("prlimit64"), [0, 4 | above, 0, 0x1000]) == .allow)
      for resource: UInt64 in 0..<16 where resource != 4 {
        #expect(job.verdict(number("prlimit64"), [0, resource, 0x1000, 0]) == .allow)
        #expect(job.verdict(number("setrlimit"), [resource, 0x1000]) == .allow)
      }
    }
  }

  @Test func notificationPipesAndAsynchronousIOAreRefused() {
    #expect(payload.verdict(number("pipe2"), [0, 0x8_0800]) == .allow)
    #expect(payload.verdict(number("pipe2"), [0, 0x80]) == .errno(EPERM))
    #expect(payload.verdict(number("io_setup")) == .errno(ENOSYS))
    #expect(strict.verdict(number("io_setup")) == .errno(ENOSYS))
    #expect(compat.verdict(number("io_setup")) == .allow)
    #expect(payload.verdict(number("mq_open")) == .errno(ENOSYS) && compat.verdict(number("mq_open")) == .allow)
  }

  @Test(
    arguments: [(0, true), (0xFFFF_FFFF, true), (0x40000, true), (0x40_0000, false), (8, false)] as [(UInt64, Bool)])
  func personalities(_ persona: UInt64, _ allowed: Bool) {
    #expect(payload.verdict(number("personality"), [persona]) == (allowed ? .allow : .errno(EPERM)))
  }

  @Test(
    arguments: [
      ([1, 1, 0], true), ([1, 5, 0], true), ([2, 1, 0], true), ([2, 1, 6], true), ([10, 0x8_0802, 17], true),
      ([2, 2, 1], true), ([16, 3, 0], true), ([16, 3, 12], false), ([17, 3, 0], false), ([40, 1, 0], false),
      ([38, 5, 0], false), ([44, 3, 0], false),
      // SCTP by protocol and by type, DCCP, MPTCP, SMC, L2TP, raw, SOCK_PACKET; and with bits the kernel does not look at.
      ([2, 1, 132], false), ([2, 5, 0], false), ([10, 6, 0], false), ([2, 1, 262], false), ([2, 1, 256], false),
      ([2, 2, 115], false), ([2, 3, 1], false), ([2, 10, 3], false), ([1 << 32 | 2, 1, 132], false),
    ] as [([UInt64], Bool)])
  func socketFamilies(_ arguments: [UInt64], _ allowed: Bool) {
    #expect(payload.verdict(number("socket"), arguments) == (allowed ? .allow : .errno(EPERM)))
  }

  @Test(arguments: [0x4000_0003, 0x4000_0028, 0] as [UInt32])  // i386, arm, none
  func otherArchitecturesEndTheJob(_ architecture: UInt32) {
    for job in [payload, strict, compat] { #expect(job.verdict(1, architecture: architecture) == .notify) }
    #expect(supervisor.verdict(1, architecture: architecture) == .kill)
  }

  #if arch(x86_64)
    @Test func x32EndsTheJob() {
      #expect(payload.verdict(0x4000_0001) == .notify)  // write
      #expect(supervisor.verdict(0x4000_0001) == .kill)
    }
  #endif

  @Test func callsNobodyKnowsYetAreNotThere() { #expect(payload.verdict(511) == .errno(ENOSYS)) }

  @Test func pid1MayOnlyReadWaitAndSignal() {
    for name in ["read", "write", "ppoll", "wait4", "kill", "close", "clock_gettime", "exit_group"] {
      #expect(supervisor.verdict(number(name)) == .allow)
    }
    // Taking a notification, not answering one.
    #expect(supervisor.verdict(number("ioctl"), [9, 0xC050_2100]) == .allow)
    #expect(supervisor.verdict(number("ioctl"), [9, 0xC018_2101]) == .kill)
    for name in ["openat", "execve", "clone", "mmap", "socket", "setns", "ioctl"] {
      #expect(supervisor.verdict(number(name)) == .kill)
    }
  }

  @Test func anUnknownProfileIsRefused() {
    let error = #expect(throws: SandboxError.self) { try SeccompFilters(profile: "none") }
    #expect(error?.description == "isolation.seccomp: 'none' is not a profile; allowed are strict, default, compat")
  }
}
