import CSeccomp
import Glibc

/// Calls that are allowed or refused by their arguments. A filter sees numbers only, nothing behind a pointer; and where the
/// kernel takes an `int` it looks at the low 32 bits, so the rules must too: "64 bits not equal" lets through whatever has a
/// bit set above (CVE-2019-10063).
enum ArgumentRules {
  /// For every profile.
  static func add(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    // Its flags are behind a pointer. With ENOSYS the C libraries fall back to clone.
    try compiler.rule(FilterCompiler.refuse(ENOSYS), ["clone3"])
    try compiler.rule(FilterCompiler.allow, ["clone"], [FilterCompiler.masked(0, namespaceFlags, equals: 0)])
    // socketpair(2) makes a socket of the family before it asks whether that family has pairs: without a rule of its own it
    // reaches, and has the kernel load, every family that `socket` refuses.
    try compiler.rule(FilterCompiler.allow, ["socketpair"], [FilterCompiler.low32(0, equals: 1)])
    // O_NOTIFICATION_PIPE (O_EXCL): watch queues, which no program here needs (CVE-2022-0995).
    try compiler.rule(FilterCompiler.allow, ["pipe2"], [FilterCompiler.masked(1, 0x80, equals: 0)])
    try addHugePages(compiler)
    try addCoreLimit(compiler)
  }

  /// MAP_HUGETLB and MFD_HUGETLB take pages from a pool of the host that memory.max does not count. They fail as they do on a
  /// host whose pool is empty.
  private static func addHugePages(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    for (name, argument, flag, code) in [("mmap", UInt32(3), UInt64(0x40000), ENOMEM), ("memfd_create", 1, 4, EINVAL)] {
      try compiler.rule(FilterCompiler.allow, [name], [FilterCompiler.masked(argument, flag, equals: 0)])
      try compiler.rule(FilterCompiler.refuse(code), [name], [FilterCompiler.masked(argument, flag, equals: flag)])
    }
  }

  /// The job keeps the core limit it is born with: 1, which alone keeps the kernel from handing a core to a handler on the host
  /// (core(5): a pipe is no file, so 0 does not hold). Told "done", since programs that turn cores off give up on an error.
  private static func addCoreLimit(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    let core: UInt64 = 4
    let others = (UInt64(0)..<16).filter { $0 != core }
    try compiler.rule(FilterCompiler.allow, ["setrlimit"], argument: 0, isOneOf: others)
    try compiler.rule(FilterCompiler.allow, ["prlimit64"], argument: 1, isOneOf: others)
    let isCore = FilterCompiler.low32(1, equals: core)
    let noNewOne = scmp_arg_cmp(arg: 2, op: SCMP_CMP_EQ, datum_a: 0, datum_b: 0)
    let newOne = scmp_arg_cmp(arg: 2, op: SCMP_CMP_NE, datum_a: 0, datum_b: 0)
    try compiler.rule(FilterCompiler.allow, ["prlimit64"], [isCore, noNewOne])
    try compiler.rule(FilterCompiler.refuse(0), ["prlimit64"], [isCore, newOne])
    try compiler.rule(FilterCompiler.refuse(0), ["setrlimit"], [FilterCompiler.low32(0, equals: core)])
  }

  static func addForStrict(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    try compiler.rule(FilterCompiler.allow, ["ioctl"], argument: 1, isOneOf: strictRequests)
    // FIFOs and, as old programs make them, regular files; no device, which could not be used, and no socket.
    for kind: UInt64 in [0, 0x1000, 0x8000] {
      try compiler.rule(FilterCompiler.allow, ["mknod"], [FilterCompiler.masked(1, 0xF000, equals: kind)])
      try compiler.rule(FilterCompiler.allow, ["mknodat"], [FilterCompiler.masked(2, 0xF000, equals: kind)])
    }
  }

  /// For `default` and `compat`.
  static func addForDefault(_ compiler: borrowing FilterCompiler) throws(SandboxError) {
    try compiler.rule(FilterCompiler.allow, ["mknod", "mknodat"])
    try compiler.rule(FilterCompiler.allow, ["ioctl"], argument: 1, isNoneOf: harmfulRequests)
    // SHM_HUGETLB, as above.
    try compiler.rule(FilterCompiler.allow, ["shmget"], [FilterCompiler.masked(2, 0x800, equals: 0)])
    try compiler.rule(FilterCompiler.allow, ["socket"], [FilterCompiler.low32(0, equals: 1)])
    // AF_INET and AF_INET6 with TCP, UDP and the echo of ping: other protocols and types (SCTP, DCCP, SMC, L2TP, SOCK_PACKET,
    // which is AF_PACKET by another name) are rarely used kernel code, loaded when somebody asks.
    for family: UInt64 in [2, 10] {
      for (type, protocols) in [(UInt64(1), [UInt64(0), 6]), (2, [0, 17, 1, 58])] {
        for one in protocols {
          try compiler.rule(
            FilterCompiler.allow, ["socket"],
            [
              FilterCompiler.low32(0, equals: family), FilterCompiler.masked(1, 0xF, equals: type),
              FilterCompiler.low32(2, equals: one),
            ])
        }
      }
    }
    // AF_NETLINK is there for getaddrinfo and `ip addr` (protocol NETLINK_ROUTE alone), and works on the job's own network
    // namespace only.
    try compiler.rule(
      FilterCompiler.allow, ["socket"], [FilterCompiler.low32(0, equals: 16), FilterCompiler.low32(2, equals: 0)])
  }

  /// TIOCSTI types into a terminal as if its user did, TIOCLINUX pastes into a console, TIOCSETD gives a terminal a line
  /// discipline: drivers of modems and buses with a history of holes, loaded when somebody asks.
  static let harmfulRequests: [UInt64] = [0x5412, 0x541C, 0x5423]

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

extension FilterCompiler {
  /// A rule for calls whose argument's low 32 bits are one of these.
  func rule(_ action: UInt32, _ names: [String], argument: UInt32, isOneOf values: [UInt64]) throws(SandboxError) {
    for value in values { try rule(action, names, [FilterCompiler.low32(argument, equals: value)]) }
  }

  /// A rule for calls whose argument's low 32 bits are none of these.
  ///
  /// There is no masked "not equal", so: for every beginning of a value, the calls that begin as it does and go on with the
  /// other bit, unless another value begins so.
  func rule(_ action: UInt32, _ names: [String], argument: UInt32, isNoneOf values: [UInt64]) throws(SandboxError) {
    for bit in 0..<32 {
      let mask: UInt64 = 0xFFFF_FFFF & ~((1 << UInt64(bit)) - 1)
      let beginnings = Set(values.map { $0 & mask })
      let others = Set(beginnings.map { $0 ^ (1 << UInt64(bit)) }).subtracting(beginnings)
      for other in others.sorted() { try rule(action, names, [FilterCompiler.masked(argument, mask, equals: other)]) }
    }
  }
}
