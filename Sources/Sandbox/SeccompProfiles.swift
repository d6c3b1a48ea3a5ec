import CSeccomp
import Glibc

/// What joblet-init may call once its job runs: read pipes, wait, signal, write to descriptors it has. Anything else means that
/// it was taken over, so it is killed, and the job with it.
enum SupervisorProfile {
  static let allowed = [
    "read", "write", "ppoll", "wait4", "kill", "close", "clock_gettime", "exit_group", "rt_sigreturn",
    "restart_syscall",
  ]

  static func compile() throws(SandboxError) -> SeccompProgram {
    let compiler = try FilterCompiler.make(defaultAction: FilterCompiler.killProcess)
    try compiler.rule(FilterCompiler.allow, allowed)
    return try compiler.compiled()
  }
}

/// `isolation.seccomp: default`: what programs need, and nothing that makes namespaces, mounts, keys, or reaches the kernel's
/// young and large interfaces. What is not allowed gets EPERM.
enum DefaultProfile {
  static func compile() throws(SandboxError) -> SeccompProgram {
    let compiler = try FilterCompiler.make(defaultAction: FilterCompiler.refuse(EPERM))
    try compiler.rule(FilterCompiler.allow, SyscallNames.allowed)
    // Its flags are behind a pointer, out of a filter's sight. With ENOSYS the C libraries fall back to clone.
    try compiler.rule(FilterCompiler.refuse(ENOSYS), ["clone3"])
    try compiler.rule(FilterCompiler.allow, ["clone"], [masked(0, namespaceFlags, equals: 0)])
    try compiler.rule(FilterCompiler.refuse(ENOSYS), numbers: SyscallNumbers.tooNew)
    try allowHarmlessIoctls(compiler)
    // Linux, UNAME26, ADDR_NO_RANDOMIZE for debuggers and sanitizers, and the query.
    for persona: UInt64 in [0, 0x20000, 0x40000, 0x60000, 0xFFFF_FFFF] {
      try compiler.rule(FilterCompiler.allow, ["personality"], [equal(0, persona)])
    }
    // Socket families a job has a use for; the others are rarely used kernel code. AF_NETLINK is there for getaddrinfo and
    // `ip addr` (protocol NETLINK_ROUTE alone), and works on the job's own network namespace only.
    for family: UInt64 in [1, 2, 10] {
      try compiler.rule(FilterCompiler.allow, ["socket"], [masked(0, 0xFFFF_FFFF, equals: family)])
    }
    try compiler.rule(
      FilterCompiler.allow, ["socket"], [masked(0, 0xFFFF_FFFF, equals: 16), masked(2, 0xFFFF_FFFF, equals: 0)])
    // socketpair(2) makes a socket of the family before it asks whether that family has pairs: without a rule of its own it
    // reaches, and has the kernel load, every family that `socket` refuses.
    try compiler.rule(FilterCompiler.allow, ["socketpair"], [masked(0, 0xFFFF_FFFF, equals: 1)])
    return try compiler.compiled()
  }

  /// Every request but TIOCSTI (0x5412), which types into a terminal as if its user did, and TIOCLINUX (0x541C), which pastes
  /// into a console. The kernel looks at the low 32 bits, so the rules must too: "64 bits not equal" would let 0x1_0000_5412
  /// through (CVE-2019-10063). There is no masked "not equal", so: some bit above the low four is not theirs, or the low four
  /// are neither 2 nor C.
  private static func allowHarmlessIoctls(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    for bit in 4..<32 {
      let mask = UInt64(1) << UInt64(bit)
      try compiler.rule(FilterCompiler.allow, ["ioctl"], [masked(1, mask, equals: ~0x5412 & mask)])
    }
    for nibble: UInt64 in 0...15 where nibble != 0x2 && nibble != 0xC {
      try compiler.rule(FilterCompiler.allow, ["ioctl"], [masked(1, 0xF, equals: nibble)])
    }
  }

  /// CLONE_NEWTIME NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET. NEWTIME shares its bit with clone's exit signal, of
  /// which it is no part (clone(2) can't make a time namespace), so it is left out here.
  static let namespaceFlags: UInt64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000

  private static func masked(_ argument: UInt32, _ mask: UInt64, equals value: UInt64) -> scmp_arg_cmp {
    scmp_arg_cmp(arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
  }

  private static func equal(_ argument: UInt32, _ value: UInt64) -> scmp_arg_cmp {
    scmp_arg_cmp(arg: argument, op: SCMP_CMP_EQ, datum_a: value, datum_b: 0)
  }
}
