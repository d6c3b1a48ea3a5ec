import Foundation
import Testing

extension SystemTests.Escape {
  /// System calls: what the filter refuses, and what ends a job.
  @Suite struct Calls {
    private static let refused: [String: String] = {
      var allowed: [String: String] = [
        "clone3 user": "ENOSYS", "clone3 into a cgroup": "ENOSYS",
        // The kernel's own refusals, which no filter could say better.
        "leave no_new_privs": "EINVAL", "leave seccomp": "EINVAL", "capabilities in /proc": "none",
        "legacy AIO": "ENOSYS|EPERM", "a watch queue": "EPERM|EINVAL|ENOPKG",
        "huge pages in a memfd": "EINVAL|EPERM|ENOMEM|ENOSYS", "huge pages mapped": "ENOMEM|EPERM|EINVAL",
        "socket SCTP": "EPERM|EPROTONOSUPPORT", "socket DCCP": "EPERM|ESOCKTNOSUPPORT",
        "socket SMC": "EPERM|EPROTONOSUPPORT",
      ]
      for name in [
        "mount tmpfs", "mount proc", "mount cgroup2", "mount cgroup", "bind mount", "remount /usr writable",
        "remount the root writable", "umount a mask", "umount /usr", "fsopen", "fspick", "fsconfig", "fsmount",
        "open_tree", "move_mount", "mount_setattr", "pivot_root", "chroot", "setns user", "setns mnt", "setns pid",
        "setns net", "setns of PID 1", "ptrace PID 1", "ptrace: trace me", "process_vm_readv PID 1",
        "process_vm_writev PID 1", "kcmp", "pidfd_getfd", "process_madvise", "move_pages", "migrate_pages", "keyctl",
        "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
        "io_uring_register", "fanotify_init", "memfd_secret", "syslog", "vhangup", "modify_ldt", "set_mempolicy",
        "personality READ_IMPLIES_EXEC", "socketpair AF_VSOCK", "become root", "become root's group", "root's groups",
        "take capabilities", "change the memory map", "the bounding set", "clock_settime", "settimeofday", "adjtimex",
        "clock_adjtime", "sethostname", "setdomainname",
      ] {
        allowed[name] = "EPERM"
      }
      for name in ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"] {
        allowed["unshare \(name)"] = "EPERM"
        allowed["clone \(name)"] = "EPERM"
      }
      allowed["unshare time"] = "EPERM"
      for name in [
        "AF_PACKET", "AF_ALG", "AF_VSOCK", "AF_KEY", "AF_BLUETOOTH", "AF_XDP", "AF_TIPC", "AF_CAN", "AF_RDS",
        "AF_NETLINK audit", "AF_NETLINK xfrm", "AF_NETLINK netfilter", "AF_NETLINK generic", "AF_NETLINK uevents",
        "raw IPv4", "raw IPv6",
      ] {
        allowed["socket \(name)"] = "EPERM"
      }
      return allowed
    }()

    @Test(.timeLimit(.minutes(10)))
    func `mounts, namespaces, other processes, kernel interfaces, identity and time are out of reach`() async throws {
      let report = try await EscapeHost.get().attack(["calls"])
      #expect(report.job.status == "COMPLETED", "\(report)")
      expectRefused(report.outcomes, Calls.refused)
    }

    @Test(.timeLimit(.minutes(10)))
    func `a call that no job has a reason for ends the job, and the record names it`() async throws {
      let host = try EscapeHost.get()
      let names = [
        "kexec_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff", "acct", "quotactl",
        "open_by_handle_at",
      ]
      try await host.undisturbed {
        var jobs: [(String, Job)] = []
        for name in names { jobs.append((name, try await host.start(["fatal", name]))) }
        for (name, job) in jobs {
          let report = try await host.report(of: job)
          #expect(report.outcomes[name] == nil, "\(name) returned")
          #expect(report.job.status == "FAILED" && report.job.reason == "seccomp_violation", "\(report)")
          #expect(report.job.message?.contains(name) == true, "\(report)")
        }
      }
    }

    /// User-mode Linux takes `int $0x80` for a call of its own kind: there is no other there.
    private static let conventions =
      (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8))?.contains("User Mode Linux") == true
      ? ["x32"] : ["int80", "x32"]

    /// By another architecture's numbers the filter's rules would mean other calls.
    @Test(.timeLimit(.minutes(10)), arguments: Calls.conventions)
    func `calls by other conventions end the job`(convention: String) async throws {
      let report = try await EscapeHost.get().attack(["fatal", convention])
      #expect(report.outcomes[convention] == nil, "the call returned")
      #expect(report.job.status == "FAILED")
      #expect(report.job.reason == "seccomp_violation" || report.job.signal == 31, "\(report)")
    }
  }
}
