import CInitABI
import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Sandbox
import Testing

func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

/// Jobs on the machine's own kernel. They need root, a cgroup v2 directory to make jobs in (`JOBLET_TEST_CGROUP`) and the
/// program (`JOBLET_TEST_INIT`); without both they are skipped.
@Suite(
  .enabled(if: setting("JOBLET_TEST_CGROUP") != nil && setting("JOBLET_TEST_INIT") != nil), .serialized)
struct RealJobTests {
  func run(
    _ command: String, _ args: [String] = [], env: [String: String] = [:], merge: Bool = false,
    options: RealJob.Options = RealJob.Options()
  ) throws -> RealJob.Outcome {
    try RealJob.run(
      JobRequest(command: command, args: args, env: env, merge: merge),
      initPath: setting("JOBLET_TEST_INIT") ?? "", cgroupRoot: setting("JOBLET_TEST_CGROUP") ?? "",
      state: "\(setting("TMPDIR") ?? "/tmp")/joblet-real-jobs", options: options)
  }

  func shell(_ script: String, options: RealJob.Options = RealJob.Options()) throws -> RealJob.Outcome {
    try run("sh", ["-c", script], options: options)
  }

  @Test func outputAndExitCode() throws {
    let outcome = try shell("echo out; echo err >&2; exit 7")
    #expect(outcome.kind == JOBLET_END_EXITED.rawValue && outcome.code == 7)
    #expect(outcome.stdout == "out\n" && outcome.stderr == "err\n")
    #expect(outcome.seqs == [1, 2])
  }

  @Test func nobodyWithoutAnyPrivilege() throws {
    let text = try shell(
      "id -u; cat /proc/self/uid_map; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; cat /proc/self/cgroup"
    ).stdout
    let lines = text.split(separator: "\n").map(String.init)
    #expect(lines.first == "65534")
    #expect(lines[1].split(separator: " ") == ["0", "1879048192", "65536"])
    for line in lines where line.hasPrefix("Cap") { #expect(line.hasSuffix("\t0000000000000000"), "\(line)") }
    #expect(lines.contains("NoNewPrivs:\t1") && lines.contains("Seccomp:\t2"))
    #expect(lines.contains { $0.hasPrefix("Groups:") && $0.dropFirst(7).allSatisfy { " \t".contains($0) } })
    #expect(lines.contains("0::/"))
  }

  @Test func onlyTheWorkspaceCanBeWritten() throws {
    let outcome = try shell(
      "pwd; echo x >/work/f && ls -n /work; for d in / /usr /etc /dev /proc/sys/kernel; do touch $d/x 2>/dev/null && echo wrote $d; done; touch /tmp/ok && echo tmp"
    )
    #expect(outcome.stdout.hasPrefix("/work\n"))
    #expect(outcome.stdout.contains(" 65534 65534 ") && outcome.stdout.hasSuffix("tmp\n"))
    #expect(!outcome.stdout.contains("wrote"))
  }

  @Test func nothingOfTheHostShows() throws {
    let outcome = try shell(
      "ls /proc/self/fd; ls /; ls /proc/1 2>&1; wc -l </proc/net/dev; cat /proc/keys /proc/timer_list; ls /dev/vda 2>&1; kill -9 1 2>&1; ps 2>&1 | wc -l >/dev/null; grep -c . /proc/self/mounts >/dev/null; echo end"
    )
    let text = outcome.stdout
    #expect(text.hasPrefix("0\n1\n2\n3\n"))  // 3 is ls's own
    #expect(!text.contains("root\n") && !text.contains("opt\n") && text.contains("work\n"))
    #expect(text.contains("cannot access '/proc/1'"))
    #expect(text.contains("\n3\n"))  // two header lines and lo
    #expect(text.hasSuffix("end\n"))
  }

  @Test func theHostsTreeIsInNoJob() throws {
    let outcome = try shell(
      "cut -d' ' -f5 /proc/self/mountinfo; hostname; cat /etc/hostname /etc/hosts; ls -l /etc/hosts")
    let lines = outcome.stdout.split(separator: "\n").map(String.init)
    let mounts = lines.prefix { $0.hasPrefix("/") }
    let own = ["/", "/dev", "/dev/pts", "/dev/shm", "/tmp", "/proc", "/work", "/run/joblet"]
    let allowed = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives"]
    for mount in mounts {
      #expect(
        own.contains(mount) || mount.hasPrefix("/proc/")
          || allowed.contains { mount == $0 || mount.hasPrefix($0 + "/") },
        "\(mount)")
    }
    #expect(own.allSatisfy { mounts.contains($0) })
    let names = lines.filter { $0.hasPrefix("job-") }
    #expect(names.count == 2 && Set(names).count == 1)
    #expect(outcome.stdout.contains("127.0.0.1 localhost \(names.first ?? "")\n"))
  }

