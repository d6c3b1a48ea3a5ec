import CInitABI
import JobletModel
import Sandbox
import Testing

/// A plan as joblet-init reads it.
struct ReadStep: Equatable {
  var op: UInt32
  var flags: UInt16
  var numbers: [UInt64]
  var strings: [String]
  var blockLength: Int
}

/// Opens encoded bytes with joblet-init's own reader. Nil if it refuses them.
func read(_ bytes: [UInt8]) -> [ReadStep]? {
  // Aligned memory of exactly this length, so that a read past the end is a read past the allocation.
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
  defer { memory.deallocate() }
  memory.copyBytes(from: bytes)
  var plan = joblet_plan()
  guard joblet_plan_open(&plan, memory.baseAddress, UInt64(bytes.count)) == 0 else { return nil }
  var cursor = joblet_plan_cursor()
  var steps: [ReadStep] = []
  while joblet_plan_next(&plan, &cursor) == 1, let step = cursor.step {
    let n = step.pointee.n
    var strings: [String] = []
    for index in 0..<step.pointee.strings {
      guard let text = joblet_plan_string(&cursor, index) else { continue }
      strings.append(String(cString: text))
    }
    steps.append(
      ReadStep(
        op: UInt32(step.pointee.op), flags: step.pointee.flags, numbers: [n.0, n.1, n.2], strings: strings,
        blockLength: step.pointee.strings == 0 ? Int(step.pointee.length) : 0))
  }
  return steps
}

/// All that is done for a job, in the order in which it happens.
func makePlan(
  _ request: JobRequest = JobRequest(command: "true"), timeout: Duration? = nil,
  settings: SandboxSettings = SandboxSettings(allowedMounts: ["/usr", "/bin", "/etc/ssl"])
) throws -> Plan {
  let plans = try makePlans(request, timeout: timeout, settings: settings)
  return Plan(steps: plans.flatMap(\.steps))
}

/// The template's, the sandbox's and the job's.
func makePlans(
  _ request: JobRequest = JobRequest(command: "true"), timeout: Duration? = nil,
  settings: SandboxSettings = SandboxSettings(allowedMounts: ["/usr", "/bin", "/etc/ssl"])
) throws -> [Plan] {
  let filters = try SeccompFilters(profile: "default")
  return [
    try Plan.template(settings), try Plan.sandbox(settings, filters: filters),
    try Plan.job(request, timeout: timeout, settings: settings, filters: filters),
  ]
}

@Suite struct PlanTests {
  @Test func everyStepReachesTheReader() throws {
    let request = JobRequest(
      command: "sh", args: ["-c", "echo \"$A\"", ""], env: ["A": "ü=1"], secretEnv: ["KEY": "hush"], merge: true)
    let plans = try makePlans(request, timeout: .milliseconds(1500))
    var steps: [ReadStep] = []
    for plan in plans {
      let some = try #require(read(plan.encoded()))
      #expect(some.map(\.op) == plan.steps.map(\.op))
      steps += some
    }
    func step(_ op: joblet_plan_op) -> ReadStep? { steps.first { $0.op == op.rawValue } }
    #expect(step(JOBLET_OP_EXEC)?.strings == ["sh", "-c", "echo \"$A\"", ""])
    let environment = try #require(step(JOBLET_OP_ENVIRONMENT)?.strings)
    #expect(environment.contains("A=ü=1") && environment.contains("KEY=hush") && environment.contains("HOME=/work"))
    #expect(step(JOBLET_OP_STDIO)?.numbers.first == 1)
    #expect(step(JOBLET_OP_TIMEOUT)?.numbers == [1_500_000_000, 10_000_000_000, 0])
    #expect(step(JOBLET_OP_IDS)?.numbers == [65_534, 65_534, 0])
    #expect(step(JOBLET_OP_WORKSPACE)?.strings == ["/work"])
    let shared = steps.first { $0.op == JOBLET_OP_TMPFS.rawValue && $0.strings == ["/dev/shm"] }
    #expect(shared?.flags == UInt16(JOBLET_FLAG_NO_EXEC.rawValue))
    let link = steps.first { $0.op == JOBLET_OP_SYMLINK.rawValue && $0.strings[0] == "/etc/hosts" }
    #expect(link?.strings[1] == "/run/joblet/hosts")
    let blocks = try #require(step(JOBLET_OP_SECCOMP)?.blockLength)
    #expect(blocks > 0 && blocks % 8 == 0 && blocks <= 4096 * 8)
  }

