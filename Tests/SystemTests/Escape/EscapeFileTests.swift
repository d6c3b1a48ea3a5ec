import Testing

extension SystemTests.Escape {
  /// Files that are not the job's, and the kernel's own.
  @Suite struct Files {
    private static let escapes: [String: String] = [
      "dot-dot": "ENOENT", "symlink in /work": "ENOENT", "symlink through /proc/1/root": "ENOENT",
      "/proc/self/root": "ENOENT", "/proc/self/cwd": "ENOENT", "/proc/1/root/etc/shadow": "ENOENT",
      "/proc/1/cwd": "ENOENT", "/proc/1/exe": "ENOENT", "/proc/1/environ": "ENOENT", "/proc/1/mem": "ENOENT",
      "/proc/1/maps": "ENOENT", "/proc/1/fd": "ENOENT", "/proc/1/fd/4": "ENOENT", "/proc/1/ns/mnt": "ENOENT",
      "/proc/1/cmdline": "ENOENT",
      // CVE-2019-5736: the program that starts jobs, overwritten through /proc.
      "rewrite /proc/1/exe": "ENOENT", "rewrite /proc/self/exe": "EACCES|EROFS|ETXTBSY",
      // CVE-2024-21626: a descriptor of the host's left open.
      "the descriptors left open": "0 1 2",
      "the host's secret in an allowed mount": "EACCES", "link the host's secret into /work": "EXDEV|EPERM",
      "a device node in an allowed mount": "EACCES", "write into /usr": "EROFS|EACCES",
      "write into the root": "EROFS|EACCES", "write into /etc": "EROFS|EACCES", "write /etc/passwd": "EACCES|EROFS",
      // CVE-2025-31133: the /dev/null that masks are made of, swapped.
      "write into /dev": "EROFS|EACCES", "remove /dev/null": "EROFS|EACCES", "replace /dev/null": "EXDEV|EROFS|EACCES",
      "chmod /usr/bin": "EROFS|EPERM", "chown /usr/bin": "EROFS|EPERM", "touch /usr/bin": "EROFS|EACCES|EPERM",
      "truncate /usr/bin/env": "EACCES|EROFS|ETXTBSY", "rename /usr/bin/env": "EROFS|EACCES|EXDEV",
      "remove the host's secret": "EROFS|EACCES",
      "mknod a disk": "EPERM|EACCES", "mknod /dev/mem": "EPERM|EACCES", "mknod in /tmp": "EPERM|EACCES",
      "/dev/mem": "ENOENT", "/dev/kmsg": "ENOENT", "/dev/console": "ENOENT", "/dev/port": "ENOENT",
      "/dev/fuse": "ENOENT", "/dev/kvm": "ENOENT", "/dev/loop-control": "ENOENT", "/dev/ubda": "ENOENT",
      "/dev/userfaultfd": "ENOENT", "/dev/vhost-net": "ENOENT",
      "a terminal": "done", "TIOCSTI": "EPERM", "TIOCSTI with high bits": "EPERM", "TIOCLINUX": "EPERM",
      "TIOCSETD": "EPERM", "another project ID": "EINVAL|EPERM|ENOTTY", "an immutable file": "EPERM|EACCES",
      "see /opt/joblet": "ENOENT", "see /run/joblet/jobs": "ENOENT", "see /run/systemd": "ENOENT",
      "see /root": "ENOENT",
      "see /home": "ENOENT", "see /sys": "ENOENT", "see /var/lib": "ENOENT", "see /boot": "ENOENT",
      // What /etc/hostname and /etc/hosts lead to, and nothing of the host's directory of that name.
      "what /run/joblet holds": "hostname hosts", "write to what it holds": "EROFS|EACCES",
      "connect to exec.sock": "ENOENT", "connect to systemd": "ENOENT",
    ]

