import CSeccomp
import Glibc
import JobletModel

/// What joblet-init may call once its job runs: read pipes, wait, signal, write to descriptors it has, ask the listener who made
/// a call that is never legitimate. Anything else means that it was taken over, so it is killed, and the job with it.
enum SupervisorProfile {
  static let allowed = [
    "read", "write", "ppoll", "wait4", "kill", "close", "clock_gettime", "exit_group", "rt_sigreturn",
    "restart_syscall",
  ]
  /// SECCOMP_IOCTL_NOTIF_RECV: `_IOWR('!', 0, struct seccomp_notif)`. Not SEND, with which it could let a call go on.
  static let receiveNotification: UInt64 = 0xC050_2100

  static func compile() throws(SandboxError) -> SeccompProgram {
    let compiler = try FilterCompiler.make(defaultAction: FilterCompiler.killProcess)
    try compiler.rule(FilterCompiler.allow, allowed)
    try compiler.rule(
      FilterCompiler.allow, ["ioctl"], [FilterCompiler.low32(1, equals: SupervisorProfile.receiveNotification)])
    return try compiler.compiled()
  }
}

/// What no program of a job has a reason to call: the caller waits in the call, which is never made, and its job is ended.
///
/// A filter of its own, and not a rule of the profiles: only one that joblet-init loads leaves it the listener that tells which
/// call it was. Of two filters' answers the stricter holds, and EPERM is stricter than a notification; so the profiles let through
/// to this one what it is to catch, and joblet-init loads no profile without it.
enum ViolationFilter {
  static func compile() throws(SandboxError) -> SeccompProgram {
    let compiler = try FilterCompiler.make(
      defaultAction: FilterCompiler.allow, otherArchitectures: FilterCompiler.notify)
    try compiler.rule(FilterCompiler.notify, SyscallNames.neverLegitimate)
    return try compiler.compiled()
  }
}

/// A profile's rules: what is not allowed gets EPERM.
extension SeccompProfile {
  func compile() throws(SandboxError) -> SeccompProgram {
    let compiler = try FilterCompiler.make(
      defaultAction: FilterCompiler.refuse(EPERM), otherArchitectures: FilterCompiler.allow)
    // For the filter below this one, which catches them.
    try compiler.rule(FilterCompiler.allow, SyscallNames.neverLegitimate)
    // Its flags are behind a pointer, out of a filter's sight. With ENOSYS the C libraries fall back to clone.
    try compiler.rule(FilterCompiler.refuse(ENOSYS), ["clone3"])
    try compiler.rule(
      FilterCompiler.allow, ["clone"], [FilterCompiler.masked(0, SeccompProfile.namespaceFlags, equals: 0)])
    try compiler.rule(FilterCompiler.refuse(ENOSYS), numbers: SyscallNumbers.tooNew)
    // socketpair(2) makes a socket of the family before it asks whether that family has pairs: without a rule of its own it
    // reaches, and has the kernel load, every family that `socket` refuses.
    try compiler.rule(FilterCompiler.allow, ["socketpair"], [FilterCompiler.low32(0, equals: 1)])
    switch self {
    case .strict: try addStrictRules(compiler)
    case .default, .compat: try addStandardRules(compiler)
    }
    return try compiler.compiled()
  }

  private func addStrictRules(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    let out = Set(SyscallNames.notInStrict)
    try compiler.rule(FilterCompiler.allow, SyscallNames.allowed.filter { !out.contains($0) })
    // The query, and what every program has anyway.
    for persona: UInt64 in [0, 0xFFFF_FFFF] { try allowPersonality(persona, compiler) }
    for request in SeccompProfile.strictRequests {
      try compiler.rule(FilterCompiler.allow, ["ioctl"], [FilterCompiler.low32(1, equals: request)])
    }
    // FIFOs and, as old programs make them, regular files; no device, which could not be used, and no socket.
    for kind: UInt64 in [0, 0x1000, 0x8000] {
      try compiler.rule(FilterCompiler.allow, ["mknod"], [FilterCompiler.masked(1, 0xF000, equals: kind)])
      try compiler.rule(FilterCompiler.allow, ["mknodat"], [FilterCompiler.masked(2, 0xF000, equals: kind)])
    }
  }

  private func addStandardRules(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    try compiler.rule(FilterCompiler.allow, SyscallNames.allowed)
    try compiler.rule(FilterCompiler.allow, ["mknod", "mknodat"])
    if self == .compat {
      try compiler.rule(FilterCompiler.allow, SyscallNames.compat)
      try compiler.rule(FilterCompiler.allow, ["personality"])
    } else {
      // Linux, UNAME26, ADDR_NO_RANDOMIZE for debuggers and sanitizers, and the query.
      for persona: UInt64 in [0, 0x20000, 0x40000, 0x60000, 0xFFFF_FFFF] { try allowPersonality(persona, compiler) }
    }
    try allowHarmlessIoctls(compiler)
    // Socket families a job has a use for; the others are rarely used kernel code. AF_NETLINK is there for getaddrinfo and
    // `ip addr` (protocol NETLINK_ROUTE alone), and works on the job's own network namespace only.
    for family: UInt64 in [1, 2, 10] {
      try compiler.rule(FilterCompiler.allow, ["socket"], [FilterCompiler.low32(0, equals: family)])
    }
    try compiler.rule(
      FilterCompiler.allow, ["socket"], [FilterCompiler.low32(0, equals: 16), FilterCompiler.low32(2, equals: 0)])
  }

  private func allowPersonality(
    _ persona: UInt64, _ compiler: borrowing FilterCompiler
  ) throws(SandboxError) {
    let same = scmp_arg_cmp(arg: 0, op: SCMP_CMP_EQ, datum_a: persona, datum_b: 0)
    try compiler.rule(FilterCompiler.allow, ["personality"], [same])
  }

  /// Every request but TIOCSTI (0x5412), which types into a terminal as if its user did, and TIOCLINUX (0x541C), which pastes
  /// into a console. The kernel looks at the low 32 bits, so the rules must too: "64 bits not equal" would let 0x1_0000_5412
  /// through (CVE-2019-10063). There is no masked "not equal", so: some bit above the low four is not theirs, or the low four
  /// are neither 2 nor C.
  private func allowHarmlessIoctls(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    for bit in 4..<32 {
      let mask = UInt64(1) << UInt64(bit)
      try compiler.rule(FilterCompiler.allow, ["ioctl"], [FilterCompiler.masked(1, mask, equals: ~0x5412 & mask)])
    }
    for nibble: UInt64 in 0...15 where nibble != 0x2 && nibble != 0xC {
      try compiler.rule(FilterCompiler.allow, ["ioctl"], [FilterCompiler.masked(1, 0xF, equals: nibble)])
    }
  }

  /// What programs ask of files, pipes and terminals without changing a terminal: TCGETS, TIOCGPGRP, TIOCGWINSZ, FIONREAD,
  /// FIONBIO, FIONCLEX, FIOCLEX, FS_IOC_GETFLAGS, FS_IOC_FIEMAP, FICLONE, FICLONERANGE.
  private static let strictRequests: [UInt64] = [
    0x5401, 0x540F, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x8008_6601, 0xC020_660B, 0x4004_9409, 0x4020_940D,
  ]

  /// CLONE_NEWTIME NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET. NEWTIME shares its bit with clone's exit signal, of
  /// which it is no part (clone(2) can't make a time namespace), so it is left out here.
  static let namespaceFlags: UInt64 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
}