  @Test(arguments: [
    (JOBLET_OP_ROOT, JOBLET_OP_BIND), (JOBLET_OP_BIND, JOBLET_OP_PIVOT), (JOBLET_OP_DEVICES, JOBLET_OP_PIVOT),
    (JOBLET_OP_FILE, JOBLET_OP_PIVOT), (JOBLET_OP_SYMLINK, JOBLET_OP_PIVOT), (JOBLET_OP_MOUNT_POINT, JOBLET_OP_PIVOT),
    (JOBLET_OP_PIVOT, JOBLET_OP_READ_ONLY_ROOT),
    // From here on in a sandbox: the host's tree is gone before the first of its steps.
    (JOBLET_OP_READ_ONLY_ROOT, JOBLET_OP_PROC), (JOBLET_OP_READ_ONLY_ROOT, JOBLET_OP_WORKSPACE),
    (JOBLET_OP_PRIVATE_MOUNTS, JOBLET_OP_PROC), (JOBLET_OP_DEVICES, JOBLET_OP_MASK), (JOBLET_OP_PROC, JOBLET_OP_MASK),
    (JOBLET_OP_PROC, JOBLET_OP_READ_ONLY_PATH), (JOBLET_OP_MASK, JOBLET_OP_VIOLATIONS),
    (JOBLET_OP_FACTS, JOBLET_OP_VIOLATIONS), (JOBLET_OP_VIOLATIONS, JOBLET_OP_CGROUP_NAMESPACE),
    (JOBLET_OP_CGROUP_NAMESPACE, JOBLET_OP_USER_NAMESPACE),
    (JOBLET_OP_USER_NAMESPACE, JOBLET_OP_IDS), (JOBLET_OP_IDS, JOBLET_OP_KEYRING),
    (JOBLET_OP_IDS, JOBLET_OP_CAPABILITIES), (JOBLET_OP_CAPABILITIES, JOBLET_OP_NO_NEW_PRIVILEGES),
    (JOBLET_OP_NO_NEW_PRIVILEGES, JOBLET_OP_SECCOMP), (JOBLET_OP_SECCOMP, JOBLET_OP_INIT_IDS),
    (JOBLET_OP_INIT_IDS, JOBLET_OP_INIT_SECCOMP),
    // And with the job: all privileges are gone before anything of it is read.
    (JOBLET_OP_SECCOMP, JOBLET_OP_STDIO), (JOBLET_OP_INIT_SECCOMP, JOBLET_OP_STDIO),
    (JOBLET_OP_STDIO, JOBLET_OP_CLOSE), (JOBLET_OP_CLOSE, JOBLET_OP_EXEC),
  ])
  func securityStepsKeepTheirOrder(_ first: joblet_plan_op, _ second: joblet_plan_op) throws {
    let ops = try makePlan().steps.map(\.op)
    let last = try #require(ops.lastIndex(of: first.rawValue))
    let next = try #require(ops.firstIndex(of: second.rawValue))
    #expect(last < next)
  }

  @Test func hostMountsAreReadOnlyAndNeverTwice() throws {
    let plan = try makePlan(
      settings: SandboxSettings(allowedMounts: ["/usr/share", "/usr", "/usrlocal", "/etc", "/usr"]))
    let binds = plan.steps.compactMap { step -> (String, BindOptions)? in
      if case .bind(_, let target, let options) = step { (target, options) } else { nil }
    }
    #expect(binds.map(\.0) == ["/etc", "/usr", "/usrlocal"])
    #expect(binds.allSatisfy { $0.1.contains(.readOnly) })
    // With the host's /etc there is nothing to generate, and nowhere to write it.
    #expect(!plan.steps.contains { if case .file = $0 { true } else { false } })
    #expect(!plan.steps.contains { if case .symlink = $0 { true } else { false } })
  }