    private static let kernelFiles: [String: String] = {
      var allowed = [
        "kernel addresses": "nothing", "mounts of cgroups": "none", "the path of the own cgroup": "0::/",
        "processes in /proc": "2", "write /proc/self/uid_map": "EPERM|EACCES",
        "write /proc/self/gid_map": "EPERM|EACCES",
        "write /proc/self/setgroups": "EPERM|EACCES", "write /proc/self/oom_score_adj": "EACCES|EPERM",
      ]
      for name in [
        "kcore", "keys", "timer_list", "sched_debug", "interrupts", "latency_stats", "timer_stats", "scsi", "acpi",
        "asound",
      ] {
        allowed["masked /proc/\(name)"] = "masked|ENOENT"
      }
      for name in [
        "sys/kernel/core_pattern", "sys/kernel/hostname", "sys/kernel/domainname", "sys/kernel/modprobe",
        "sys/kernel/sysrq", "sys/vm/drop_caches", "sys/vm/overcommit_memory", "sys/fs/suid_dumpable",
        "sys/kernel/ns_last_pid", "sys/net/ipv4/ip_forward", "sys/user/max_user_namespaces", "sysrq-trigger",
        "irq/default_smp_affinity", "pressure/memory", "sys/fs/binfmt_misc/register", "fs/xfs/stat",
      ] {
        allowed["write /proc/\(name)"] = "EROFS|EACCES|ENOENT"
      }
      for name in ["kmsg", "kpagecount", "kpageflags", "slabinfo", "vmallocinfo", "iomem"] {
        allowed["read /proc/\(name)"] = "EACCES|EPERM|ENOENT|nothing"
      }
      for name in ["release_agent", "cgroup.procs", "pids.max"] { allowed["write /sys/fs/cgroup/\(name)"] = "ENOENT" }
      return allowed
    }()

    @Test(.timeLimit(.minutes(10)))
    func `no way leads to the host's files, joblet-init's, or a device`() async throws {
      let host = try EscapeHost.get()
      let report = try await host.attack(["files", EscapeHost.secret, EscapeHost.folder])
      #expect(report.job.status == "COMPLETED", "\(report)")
      expectRefused(report.outcomes, Files.escapes)
    }

    @Test(.timeLimit(.minutes(10)))
    func `the kernel's files tell nothing and take nothing`() async throws {
      let report = try await EscapeHost.get().attack(["kernel-files"])
      #expect(report.job.status == "COMPLETED", "\(report)")
      expectRefused(report.outcomes, Files.kernelFiles)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a set-user-ID program of the host gives nothing`() async throws {
      let host = try EscapeHost.get()
      let ended = try await host.undisturbed {
        try await host.report(of: try await host.api.run("\(EscapeHost.folder)/setuid", ["whoami"]))
      }
      expectRefused(ended.outcomes, ["effective user": "65534", "capabilities": "none"])
    }

    /// Root in its namespace is the harder case: nothing is refused any more because somebody else owns it.
    @Test(.timeLimit(.minutes(10)))
    func `root of the job gets no further`() async throws {
      let host = try EscapeHost.get()
      try await Systemd.withConfiguration(replacing: "default_user: nobody", with: "default_user: root") {
        try await Shell.must("systemctl restart joblet-exec.service", within: .seconds(300))
        try await Systemd.waitUntilReady()
        try await host.undisturbed {
          let files = try await host.start(["files", EscapeHost.secret, EscapeHost.folder])
          let kernel = try await host.start(["kernel-files"])
          let processes = try await host.start(["processes"])
          let whoami = try await host.start(["whoami"])
          expectRefused(try await host.report(of: files).outcomes, Files.escapes)
          expectRefused(try await host.report(of: kernel).outcomes, Files.kernelFiles)
          expectRefused(try await host.report(of: processes).outcomes, Processes.refused)
          expectRefused(try await host.report(of: whoami).outcomes, ["effective user": "0", "capabilities": "none"])
        }
      } after: {
        try await Shell.must("systemctl restart joblet-exec.service", within: .seconds(300))
        try await Systemd.waitUntilReady()
      }
    }
  }
}
