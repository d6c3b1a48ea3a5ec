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
    try compiler.rule(FilterCompiler.refuse(ENOSYS), numbers: SyscallNumbers.tooNew)
    try ArgumentRules.add(compiler)
    switch self {
    case .strict:
      let out = Set(SyscallNames.notInStrict)
      try compiler.rule(FilterCompiler.allow, SyscallNames.allowed.filter { !out.contains($0) })
      try ArgumentRules.addForStrict(compiler)
    case .default, .compat:
      try compiler.rule(FilterCompiler.allow, SyscallNames.allowed)
      try ArgumentRules.addForDefault(compiler)
    }
    if self == .compat {
      try compiler.rule(
        FilterCompiler.allow,
        SyscallNames.compat + SyscallNames.asynchronous + SyscallNames.messageQueues + ["personality"])
    } else {
      // fs.aio-max-nr is the whole host's: one job could take it all. With ENOSYS databases fall back to threads.
      try compiler.rule(FilterCompiler.refuse(ENOSYS), SyscallNames.asynchronous)
      // As on a kernel without them, whether there is Landlock or not.
      try compiler.rule(FilterCompiler.refuse(ENOSYS), SyscallNames.messageQueues)
      // Linux, UNAME26 and ADDR_NO_RANDOMIZE for debuggers and sanitizers, and the query.
      let personas: [UInt64] = self == .strict ? [0, 0xFFFF_FFFF] : [0, 0x20000, 0x40000, 0x60000, 0xFFFF_FFFF]
      try compiler.rule(FilterCompiler.allow, ["personality"], argument: 0, isOneOf: personas)
    }
    return try compiler.compiled()
  }
}