  @Test(arguments: [
    (1, nil), (2, 0x3FFF), (3, 0x7FFF), (4, 0x7FFF), (5, 0xFFFF), (6, 0xFFFF), (7, 0xFFFF), (99, 0xFFFF),
  ])
  func landlockHandlesWhatTheKernelKnows(_ abi: Int, _ rights: UInt64?) {
    let support = LandlockSupport(abi: abi)
    #expect(support?.handled.rawValue == rights)
    if let support { #expect(support.scoped == (abi >= 6 ? 3 : 0)) }
  }

  @Test(arguments: [2, 7]) func landlockRulesGrantNoMoreThanIsHandled(_ abi: Int) throws {
    let support = try #require(LandlockSupport(abi: abi))
    let plans = try makePlans(settings: SandboxSettings(allowedMounts: ["/usr", "/etc/ssl"], landlock: support))
    var rules: [String: LandlockRights] = [:]
    for case .landlockAllow(let path, let rights) in plans.flatMap(\.steps) { rules[path] = rights }
    #expect(Set(rules.keys) == ["/", "/usr", "/etc/ssl", "/proc", "/dev", "/dev/shm", "/tmp", "/work"])
    // The kernel refuses a rule for a right that is not handled.
    #expect(rules.values.allSatisfy { support.handled.isSuperset(of: $0) })
    let writable = rules.filter { $0.value.contains(.writeFile) }.keys
    #expect(Set(writable) == ["/proc", "/dev", "/dev/shm", "/tmp", "/work"])
    #expect(!rules.values.contains { !$0.isDisjoint(with: [.makeCharacterDevice, .makeBlockDevice]) })
    #expect(rules["/"]?.contains(.execute) == false)
    // A plan each, as joblet-init reads them.
    let ops = try plans.flatMap { try #require(read($0.encoded())).map(\.op) }
    func index(_ op: joblet_plan_op) -> Int? { ops.firstIndex(of: op.rawValue) }
    let made = try #require(index(JOBLET_OP_LANDLOCK_RULES))
    let entered = try #require(index(JOBLET_OP_LANDLOCK))
    // The rules lie on files of the job's own root, and the payload enters them when it can't do so by a right it lost.
    #expect(try #require(index(JOBLET_OP_READ_ONLY_ROOT)) < made)
    #expect(try #require(index(JOBLET_OP_NO_NEW_PRIVILEGES)) < entered)
    #expect(entered < (try #require(index(JOBLET_OP_SECCOMP))))
  }

  @Test func withoutLandlockThePlanHasNoneOfIt() throws {
    let names = try makePlan().steps.map(\.description).filter { $0.contains("Landlock") }
    #expect(names.isEmpty)
  }

  @Test(arguments: [
    "usr", "/", "", "/usr/", "/usr/../etc", "/./usr", "/proc", "/dev/shm", "/sys/fs", "/tmp", "/opt/joblet", "/work",
    "/work/x", "/usr\0",
  ])
  func aWrongMountIsRefusedByName(_ path: String) throws {
    let error = #expect(throws: SandboxError.self) {
      try makePlan(settings: SandboxSettings(allowedMounts: [path]))
    }
    #expect(error?.field == "filesystem.allowedMounts")
  }

  @Test func aWrongRequestIsRefused() throws {
    #expect(throws: ValidationError.self) { try makePlan(JobRequest(command: "")) }
    #expect(throws: ValidationError.self) { try makePlan(JobRequest(command: "a", args: ["b\0c"])) }
  }

  @Test func descriptionsHoldNoSecrets() throws {
    let plan = try makePlan(JobRequest(command: "x", secretEnv: ["KEY": "hush"]))
    #expect(!plan.steps.contains { $0.description.contains("hush") })
  }

  @Test(arguments: [("root", 0), ("nobody", 65_534), ("1000", 1000), ("0", 0), ("65534", 65_534)])
  func usersInsideTheJob(_ name: String, _ id: UInt32) throws {
    #expect(try RunAs(user: name, group: "root").uid == id)
  }

  @Test(arguments: ["65535", "-1", "www-data", "", "4294967296"])
  func unknownUsersAreRefused(_ name: String) {
    let error = #expect(throws: SandboxError.self) { try RunAs(user: name, group: "root") }
    #expect(error?.field == "process.default_user")
  }

  @Test func setupFailuresReadBack() throws {
    let plan = try makePlan()
    let index = try #require(plan.steps.lastIndex { if case .exec = $0 { true } else { false } })
    let missing = SetupFailure(setupStep: JOBLET_OP_EXEC.rawValue << 16 | UInt32(index), setupErrno: 2)
    #expect(missing.exitCode == 127 && missing.step(in: [plan]) == "exec" && missing.step(in: []) == "exec")
    #expect(SetupFailure(setupStep: JOBLET_OP_EXEC.rawValue << 16, setupErrno: 13).exitCode == 126)
    let mount = SetupFailure(setupStep: JOBLET_OP_BIND.rawValue << 16 | 4, setupErrno: 2)
    #expect(mount.exitCode == nil && mount.step(in: [plan]).hasPrefix("mount /") && mount.step(in: []) == "mount")
  }
}

@Suite struct PlanReaderTests {
  struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state ^ (state >> 29)) &* 0x9E37_79B9_7F4A_7C15
    }
  }

  @Test(arguments: 0..<3) func mutatedPlansAreReadOrRefused(_ kind: Int) throws {
    let original = try makePlans(JobRequest(command: "sh", args: ["-c", "x"], env: ["A": "b"]), timeout: .seconds(1))[
      kind
    ].encoded()
    var random = Generator(state: 42)
    var refused = 0
    for _ in 0..<20_000 {
      var bytes = original
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[at] = [0, 0xFF, 0x7F, 0x80][Int.random(in: 0..<4, using: &random)]
        case 2: bytes.removeSubrange(at..<min(bytes.count, at + 8))
        default: bytes.insert(contentsOf: [UInt8](repeating: 0, count: 8), at: at)
        }
        if bytes.isEmpty { break }
      }
      if let steps = read(bytes) { #expect(steps.count <= 1024) } else { refused += 1 }
    }
    #expect(refused > 1000)
  }

  @Test(arguments: 0..<3) func everyTruncationIsRefused(_ kind: Int) throws {
    let bytes = try makePlans()[kind].encoded()
    for length in stride(from: 0, to: bytes.count, by: 7) { #expect(read(Array(bytes[..<length])) == nil) }
    #expect(read(bytes + [0, 0, 0, 0, 0, 0, 0, 0]) == nil)
  }

  @Test func stepsOfAnEarlierPhaseAreRefused() throws {
    #expect(read(Plan(steps: [.privateMounts, .noNewPrivileges, .initIDs(1)]).encoded()) != nil)
    #expect(read(Plan(steps: [.noNewPrivileges, .privateMounts]).encoded()) == nil)
    #expect(read(Plan(steps: [.initIDs(1), .noNewPrivileges]).encoded()) == nil)
  }

  /// What is applied ahead of need holds nothing of a job, and a job's plan does nothing that takes privileges.
  @Test func aPlanIsAJobsOrASandboxs() throws {
    #expect(read(Plan(steps: [.exec(["a"])]).encoded()) != nil)
    #expect(read(Plan(steps: [.privateMounts, .exec(["a"])]).encoded()) == nil)
    #expect(read(Plan(steps: [.noNewPrivileges, .exec(["a"])]).encoded()) == nil)
    #expect(read(Plan(steps: [.closeDescriptors]).encoded()) == nil)
    #expect(read(Plan(steps: []).encoded()) == nil)
    // Nothing may follow the exec: it would silently never run.
    #expect(read(Plan(steps: [.exec(["a"]), .closeDescriptors]).encoded()) == nil)
    #expect(read(Plan(steps: [.exec(["a"]), .exec(["b"])]).encoded()) == nil)
  }

  @Test func onlyAStricterProfileIsAStepOfTheJob() throws {
    let filters = try SeccompFilters(profile: "default")
    let settings = SandboxSettings(allowedMounts: [])
    func steps(_ profile: String?) throws -> Int {
      let request = JobRequest(command: "true", seccomp: profile)
      return try Plan.job(request, timeout: nil, settings: settings, filters: filters).steps.count {
        if case .jobSeccomp = $0 { true } else { false }
      }
    }
    #expect(try steps(nil) == 0 && steps("default") == 0)
    #expect(try steps("strict") == 1)
    #expect(throws: SandboxError.self) { try steps("compat") }
  }

  @Test func aLengthThatWrapsIsRefused() throws {
    var bytes = Plan(steps: [.exec(["a"])]).encoded()
    for value in [UInt8(0xF9), 0xFF] {
      bytes.replaceSubrange(16 + 8..<16 + 12, with: [value, 0xFF, 0xFF, 0xFF])
      #expect(read(bytes) == nil)
    }
  }
}
