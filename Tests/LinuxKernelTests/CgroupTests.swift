import Cgroups
import Glibc
import LinuxKernel
import Testing

/// A directory that looks like cgroup v2 to those who read and write its files. The kernel would make the files of a new
/// cgroup by itself; `mkdir` does not, so tests put them where they are needed.
@Suite struct CgroupTests {
  let scratch = Scratch()

  func root(controllers: String = "cpuset cpu io memory pids", enabled: String? = nil) throws -> CgroupRoot {
    try scratch.write(controllers + "\n", to: "cgroup.controllers")
    try scratch.write((enabled ?? controllers) + "\n", to: "cgroup.subtree_control")
    return try CgroupRoot(path: scratch.path, enabling: Set(Controller.allCases))
  }

  func job(_ root: CgroupRoot, files: [String: String] = [:]) throws -> JobCgroup {
    let job = JobCgroup(root: root, name: "j")
    for path in ["j", "j/init", "j/pay"] { mkdir("\(scratch.path)/\(path)", 0o755) }
    for (name, text) in files { try scratch.write(text, to: "j/pay/\(name)") }
    return job
  }

  @Test func theRootEnablesWhatIsThereAndAskedFor() throws {
    let root = try root(controllers: "cpu hugetlb memory", enabled: "memory")
    #expect(root.controllers == [.cpu, .memory])
    #expect(try scratch.read("cgroup.subtree_control").hasPrefix("+cpu"))
  }

  @Test func aDirectoryThatIsNoCgroupIsRefused() {
    let error = #expect(throws: CgroupError.self) { _ = try CgroupRoot(path: scratch.path, enabling: [.cpu]) }
    #expect(error == .notCgroup2(path: scratch.path))
    #expect(error?.description.contains(scratch.path) == true)
  }