  @Test func aPlanThatCanStillChangeIsNotTrusted() throws {
    var options = RealJob.Options()
    options.sealsPlan = false
    let outcome = try shell("echo ran", options: options)
    #expect(outcome.kind == JOBLET_END_SETUP.rawValue && outcome.failure.op == JOBLET_OP_READ_JOB_PLAN.rawValue)
    #expect(outcome.failure.code == EPERM && outcome.stdout.isEmpty)
  }

  @Test func aStricterFilterLiesOnTheNodes() throws {
    let filters = "grep ^Seccomp_filters: /proc/self/status | tr -dc 0-9"
    let usual = try shell(filters).stdout
    let stricter = try RealJob.run(
      JobRequest(command: "sh", args: ["-c", filters], seccomp: "strict"), initPath: setting("JOBLET_TEST_INIT") ?? "",
      cgroupRoot: setting("JOBLET_TEST_CGROUP") ?? "", state: "\(setting("TMPDIR") ?? "/tmp")/joblet-real-jobs"
    ).stdout
    #expect(usual == "2" && stricter == "3")
  }

  @Test func rootInTheJobIsNobody() throws {
    var options = RealJob.Options()
    options.runAs = try RunAs(user: "root", group: "root")
    let outcome = try shell(
      "id -u; grep CapEff /proc/self/status; mount -t tmpfs x /tmp 2>&1; unshare -U true 2>&1; kill -9 1 2>&1; cat /etc/shadow 2>&1; echo end",
      options: options)
    #expect(outcome.stdout.hasPrefix("0\nCapEff:\t0000000000000000\n"))
    #expect(outcome.stdout.contains("permission denied") && outcome.stdout.contains("Operation not permitted"))
    #expect(outcome.stdout.hasSuffix("end\n") && outcome.code == 0)
  }

  @Test(arguments: [
    ("no-such-command", Int32(2), 127), ("/no/such/command", 2, 127), ("/etc/passwd", 13, 126), ("/usr", 13, 126),
  ])
  func commandsThatCannotRun(_ command: String, _ code: Int32, _ exit: Int) throws {
    let outcome = try run(command)
    #expect(outcome.kind == JOBLET_END_SETUP.rawValue)
    #expect(outcome.failure.isExec && outcome.failure.code == code && outcome.failure.exitCode == exit)
  }

  @Test func theJobsOwnPathIsSearched() throws {
    #expect(try run("sh", ["-c", "exit 3"], env: ["PATH": "/nowhere:/usr/bin"]).code == 3)
    let outcome = try run("sh", ["-c", "exit 3"], env: ["PATH": "/nowhere"])
    #expect(outcome.failure.exitCode == 127)
  }

  @Test func aSignalIsReported() throws {
    let outcome = try shell("kill -SEGV $$")
    #expect(outcome.kind == JOBLET_END_SIGNALED.rawValue && outcome.code == SIGSEGV && !outcome.timedOut)
  }

  @Test func sigtermIsForwarded() throws {
    var options = RealJob.Options()
    options.stopAfterFirstRecord = true
    let outcome = try shell("trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done", options: options)
    #expect(outcome.code == 4 && outcome.stdout == "ready\nbye\n")
  }

  /// The call is never made, the caller never comes back from it, and what it left behind dies with it.
  @Test(arguments: ["reboot", "kexec_load", "finit_module", "swapoff", "open_by_handle_at"])
  func aCallThatIsNeverLegitimateEndsTheJob(_ name: String) throws {
    let script =
      "$|=1; print qq(before\n); if (!fork) { syscall(\(number(name)),0,0,0,0,0); print qq(after\n) } wait; sleep 60"
    let outcome = try run("perl", ["-e", script])
    #expect(outcome.kind == JOBLET_END_SIGNALED.rawValue && outcome.code == SIGKILL)
    #expect(outcome.violation == SyscallViolation(call: number(name), architecture: nativeArchitecture))
    #expect(outcome.stdout == "before\n")
  }

  @Test(arguments: ["strict", "default", "compat"]) func profilesHoldOnTheKernel(_ profile: String) throws {
    var options = RealJob.Options()
    options.seccomp = profile
    // A socket, then a look at oneself as a tracer would.
    let script = """
      print((syscall(\(number("socket")),2,1,0) < 0 ? "no" : "yes"), " ",
        (syscall(\(number("kcmp")),$$+0,$$+0,2,0,0) < 0 ? "no" : "yes"), "\n")
      """
    let outcome = try run("perl", ["-e", script], options: options)
    #expect(outcome.stdout == ["strict": "no no\n", "default": "yes no\n", "compat": "yes yes\n"][profile])
    #expect(outcome.violation == nil && outcome.code == 0)
  }

  /// A device node fails without Landlock too, but with another error: the kernel asks Landlock first.
  @Test(arguments: [true, false]) func landlockIsInForce(_ isOn: Bool) throws {
    var options = RealJob.Options()
    guard options.landlock != nil else { return }
    if !isOn { options.landlock = nil }
    let outcome = try shell("mknod /tmp/null c 1 3 2>&1", options: options)
    #expect(outcome.stdout.contains(isOn ? "Permission denied" : "Operation not permitted"))
  }

