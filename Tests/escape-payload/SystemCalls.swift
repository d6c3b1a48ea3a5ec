import CEscape
import Glibc

/// Calls that would change namespaces, mounts, identity, time or the kernel, or reach its rarely used parts. Each with
/// arguments that would work if nothing but the filter stood in the way, where there are such arguments.
func attackSystemCalls() {
  attackMounts()
  attackNamespaces()
  attackProcessesOfOthers()
  attackKernelInterfaces()
  attackSockets()
  attackIdentity()
  attackTimeAndNames()
}

private func attackMounts() {
  let none = pointer("none")
  let tmpfs = pointer("tmpfs")
  let work = pointer("/work")
  let usr = pointer("/usr")
  report("mount tmpfs", word(call("mount", none, work, tmpfs, 0, 0)))
  report("mount proc", word(call("mount", none, work, pointer("proc"), 0, 0)))
  report("mount cgroup2", word(call("mount", none, work, pointer("cgroup2"), 0, 0)))
  report("mount cgroup", word(call("mount", none, work, pointer("cgroup"), 0, pointer("memory"))))
  report("bind mount", word(call("mount", usr, work, 0, 0x1000, 0)))
  report("remount /usr writable", word(call("mount", 0, usr, 0, 0x20 | 0x1000, 0)))
  report("remount the root writable", word(call("mount", 0, pointer("/"), 0, 0x20, 0)))
  report("umount a mask", word(call("umount2", pointer("/proc/kcore"), 2)))
  report("umount /usr", word(call("umount2", usr, 2)))
  report("fsopen", word(call("fsopen", tmpfs, 0)))
  report("fspick", word(call("fspick", -100, usr, 0)))
  report("fsconfig", word(call("fsconfig", 0, 0, 0, 0, 0)))
  report("fsmount", word(call("fsmount", 0, 0, 0)))
  report("open_tree", word(call("open_tree", -100, usr, 1)))
  report("move_mount", word(call("move_mount", -100, usr, -100, work, 0)))
  // Takes MOUNT_ATTR_RDONLY away from /usr.
  let attributes = UnsafeMutableRawPointer.allocate(byteCount: 32, alignment: 8)
  attributes.initializeMemory(as: UInt64.self, repeating: 0, count: 4)
  attributes.storeBytes(of: 1, toByteOffset: 8, as: UInt64.self)
  report("mount_setattr", word(call("mount_setattr", -100, usr, 0, Int(bitPattern: attributes), 32)))
  report("pivot_root", word(call("pivot_root", pointer("/work"), pointer("/work"))))
  report("chroot", word(call("chroot", work)))
}

private let namespaces: [(String, UInt)] = [
  ("user", 0x1000_0000), ("mount", 0x0002_0000), ("pid", 0x2000_0000), ("network", 0x4000_0000), ("ipc", 0x0800_0000),
  ("uts", 0x0400_0000), ("cgroup", 0x0200_0000),
]

private func attackNamespaces() {
  for (name, flag) in namespaces + [("time", 0x80)] {
    report("unshare \(name)", word(call("unshare", Int(flag))))
  }
  for (name, flag) in namespaces {
    report("clone \(name)", word(escape_clone(flag | UInt(SIGCHLD))))
    while waitpid(-1, nil, WNOHANG) > 0 {}
  }
  let arguments = UnsafeMutableRawPointer.allocate(byteCount: 88, alignment: 8)
  arguments.initializeMemory(as: UInt64.self, repeating: 0, count: 11)
  arguments.storeBytes(of: 0x1000_0000, as: UInt64.self)
  report("clone3 user", word(call("clone3", Int(bitPattern: arguments), 88)))
  // CLONE_INTO_CGROUP with a descriptor that is none: refused before anything is looked at.
  arguments.storeBytes(of: 0x2_0000_0000, as: UInt64.self)
  report("clone3 into a cgroup", word(call("clone3", Int(bitPattern: arguments), 88)))
  for name in ["user", "mnt", "pid", "net"] {
    let file = open("/proc/self/ns/\(name)", O_RDONLY | O_CLOEXEC)
    report("setns \(name)", word(call("setns", Int(file), 0)))
    close(file)
  }
  let one = call("pidfd_open", 1, 0)
  report("setns of PID 1", word(call("setns", one, 0x2_0000)))
  if one >= 0 { close(CInt(one)) }
}

private func attackProcessesOfOthers() {
  report("ptrace PID 1", word(call("ptrace", 16, 1, 0, 0)))
  report("ptrace: trace me", word(call("ptrace", 0, 0, 0, 0)))
  report("process_vm_readv PID 1", word(call("process_vm_readv", 1, zeros(16), 1, zeros(16), 1, 0)))
  report("process_vm_writev PID 1", word(call("process_vm_writev", 1, zeros(16), 1, zeros(16), 1, 0)))
  report("kcmp", word(call("kcmp", Int(getpid()), Int(getpid()), 0, 0, 0)))
  let own = call("pidfd_open", Int(getpid()), 0)
  report("pidfd_getfd", word(call("pidfd_getfd", own, 1, 0)))
  if own >= 0 { close(CInt(own)) }
  report("process_madvise", word(call("process_madvise", own, 0, 0, 20, 0)))
  report("move_pages", word(call("move_pages", 1, 0, 0, 0, 0, 0)))
  report("migrate_pages", word(call("migrate_pages", 1, 0, 0, 0)))
}