  @Test(arguments: [
    (CgroupLimits(cpuPercent: 50), Controller.cpu, "limits.cpu_percent"),
    (CgroupLimits(memoryBytes: 1 << 20), .memory, "limits.memory_mb"),
    (CgroupLimits(pids: 5), .pids, "limits.pids"), (CgroupLimits(cpuWeight: 5), .cpu, "limits.cpu_weight"),
    (CgroupLimits(cpus: "0"), .cpuset, "limits.cpu_cores"),
    (CgroupLimits(memoryHighBytes: 1 << 20), .memory, "limits.memory_high_mb"),
    (CgroupLimits(io: IOLimit(device: BlockDevice(major: 8, minor: 0), bytesPerSecond: 1)), .io, "limits.io_bps"),
  ])
  func aLimitWithoutItsControllerIsRefused(_ limits: CgroupLimits, _ controller: Controller, _ field: String) throws {
    let root = try root(controllers: "hugetlb")
    let error = #expect(throws: CgroupError.self) {
      try JobCgroup(root: root, name: "j").apply(limits, root: root)
    }
    #expect(error == .missingController(controller, limit: field, available: []))
  }

  @Test func withoutLimitsNoControllerIsNeeded() throws {
    let root = try root(controllers: "")
    let job = JobCgroup(root: root, name: "j")
    try job.create(root: root)
    try job.apply(CgroupLimits(), root: root)
    #expect(access(job.payLeaf.path, F_OK) == 0 && access(job.initLeaf.path, F_OK) == 0)
    #expect(try root.jobNames() == ["j"])
    #expect(try job.removeOnce())
    #expect(try job.removeOnce(), "gone is gone, not an error")
  }

  @Test func aFailureLeavesNothingBehind() throws {
    let root = try root()  // a plain mkdir makes no interface files, so enabling controllers fails
    let job = JobCgroup(root: root, name: "j")
    #expect(throws: CgroupError.self) { try job.create(root: root) }
    #expect(!job.directory.exists)
  }

  @Test func aNameThatIsTakenIsRefused() throws {
    let root = try root(controllers: "")
    try JobCgroup(root: root, name: "j").create(root: root)
    let error = #expect(throws: CgroupError.self) {
      try JobCgroup(root: root, name: "j").create(root: root)
    }
    guard case .kernel(let cause)? = error else { return }
    #expect(cause.code == EEXIST)
    #expect(access("\(scratch.path)/j/pay", F_OK) == 0, "the other job's cgroup stays")
  }

  @Test func figuresAreReadFromThePayloadsLeaf() throws {
    let job = try job(
      root(),
      files: [
        "cpu.stat": "usage_usec 123456\nuser_usec 1\nsystem_usec 2\n", "memory.current": "2048\n",
        "memory.peak": "4096\n", "pids.current": "3\n",
        "io.stat":
          "8:0 rbytes=100 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n98:0 rbytes=1 wbytes=2 rios=5 wios=6\n253:1 \n",
        "cpu.pressure":
          "some avg10=1.25 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "memory.pressure": "some avg10=2.50 avg60=0.00 avg300=0.00 total=0\n",
        "io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        "memory.events": "low 0\nhigh 0\nmax 4\noom 1\noom_kill 3\noom_group_kill 1\n",
      ])
    // What joblet-init uses is nobody's bill.
    for leaf in ["j", "j/init"] {
      try scratch.write("usage_usec 999\n", to: "\(leaf)/cpu.stat")
      try scratch.write("999\n", to: "\(leaf)/memory.current")
    }
    var expected = CgroupFigures()
    expected.cpuMicroseconds = 123_456
    expected.memoryBytes = 2048
    expected.memoryPeakBytes = 4096
    expected.ioReadBytes = 101
    expected.ioWrittenBytes = 22
    expected.ioReads = 6
    expected.ioWrites = 8
    expected.pids = 3
    expected.cpuPressure = 1.25
    expected.memoryPressure = 2.5
    expected.ioPressure = 0
    var problems: [String] = []
    let figures = job.figures(problems: &problems)
    #expect(figures == expected)
    #expect(problems == [])
    #expect(try job.memoryEvents() == MemoryEvents(limitReached: 1, kills: 3))
  }

  @Test func whatIsNotMeasuredIsAbsent() throws {
    let job = try job(root())
    var problems: [String] = []
    let figures = job.figures(problems: &problems)
    #expect(figures == CgroupFigures())
    #expect(problems == [], "a controller that is not there is no problem")
    #expect(try job.memoryEvents() == nil)
  }

  @Test func whatCanNotBeReadIsToldAndAbsent() throws {
    let job = try job(root(), files: ["memory.current": "5\n"])
    mkdir("\(scratch.path)/j/pay/cpu.stat", 0o755)
    let devices = (0..<1000).map { "8:\($0) rbytes=1 wbytes=1 rios=1 wios=1" }.joined(separator: "\n")
    try scratch.write(devices, to: "j/pay/io.stat")
    var problems: [String] = []
    let figures = job.figures(problems: &problems)
    #expect(figures.cpuMicroseconds == nil && figures.memoryBytes == 5)
    #expect(figures.ioReadBytes == nil, "half of a file is not a sum")
    #expect(problems.count == 1 && problems.allSatisfy { $0.contains("EISDIR") })
  }

  /// What each limit becomes, and in which directory: everything on the payload alone, but the weight among jobs.
  @Test func everyLimitIsWrittenWhereItCounts() throws {
    let files = [
      "cpu.max", "cpuset.cpus", "memory.max", "memory.high", "io.max", "pids.max", "memory.swap.max",
      "memory.oom.group",
      "cpu.weight",
    ]
    let root = try root()
    let job = try job(root, files: Dictionary(uniqueKeysWithValues: files.map { ($0, "") }))
    try scratch.write("", to: "j/cpu.weight")
    try scratch.write("0-3,6\n", to: "j/pay/cpuset.cpus.effective")
    let disk = BlockDevice(major: 98, minor: 16)
    try job.apply(
      CgroupLimits(
        cpuPercent: 150, cpuWeight: 300, cpus: "0-3,6", memoryBytes: 64 << 20, memoryHighBytes: 48 << 20,
        io: IOLimit(device: disk, bytesPerSecond: 1_000_000), pids: 7), root: root)
    let expected = [
      "cpu.max": "150000 100000", "cpuset.cpus": "0-3,6", "memory.max": "67108864", "memory.high": "50331648",
      "io.max": "98:16 rbps=1000000 wbps=1000000", "pids.max": "7", "cpu.weight": "",
    ]
    for (name, text) in expected { #expect(try scratch.read("j/pay/\(name)") == text, "\(name)") }
    #expect(try scratch.read("j/cpu.weight") == "300")
  }

  @Test func cpusThatAreNotGivenAreNoPinning() throws {
    let root = try root()
    let job = try job(root, files: ["cpuset.cpus": "", "cpuset.cpus.effective": "0-1\n"])
    let error = #expect(throws: CgroupError.self) { try job.apply(CgroupLimits(cpus: "0-3"), root: root) }
    #expect(error == .cpusNotGiven(asked: "0-3", given: "0-1"))
  }

  @Test func freezingAsksAndIsAsked() throws {
    let job = try job(
      root(), files: ["cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 0\n"])
    #expect(try !job.payLeaf.isAskedToFreeze() && !job.payLeaf.isFrozen())
    try job.payLeaf.freeze(true)
    try scratch.write("populated 1\nfrozen 1\n", to: "j/pay/cgroup.events")
    #expect(try job.payLeaf.isFrozen() && job.payLeaf.isAskedToFreeze())
  }

  /// Who waits for a throttled disk can't be killed.
  @Test func whoIsKilledIsNotHeldUpByItsDisk() throws {
    let job = try job(
      root(), files: ["cgroup.kill": "", "io.max": "8:0 rbps=4096 wbps=4096 riops=max wiops=max\n"])
    try job.killPayload()
    #expect(try scratch.read("j/pay/cgroup.kill") == "1")
    #expect(try scratch.read("j/pay/io.max").hasPrefix("8:0 rbps=max wbps=max"))
  }

  @Test func killsWriteToTheRightDirectory() throws {
    let job = try job(root(), files: ["cgroup.kill": ""])
    try scratch.write("", to: "j/cgroup.kill")
    try job.killPayload()
    #expect(try scratch.read("j/pay/cgroup.kill") == "1" && scratch.read("j/cgroup.kill") == "")
    try job.killAll()
    #expect(try scratch.read("j/cgroup.kill") == "1")
  }

  @Test func removalGivesUpInTime() async throws {
    let job = try job(root())
    let holder = try FileDescriptor.open("\(scratch.path)/j/pay", O_RDONLY | O_DIRECTORY)
    // A plain directory with something in it says ENOTEMPTY, as cgroupfs never does: an error, not a reason to wait.
    try scratch.write("", to: "j/pay/file")
    await #expect(throws: Errno.self) { try await job.remove(timeout: .milliseconds(20)) }
    _ = holder.raw
  }

  @Test(arguments: [(1, "1000 100000"), (50, "50000 100000"), (250, "250000 100000")])
  func cpuPercentBecomesAQuota(_ percent: Int, _ expected: String) throws {
    #expect(CPUQuota.text(percent: percent) == expected)
  }
}
