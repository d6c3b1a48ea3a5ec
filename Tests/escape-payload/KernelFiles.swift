import Glibc

/// The kernel's own files: what of it a job may read, and that it changes nothing.
func attackKernelFiles() {
  // Masked: a file is /dev/null by now, a directory is empty.
  for name in ["kcore", "keys", "timer_list", "sched_debug", "interrupts", "latency_stats", "timer_stats"] {
    report("masked /proc/\(name)", maskedFile("/proc/\(name)"))
  }
  for name in ["scsi", "acpi", "asound"] {
    report("masked /proc/\(name)", entries("/proc/\(name)").map { $0.isEmpty ? "masked" : "\($0)" } ?? "ENOENT")
  }
  let values = [
    ("/proc/sys/kernel/core_pattern", "|/bin/sh"), ("/proc/sys/kernel/hostname", "escaped"),
    ("/proc/sys/kernel/domainname", "escaped"), ("/proc/sys/kernel/modprobe", "/work/x"),
    ("/proc/sys/kernel/sysrq", "1"), ("/proc/sys/vm/drop_caches", "3"), ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/fs/suid_dumpable", "1"), ("/proc/sys/kernel/ns_last_pid", "1"),
    ("/proc/sys/net/ipv4/ip_forward", "1"), ("/proc/sys/user/max_user_namespaces", "1"),
    ("/proc/sysrq-trigger", "h"), ("/proc/irq/default_smp_affinity", "1"),
    ("/proc/pressure/memory", "some 150000 2000000"), ("/proc/self/uid_map", "0 0 1"),
    ("/proc/self/gid_map", "0 0 1"), ("/proc/self/setgroups", "allow"), ("/proc/self/oom_score_adj", "-1000"),
    ("/proc/sys/fs/binfmt_misc/register", ":x:M::x::/work/x:"), ("/proc/fs/xfs/stat", "x"),
  ]
  for (path, value) in values { report("write \(path)", writing(value, to: path)) }
  for name in ["kmsg", "kpagecount", "kpageflags", "slabinfo", "vmallocinfo", "iomem"] {
    report("read /proc/\(name)", withoutAddresses(reading("/proc/\(name)", 4096)))
  }
  report("kernel addresses", kernelAddresses())
  report("mounts of cgroups", mountsOfCgroups())
  for path in ["/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids.max"] {
    report("write \(path)", writing("1", to: path))
  }
  report("the path of the own cgroup", String(reading("/proc/self/cgroup").dropLast()))
  report("processes in /proc", processes().map(String.init).joined(separator: " "))
}

private func maskedFile(_ path: String) -> String {
  var info = stat()
  guard stat(path, &info) == 0 else { return word(Int(-errno)) }
  if info.st_rdev == makeDevice(1, 3), info.st_mode & S_IFMT == S_IFCHR { return "masked" }
  return "readable: \(reading(path, 64))"
}

/// To those without CAP_SYSLOG and CAP_SYS_ADMIN the kernel shows zeros for addresses.
private func kernelAddresses() -> String { withoutAddresses(reading("/proc/kallsyms", 4096)) }

/// `nothing` for lines that begin with zeros alone; an error's name as it is.
private func withoutAddresses(_ text: String) -> String {
  guard text.contains("\n") else { return text.isEmpty ? "nothing" : text }
  let addresses = text.split(separator: "\n").dropLast().map { $0.drop { $0 == " " }.prefix { $0 != " " } }
  return addresses.allSatisfy { $0.allSatisfy { "0-".contains($0) } } ? "nothing" : text
}

private func mountsOfCgroups() -> String {
  let mounts = reading("/proc/self/mountinfo").split(separator: "\n").filter { $0.contains(" - cgroup") }
  return mounts.isEmpty ? "none" : "\(mounts)"
}

/// The numbers in /proc.
func processes() -> [Int] { (entries("/proc") ?? []).compactMap { Int($0) }.sorted() }