  /// What programs do all day in their own root, under every layer.
  @Test func landlockIsNotInTheWay() throws {
    let script = """
      cd /work && mkdir a b && echo x >a/f && mv a/f b/g && ln b/g a/h && ln -s h a/s && cat a/s && rm -r a b
      cp /bin/true /tmp/t && /tmp/t && echo copied program runs; : >/tmp/t; echo y >/dev/stdout; echo z >/dev/null
      head -1 /etc/passwd; echo 500 >/proc/self/oom_score_adj && mkfifo /tmp/p && echo x >/dev/shm/s && ls / >/dev/null && echo end
      """
    let outcome = try shell(script)
    #expect(outcome.stdout == "x\ncopied program runs\ny\nroot:x:0:0:root:/root:/bin/sh\nend\n")
    #expect(outcome.stderr == "")
  }

  @Test func theTimeOutAsksThenKills() throws {
    var options = RealJob.Options()
    options.timeout = .milliseconds(200)
    options.grace = .milliseconds(300)
    let asked = try shell("trap 'exit 4' TERM; while :; do sleep 0.05; done", options: options)
    #expect(asked.timedOut && asked.kind == JOBLET_END_EXITED.rawValue && asked.code == 4)
    let killed = try shell("trap '' TERM; while :; do sleep 0.05; done", options: options)
    #expect(killed.timedOut && killed.kind == JOBLET_END_SIGNALED.rawValue && killed.code == SIGKILL)
  }

  @Test func whatIsLeftBehindEndsWithTheJob() throws {
    let start = ContinuousClock.now
    let outcome = try shell("(sleep 300) & setsid sleep 300 & echo done")
    #expect(outcome.stdout == "done\n" && outcome.code == 0)
    #expect(ContinuousClock.now - start < .seconds(100))
  }

  @Test func promptsAndLastBytes() throws {
    let outcome = try shell("printf 'name? '; sleep 0.5; echo x; printf end")
    #expect(outcome.records.map(\.partial) == [true, false, true])
    #expect(outcome.stdout == "name? x\nend")
  }

  @Test func oneSequenceThroughASmallRing() throws {
    var options = RealJob.Options()
    options.maxRecords = 50
    let outcome = try shell("seq 1 20000; echo e >&2", options: options)
    #expect(outcome.stdout == (1...20000).map { "\($0)\n" }.joined())
    #expect(outcome.seqs == Array(1...20001))
  }

  @Test func mergedStreamsKeepTheirOrder() throws {
    let outcome = try run(
      "sh", ["-c", "for i in $(seq 1 200); do echo o$i; echo e$i >&2; done"], merge: true)
    #expect(outcome.stderr.isEmpty)
    #expect(outcome.stdout == (1...200).map { "o\($0)\ne\($0)\n" }.joined())
  }

  static var hasControllers: Bool {
    guard let path = setting("JOBLET_TEST_CGROUP"),
      let offered = try? CgroupDirectory(path: path).controllers()
    else { return false }
    return offered.isSuperset(of: [.cpu, .memory, .pids])
  }

  @Test(.enabled(if: hasControllers)) func anOutOfMemoryKillLeavesTheReport() throws {
    var options = RealJob.Options()
    options.limits = CgroupLimits(memoryBytes: 32 << 20)
    options.timeout = .seconds(60)
    let outcome = try shell("echo before; head -c 200m /dev/zero | tail -c 150m | wc -c; sleep 300", options: options)
    #expect(outcome.kind == JOBLET_END_SIGNALED.rawValue && outcome.code == SIGKILL)
    #expect(outcome.stdout == "before\n")
    #expect((outcome.oomKills ?? 0) > 0)
    #expect((outcome.usage.memoryPeakBytes ?? 0) > 16 << 20)
    #expect((outcome.usage.cpuMicroseconds ?? 0) > 0)
  }

  @Test(.enabled(if: hasControllers)) func theProcessLimitHolds() throws {
    var options = RealJob.Options()
    options.limits = CgroupLimits(pids: 8)
    let outcome = try shell(
      "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2 & done 2>&1; wait; echo end", options: options)
    #expect(outcome.stdout.contains("fork") || outcome.code != 0)
  }

  @Test(.enabled(if: hasControllers)) func theProcessorLimitHolds() throws {
    var options = RealJob.Options()
    options.limits = CgroupLimits(cpuPercent: 20)
    options.timeout = .seconds(2)
    let outcome = try shell("while :; do :; done", options: options)
    #expect(outcome.timedOut)
    // 20 percent of two seconds, with room for the bandwidth's slices.
    #expect((outcome.usage.cpuMicroseconds ?? .max) < 900_000)
  }
}
