import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Testing
import Worker

@Suite struct NodeLimitsTests {
  let directory = TemporaryDirectory()
  static let disk = BlockDevice(major: 8, minor: 0)

  private func node(
    _ controllers: String = "cpu cpuset io memory pids", cpus: String = "0-3,6", disk: WorkDisk = .disk(disk),
    defaults: Limits = Limits()
  ) throws -> NodeLimits {
    for (file, text) in [
      ("cgroup.controllers", controllers), ("cgroup.subtree_control", controllers), ("cpuset.cpus.effective", cpus),
    ] {
      try FileDescriptor.open("\(directory.path)/\(file)", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        .writeAll(Array("\(text)\n".utf8))
    }
    let root = try CgroupRoot(path: directory.path, enabling: Set(Controller.allCases))
    return NodeLimits(cgroups: root, disk: disk, defaults: defaults)
  }

  @Test func defaultsAreFilledInAndListsShortened() throws {
    let defaults = Limits(cpuPercent: 100, memoryMB: 64, ioBps: 1 << 20, pids: 10)
    let node = try node(defaults: defaults)
    #expect(try node.effective(Limits()) == defaults)
    let asked = Limits(
      cpuPercent: 50, cpuWeight: 7, cpuCores: "2,1,6", memoryMB: 5, memoryHighMB: 4, ioBps: 4096, pids: 3)
    var expected = asked
    expected.cpuCores = "1-2,6"
    #expect(try node.effective(asked) == expected)
    #expect(
      try node.cgroupLimits(expected)
        == CgroupLimits(
          cpuPercent: 50, cpuWeight: 7, cpus: "1-2,6", memoryBytes: 5 << 20, memoryHighBytes: 4 << 20,
          io: IOLimit(device: Self.disk, bytesPerSecond: 4096), pids: 3))
  }

  static let every: [(Limits, String, String)] = [
    (Limits(cpuPercent: 1), "limits.cpu_percent", "'cpu'"), (Limits(cpuWeight: 1), "limits.cpu_weight", "'cpu'"),
    (Limits(cpuCores: "0"), "limits.cpu_cores", "'cpuset'"), (Limits(memoryMB: 1), "limits.memory_mb", "'memory'"),
    (Limits(memoryHighMB: 1), "limits.memory_high_mb", "'memory'"), (Limits(ioBps: 4096), "limits.io_bps", "'io'"),
    (Limits(pids: 1), "limits.pids", "'pids'"),
  ]

  /// Never ignored.
  @Test(arguments: every)
  func aLimitWithoutItsControllerIsRefused(limits: Limits, field: String, controller: String) throws {
    let node = try node("hugetlb")
    let problem = #expect(throws: Problem.self) { try node.effective(limits) }
    #expect(problem?.field == field && problem?.detail.contains(controller) == true)
    #expect(try node.effective(Limits()) == Limits())
  }

  @Test(arguments: [
    ("4", "CPU 4 is"), ("0-9", "CPU 4-5,7-9 is"), ("8191", "CPU 8191"), ("3-1", "reversed"), ("x", "'x'"),
  ])
  func onlyCPUsThatAreThereAreGiven(cores: String, part: String) throws {
    let node = try node()
    let problem = #expect(throws: Problem.self) { try node.effective(Limits(cpuCores: cores)) }
    #expect(problem?.field == "limits.cpu_cores" && problem?.detail.contains(part) == true)
  }

  @Test func withoutADiskNoIOIsLimited() throws {
    let node = try node(disk: .none("it is on btrfs"))
    let problem = #expect(throws: Problem.self) { try node.effective(Limits(ioBps: 4096)) }
    #expect(problem?.field == "limits.io_bps" && problem?.detail.contains("it is on btrfs") == true)
    #expect(throws: SetupProblem.self) { try node.cgroupLimits(Limits(ioBps: 4096)) }
  }

  @Test func aHighMarkOverTheNodesOwnLimitIsRefused() throws {
    let node = try node(defaults: Limits(memoryMB: 64))
    let problem = #expect(throws: Problem.self) { try node.effective(Limits(memoryHighMB: 65)) }
    #expect(problem?.field == "limits.memory_high_mb")
    #expect(try node.effective(Limits(memoryHighMB: 64)).memoryMB == 64)
  }
}
