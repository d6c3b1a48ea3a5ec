import CSeccomp
import Glibc
import Sandbox
import Testing

/// Classic BPF as seccomp(2) runs it: enough of it to ask a filter what it says about a call.
struct FilterMachine {
  enum Verdict: Equatable {
    case allow, kill
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
  let payload: FilterMachine
  let supervisor: FilterMachine

  init() throws {
    let filters = try SeccompFilters(profile: "default")
    payload = FilterMachine(program: filters.payload)
    supervisor = FilterMachine(program: filters.supervisor)
  }

  @Test(arguments: [
    "read", "write", "openat", "execve", "mmap", "futex", "epoll_wait", "wait4", "exit_group", "getrandom", "statx",
    "close_range", "rseq", "prctl", "seccomp", "connect", "rt_sigreturn", "setresuid", "memfd_create", "dup3", "fcntl",
  ])
  func whatProgramsNeedIsAllowed(_ name: String) { #expect(payload.verdict(number(name)) == .allow) }

  @Test(arguments: [
    "mount", "umount2", "move_mount", "open_tree", "mount_setattr", "fsopen", "fsmount", "fsconfig", "fspick",
    "pivot_root",
    "chroot", "unshare", "setns", "bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
    "ptrace", "process_vm_readv", "process_vm_writev", "open_by_handle_at", "perf_event_open", "pidfd_getfd", "kcmp",
    "reboot", "swapon", "swapoff", "acct", "quotactl", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
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
  @Test(arguments: [0x5412, 0x541C] as [UInt64], [0, 1 << 32, 0xFFFF_FFFF_0000_0000] as [UInt64])
  func typingIntoTerminalsIsRefused(_ request: UInt64, _ above: UInt64) {
    #expect(payload.verdict(number("ioctl"), [1, request | above]) == .errno(EPERM))
  }

  @Test(
    arguments: [0x5401, 0x5413, 0x541B, 0x5402, 0x4004_5412, 0x5422, 0x1412, 0, 0xFFFF_FFFF, 0x8008_5412] as [UInt64])
  func otherRequestsAreAllowed(_ request: UInt64) { #expect(payload.verdict(number("ioctl"), [1, request]) == .allow) }

  @Test(
    arguments: [(0, true), (0xFFFF_FFFF, true), (0x40000, true), (0x40_0000, false), (8, false)] as [(UInt64, Bool)])
  func personalities(_ persona: UInt64, _ allowed: Bool) {
    #expect(payload.verdict(number("personality"), [persona]) == (allowed ? .allow : .errno(EPERM)))
  }

  @Test(
    arguments: [
      ([1, 1, 0], true), ([2, 1, 0], true), ([10, 2, 0], true), ([16, 3, 0], true), ([16, 3, 12], false),
      ([17, 3, 0], false), ([40, 1, 0], false), ([38, 5, 0], false), ([44, 3, 0], false),
    ] as [([UInt64], Bool)])
  func socketFamilies(_ arguments: [UInt64], _ allowed: Bool) {
    #expect(payload.verdict(number("socket"), arguments) == (allowed ? .allow : .errno(EPERM)))
  }

  @Test func otherArchitecturesAreKilled() {
    for machine in [payload, supervisor] {
      #expect(machine.verdict(1, architecture: 0x4000_0003) == .kill)  // i386
      #expect(machine.verdict(1, architecture: 0x4000_0028) == .kill)  // arm
      #expect(machine.verdict(1, architecture: 0) == .kill)
    }
    #if arch(x86_64)
      #expect(payload.verdict(0x4000_0001) == .kill)  // x32 write
      #expect(supervisor.verdict(0x4000_0001) == .kill)
    #endif
  }

  @Test func callsNobodyKnowsYetAreNotThere() { #expect(payload.verdict(511) == .errno(ENOSYS)) }

  @Test func pid1MayOnlyReadWaitAndSignal() {
    for name in ["read", "write", "ppoll", "wait4", "kill", "close", "clock_gettime", "exit_group"] {
      #expect(supervisor.verdict(number(name)) == .allow)
    }
    for name in ["openat", "execve", "clone", "mmap", "socket", "setns", "ioctl"] {
      #expect(supervisor.verdict(number(name)) == .kill)
    }
  }

  @Test func anUnknownProfileIsRefused() {
    let error = #expect(throws: SandboxError.self) { try SeccompFilters(profile: "none") }
    #expect(error?.description == "isolation.seccomp: 'none' is not a profile; allowed is default")
  }
}
