import JobletConfig
import Testing
import Worker

@Suite struct DoctorTests {
  /// A host on which nothing is wrong.
  private func healthy() -> HostFacts {
    var facts = HostFacts()
    facts.kernel = "6.1.0-28-amd64"
    facts.isUnified = true
    facts.cgroupPath = "/sys/fs/cgroup"
    facts.controllers = ["cpu", "cpuset", "io", "memory", "pids"]
    facts.cgroupFiles = ["cgroup.kill", "cgroup.freeze", "memory.max", "memory.swap.max"]
    facts.hasPressure = true
    facts.hasSystemd = true
    facts.settings = [
      "user.max_user_namespaces": "63000", "kernel.pid_max": "4194304", "kernel.core_pattern": "|/bin/handler",
      "fs.suid_dumpable": "2", "fs.protected_symlinks": "1",
    ]
    facts.userNamespace = .works
    facts.notification = .works
    facts.cloneIntoCgroup = .works
    facts.idMapping = .works
    facts.landlock = .success(4)
    facts.quota = .success("enforced")
    facts.isStateOnTmpfs = true
    facts.stateBytesFree = 8 << 30
    facts.initProgram = .works
    facts.hasGatewayUser = true
    return facts
  }

  private func report(
    _ change: (inout HostFacts) -> Void = { _ in }, _ configure: (inout Configuration) -> Void = { _ in }
  ) -> DoctorReport {
    var facts = healthy()
    var configuration = Configuration()
    configuration.joblet.maxConcurrentJobs = 100
    change(&facts)
    configure(&configuration)
    return DoctorReport(configuration, facts)
  }

  @Test func aHealthyHostHasNothingToMend() {
    let report = report()
    #expect(report.isHealthy)
    for finding in report.findings { #expect(finding.status == .ok, "\(finding)") }
    #expect(report.text.hasSuffix("this host can run jobs as configured"))
  }

  struct Shortfall: Sendable {
    var check: String
    var status: DoctorReport.Status
    var change: @Sendable (inout HostFacts) -> Void

    init(_ check: String, _ status: DoctorReport.Status, _ change: @escaping @Sendable (inout HostFacts) -> Void) {
      self.check = check
      self.status = status
      self.change = change
    }
  }

  static let shortfalls: [Shortfall] = [
    Shortfall("kernel", .failed, { $0.kernel = "5.10.0-9" }),
    Shortfall("kernel", .skipped, { $0.kernel = "" }),
    Shortfall("cgroup v2", .failed, { $0.isUnified = false }),
    Shortfall("controllers", .failed, { $0.controllers.removeLast() }),
    Shortfall("cgroup files", .failed, { $0.cgroupFiles?.remove("cgroup.kill") }),
    Shortfall("pressure (PSI)", .warning, { $0.hasPressure = false }),
    Shortfall("systemd", .warning, { $0.hasSystemd = false }),
    Shortfall("user namespaces", .failed, { $0.userNamespace = .fails("EPERM") }),
    Shortfall("user namespaces", .skipped, { $0.userNamespace = .notTried("as root") }),
    Shortfall("namespace counts", .warning, { $0.settings["user.max_user_namespaces"] = "4" }),
    Shortfall("seccomp", .failed, { $0.notification = .fails("EINVAL") }),
    Shortfall("Landlock", .warning, { $0.landlock = .success(1) }),
    Shortfall("Landlock", .warning, { $0.landlock = .failure(.init(name: "ENOSYS")) }),
    Shortfall("clone3", .failed, { $0.cloneIntoCgroup = .fails("ENOSYS") }),
    Shortfall("ID-mapped mounts", .failed, { $0.idMapping = .fails("EINVAL") }),
    Shortfall("workspace quota", .failed, { $0.quota = .success("missing") }),
    Shortfall("workspace quota", .skipped, { $0.quota = .failure(.init(description: "EACCES")) }),
    Shortfall("state directory", .failed, { $0.isStateOnTmpfs = false }),
    Shortfall("state directory", .warning, { $0.stateBytesFree = 1 }),
    Shortfall("process IDs", .warning, { $0.settings["kernel.pid_max"] = "32768" }),
    Shortfall("core dumps", .warning, { $0.settings["fs.suid_dumpable"] = "1" }),
    Shortfall("link protection", .warning, { $0.settings["fs.protected_symlinks"] = "0" }),
    Shortfall("joblet-init", .failed, { $0.initProgram = .fails("ENOENT") }),
    Shortfall("user joblet-api", .warning, { $0.hasGatewayUser = false }),
    Shortfall(
      "swap", .warning,
      {
        $0.hasSwap = true
        $0.cgroupFiles?.remove("memory.swap.max")
      }),
  ]

  /// Each shortfall alone is found under its own name and no other.
  @Test(arguments: shortfalls) func aShortfallIsNamed(_ shortfall: Shortfall) {
    let report = report(shortfall.change)
    let found = report.findings.filter { $0.status != .ok }
    // Without cgroup v2 there are no controllers to look at.
    #expect(found.map(\.check) == [shortfall.check] + (shortfall.check == "cgroup v2" ? ["controllers"] : []))
    #expect(found.first?.status == shortfall.status)
    #expect(report.isHealthy == (shortfall.status != .failed))
    guard shortfall.status == .failed || shortfall.status == .warning else { return }
    #expect(found.first?.means?.isEmpty == false && found.first?.mend?.isEmpty == false)
  }

  /// Without a bound of its own there are as many jobs as the host can take, and no number to fall short of.
  @Test func withoutABoundTheHostsIsSaid() {
    let report = report(
      {
        $0.stateBytesFree = 64 << 20
        $0.settings["kernel.pid_max"] = "32768"
      }, { $0.joblet.maxConcurrentJobs = 0 })
    for finding in report.findings { #expect(finding.status == .ok, "\(finding)") }
  }

  @Test func landlockIsJudgedByWhatIsAskedFor() {
    let missing: (inout HostFacts) -> Void = { $0.landlock = .failure(.init(name: "ENOSYS")) }
    #expect(!report(missing) { $0.isolation.landlock = "required" }.isHealthy)
    #expect(report(missing) { $0.isolation.landlock = "off" }.findings.allSatisfy { $0.status == .ok })
  }

  @Test(
    arguments: [
      (1_879_048_191, 1, false), (1_879_048_191, 2, true), (1_879_048_192, 1, true), (2_147_483_647, 1, true),
      (2_147_483_648, 65_536, false), (0, 4_294_967_295, true), (1_900_000_000, 0, false),
    ] as [(UInt64, UInt64, Bool)])
  func anOverlapOfIDsIsFound(_ first: UInt64, _ count: UInt64, _ overlaps: Bool) {
    let report = report { $0.takenIDs = [.init(file: "/etc/subuid", name: "ann", first: first, count: count)] }
    #expect(report.isHealthy != overlaps)
  }

  @Test func subordinateRangesAreReadAndNonsenseIsNot() {
    let text = "ann:100000:65536\n\nbob:1:2:3\n:x:y\nzoe:99999999999999999999:1\nkim:-1:5\n1000:4294967295:4294967295\n"
    let ranges = HostFacts.subordinate(text, file: "f")
    #expect(ranges.map(\.name) == ["ann", "1000"])
    #expect(ranges.first?.first == 100_000 && ranges.first?.count == 65_536)
  }
}