private func attackKernelInterfaces() {
  report("keyctl", word(call("keyctl", 0, -3, 0)))
  report("add_key", word(call("add_key", pointer("user"), pointer("x"), pointer("y"), 1, -3)))
  report("request_key", word(call("request_key", pointer("user"), pointer("x"), 0, -3)))
  report("bpf", word(call("bpf", 0, zeros(128), 128)))
  report("perf_event_open", word(call("perf_event_open", zeros(128), 0, -1, -1, 0)))
  report("userfaultfd", word(call("userfaultfd", 0x80001)))
  report("io_uring_setup", word(call("io_uring_setup", 4, zeros(128))))
  report("io_uring_enter", word(call("io_uring_enter", 0, 0, 0, 0, 0, 0)))
  report("io_uring_register", word(call("io_uring_register", 0, 0, 0, 0)))
  report("fanotify_init", word(call("fanotify_init", 0x200, 0)))
  report("memfd_secret", word(call("memfd_secret", 0)))
  report("syslog", word(call("syslog", 3, zeros(64), 64)))
  report("vhangup", word(call("vhangup")))
  report("modify_ldt", word(call("modify_ldt", 0, zeros(16), 16)))
  report("set_mempolicy", word(call("set_mempolicy", 0, 0, 0)))
  report("personality READ_IMPLIES_EXEC", word(call("personality", 0x40_0000)))
  report("a watch queue", word(call("pipe2", zeros(8), 0x80)))
  report("legacy AIO", word(call("io_setup", 1, zeros(8))))
  report("huge pages in a memfd", word(call("memfd_create", pointer("huge"), 4)))
  report("huge pages mapped", mapping(flags: 0x40000))
}

private func mapping(flags: Int) -> String {
  let result = call("mmap", 0, 2 << 20, 3, 0x22 | flags, -1, 0)
  if result > 0 { munmap(UnsafeMutableRawPointer(bitPattern: result), 2 << 20) }
  return word(result)
}

private func attackSockets() {
  let families = [
    ("AF_PACKET", 17, 3, 0x300), ("AF_ALG", 38, 5, 0), ("AF_VSOCK", 40, 1, 0), ("AF_KEY", 15, 3, 2),
    ("AF_BLUETOOTH", 31, 3, 1), ("AF_XDP", 44, 3, 0), ("AF_TIPC", 30, 1, 0), ("AF_CAN", 29, 3, 1), ("AF_RDS", 21, 5, 0),
    ("AF_NETLINK audit", 16, 3, 9), ("AF_NETLINK xfrm", 16, 3, 6), ("AF_NETLINK netfilter", 16, 3, 12),
    ("AF_NETLINK generic", 16, 3, 16), ("AF_NETLINK uevents", 16, 3, 15), ("raw IPv4", 2, 3, 1),
    ("raw IPv6", 10, 3, 58),
    ("SCTP", 2, 1, 132), ("DCCP", 2, 6, 33), ("SMC", 2, 1, 256),
  ]
  for (name, family, type, number) in families {
    let result = call("socket", family, type, number)
    report("socket \(name)", word(result))
    if result >= 0 { close(CInt(result)) }
  }
  report("socketpair AF_VSOCK", word(call("socketpair", 40, 1, 0, zeros(8))))
}

private func attackIdentity() {
  report("become root", word(call("setresuid", 0, 0, 0)))
  report("become root's group", word(call("setresgid", 0, 0, 0)))
  report("root's groups", word(call("setgroups", 1, zeros(4))))
  report("take capabilities", takeCapabilities())
  report("leave no_new_privs", word(call("prctl", 38, 0, 0, 0, 0)))
  report("leave seccomp", word(call("prctl", 22, 0, 0, 0, 0)))
  report("change the memory map", word(call("prctl", 35, 1, 4096, 0, 0)))
  report("the bounding set", word(call("prctl", 24, 1, 0, 0, 0)))
  report("capabilities in /proc", capabilities())
}

private func takeCapabilities() -> String {
  let header = UnsafeMutablePointer<UInt32>.allocate(capacity: 2)
  header[0] = 0x2008_0522
  header[1] = 0
  let data = UnsafeMutablePointer<UInt32>.allocate(capacity: 6)
  for index in 0..<6 { data[index] = .max }
  return word(call("capset", Int(bitPattern: header), Int(bitPattern: data)))
}

func capabilities() -> String {
  let lines = reading("/proc/self/status").split(separator: "\n").filter { $0.hasPrefix("Cap") }
  return lines.count == 5 && lines.allSatisfy { $0.hasSuffix("\t0000000000000000") } ? "none" : "\(lines)"
}

private func attackTimeAndNames() {
  let time = UnsafeMutablePointer<timespec>.allocate(capacity: 1)
  time.pointee = timespec(tv_sec: 1_000_000_000, tv_nsec: 0)
  report("clock_settime", word(call("clock_settime", 0, Int(bitPattern: time))))
  report("settimeofday", word(call("settimeofday", Int(bitPattern: time), 0)))
  report("adjtimex", word(call("adjtimex", zeros(256))))
  report("clock_adjtime", word(call("clock_adjtime", 0, zeros(256))))
  report("sethostname", word(call("sethostname", pointer("escaped"), 7)))
  report("setdomainname", word(call("setdomainname", pointer("escaped"), 7)))
}

/// A call that no job has a reason for: the first one ends the job.
func attackFatally(_ name: String) {
  let result: Int
  switch name {
  case "int80": result = escape_call_32bit()
  case "x32": result = escape_call_x32()
  default: result = call(name, zeros(64), zeros(64), zeros(64), 0, 0)
  }
  report(name, word(result))
}
