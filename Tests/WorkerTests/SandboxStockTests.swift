import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Logging
import Sandbox
import Synchronization
import Testing
import Worker

private func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

/// Sandboxes on the machine's own kernel. They need root, a cgroup v2 directory (`JOBLET_TEST_CGROUP`) and the program
/// (`JOBLET_TEST_INIT`); without both they are skipped.
@Suite(
  .enabled(if: setting("JOBLET_TEST_CGROUP") != nil && setting("JOBLET_TEST_INIT") != nil), .serialized,
  .timeLimit(.minutes(5)))
struct RealSandboxTests {
  /// A node's means of making sandboxes, in folders of the test's own.
  final class Node {
    let directory = TemporaryDirectory()
    let cgroups: CgroupRoot
    let teardown: JobTeardown
    let namespaces: NamespaceStock
    let maker: SandboxMaker
    let filler: WorkQueue
    let settings: SandboxSettings
    let filters: SeccompFilters
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    var prepared: String { "\(directory.path)/prepared" }

    init(ranges: UInt32 = 64) throws {
      for name in ["jobs", "prepared", "root", "work"] { mkdir("\(directory.path)/\(name)", 0o700) }
      cgroups = try CgroupRoot(path: setting("JOBLET_TEST_CGROUP") ?? "", enabling: [])
      let workspaces = Workspaces(path: "\(directory.path)/work")
      teardown = JobTeardown(cgroups: cgroups, workspaces: workspaces, timeout: .seconds(20))
      filler = try WorkQueue(name: "fill", threads: 1)
      namespaces = NamespaceStock(
        ranges: IDRangePool(first: 1_879_048_192, count: ranges * 65_536), size: 0, filler: filler, logger: logger)
      settings = SandboxSettings(
        allowedMounts: ["/usr", "/bin", "/lib", "/lib64"], stagingDirectory: "\(directory.path)/root")
      filters = try SeccompFilters(profile: "default")
      let spawner = JobLauncher.SharedSpawner(try InitSpawner(executable: setting("JOBLET_TEST_INIT") ?? ""))
      maker = SandboxMaker(
        spawner: spawner,
        template: try MountTemplate.make(
          settings, spawner: spawner, cgroups: cgroups, root: "\(directory.path)/prepared"),
        plan: try SandboxMaker.SandboxPlan(try Plan.sandbox(settings, filters: filters)), cgroups: cgroups,
        namespaces: namespaces, workspaces: workspaces, teardown: teardown, settings: settings, ringSize: 1 << 17,
        maxRecords: 1000, root: "\(directory.path)/prepared", logger: logger, restoreRoot: {})
    }

    func stock(_ size: Int) -> SandboxStock {
      SandboxStock(maker: maker, size: size, teardown: teardown, filler: filler, logger: logger)
    }

    func launcher(_ sandboxes: any SandboxSource) throws -> JobLauncher {
      try JobLauncher(
        sandboxes: sandboxes, cgroups: cgroups, namespaces: namespaces, settings: settings, filters: filters,
        workspaces: Workspaces(path: "\(directory.path)/work"), sandboxPlan: Plan.sandbox(settings, filters: filters))
    }

    func order(_ request: JobRequest) -> JobLauncher.Order {
      let job = JobID(node: 1)
      return JobLauncher.Order(
        job: job, request: request, limits: .success(CgroupLimits()), timeout: .seconds(60), record: Array("{}".utf8),
        directory: JobStateDirectory(root: "\(directory.path)/jobs", job: job), isThere: false, isLive: false)
    }

    /// Removes one that was taken.
    func remove(_ sandbox: PreparedSandbox) throws {
      try teardown.remove(sandbox.name, cgroup: "\(sandbox.name)", process: sandbox.process)
      JobStateDirectory(root: prepared, job: sandbox.name).remove()
      namespaces.giveBack(sandbox.firstID)
    }

    /// What the filler has still to do is done after this.
    func waitForFiller() {
      let done = Mutex(false)
      filler.submit { done.withLock { $0 = true } }
      while !done.withLock({ $0 }) { usleep(1000) }
    }

    func names() throws -> [JobID] { try JobStateDirectory.jobs(root: prepared) }

    func waitForStock(_ count: Int) throws {
      // Each has its launch note last of all.
      while try names().filter({ access("\(prepared)/\($0)/launch", F_OK) == 0 }).count < count { usleep(5000) }
    }

    /// Gives the go and waits for the end; returns what the job wrote.
    func run(_ job: LaunchedJob) throws -> (EndReport, String) {
      var consumer = try RingConsumer(ring: job.files.ring)
      var hasGone = false
      while true {
        job.files.ring.store32(RingLayout.Field.execWaiting, 1)
        _ = try consumer.look()
        if consumer.phase == .ready, !hasGone {
          hasGone = true
          job.files.ring.store32(RingLayout.Field.go, 1)
          try job.files.space.wake()
        }
        if consumer.phase == .ended { break }
        var entry = pollfd(fd: job.files.data.descriptor.raw, events: Int16(POLLIN), revents: 0)
        try Kernel.call("poll") { poll(&entry, 1, 1000) }
        try job.files.data.drain()
      }
      var text = ""
      while let entry = try consumer.nextToSend() {
        let bytes = UnsafeRawBufferPointer(
          start: job.files.ring.address(entry.payloadOffset), count: entry.length)
        text += String(decoding: bytes, as: UTF8.self)
      }
      return (try consumer.endReport(), text)
    }
  }

  @Test func aJobTakesASandboxAndEverythingOfIt() throws {
    let node = try Node()
    let stock = node.stock(2)
    stock.open()
    try node.waitForStock(2)
    let before = Set(try node.names())
    let order = node.order(
      JobRequest(
        command: "sh", args: ["-c", "echo $KEY; cat /etc/hostname; echo x > f; id -u"], secretEnv: ["KEY": "hush"]))
    let launcher = try node.launcher(stock)
    let outcome = try launcher.launch(order)
    #expect(outcome.problem == nil)
    let job = try #require(outcome.job)
    let cgroup = try #require(JobID(job.cgroup))
    #expect(before.contains(cgroup))
    // Nothing is left under the sandbox's own name but the cgroup, and the note says so.
    #expect(access("\(node.prepared)/\(cgroup)", F_OK) != 0)
    #expect(access("\(node.directory.path)/work/\(cgroup)", F_OK) != 0)
    #expect(try order.directory.loadLaunch()?.cgroup == job.cgroup)
    #expect(try order.directory.loadRequest().secretEnv == ["KEY": "hush"])
    let (report, text) = try node.run(job)
    #expect(report.end == .exited(0))
    #expect(text == "hush\njob-\(order.job)\n65534\n")
    #expect(access("\(node.directory.path)/work/\(order.job)/work/f", F_OK) == 0)
    try node.teardown.remove(order.job, cgroup: job.cgroup, process: job.process)
    order.directory.remove()
    #expect(access("\(node.directory.path)/work/\(order.job)", F_OK) != 0)
    #expect(access(order.directory.path, F_OK) != 0)
    try node.waitForStock(2)
    stock.close()
    #expect(try node.names().isEmpty)
    #expect(try JobStateDirectory.jobs(root: "\(node.directory.path)/work").isEmpty)
  }

  @Test func withoutAStockAJobMakesItsOwn() throws {
    let node = try Node()
    let order = node.order(JobRequest(command: "echo", args: ["made"]))
    let job = try #require(try node.launcher(node.stock(0)).launch(order).job)
    let (report, text) = try node.run(job)
    #expect(report.end == .exited(0) && text == "made\n")
    try node.teardown.remove(order.job, cgroup: job.cgroup, process: job.process)
  }

  @Test func aSandboxWhoseInitDiedIsNotUsed() throws {
    let node = try Node()
    let stock = node.stock(2)
    stock.open()
    try node.waitForStock(2)
    var dead: Set<JobID> = []
    for name in try node.names() {
      let note = try #require(try JobStateDirectory(root: node.prepared, job: name).loadLaunch())
      kill(note.pid, SIGKILL)
      let handle = try ProcessHandle.open(pid: note.pid)
      while try handle.isAlive() { usleep(1000) }
      dead.insert(name)
    }
    let sandbox = try stock.take()
    #expect(!dead.contains(sandbox.name))
    stock.discard(sandbox)
    stock.close()
    node.waitForFiller()
    #expect(try node.names().isEmpty)
  }

  /// An exec that was killed: its sandboxes go, but not the one a job has got meanwhile.
  @Test func whatAnEarlierExecLeftIsRemovedButNotAJobs() throws {
    let node = try Node()
    let left = try #require(try node.maker.make())
    let claimed = try #require(try node.maker.make())
    // Killed in the middle of a claim: the job's own directory was there already, and the two have changed places.
    try SandboxStock.removeLeftovers(
      in: node.prepared, claimed: ["\(claimed.name)"], teardown: node.teardown, namespaces: node.namespaces,
      logger: node.logger)
    #expect(try node.names().isEmpty)
    // A process that is killed leaves its cgroup first and has ended a moment later.
    let deadline = ContinuousClock.now + .seconds(10)
    while try left.process.handle.isAlive(), .now < deadline { usleep(1000) }
    #expect(try !left.process.handle.isAlive())
    #expect(!JobCgroup(root: node.cgroups, name: "\(left.name)").directory.exists)
    #expect(try claimed.process.handle.isAlive())
    #expect(JobCgroup(root: node.cgroups, name: "\(claimed.name)").directory.exists)
    try node.teardown.remove(claimed.name, cgroup: "\(claimed.name)", process: claimed.process)
    _ = try left.process.handle.wait()
  }

  @Test func aSandboxThatCanNotBeMadeKeepsItsIDsOnlyWhileSomethingOfItIsLeft() throws {
    let node = try Node(ranges: 1)
    let work = "\(node.directory.path)/work"
    // No workspace can be made, but what was made before it can be removed.
    #expect(rename(work, "\(work).away") == 0)
    let first = #expect(throws: SetupProblem.self) { try node.maker.make() }
    #expect(first?.step == "workspace")
    #expect(try node.names().isEmpty)
    // Now nobody can say that there is none.
    close(open(work, O_CREAT | O_WRONLY, 0o600))
    let second = #expect(throws: SetupProblem.self) { try node.maker.make() }
    #expect(second?.step == "workspace")
    #expect(try node.names().count == 1, "the next start finds it")
    #expect(try node.maker.make() == nil, "its IDs are not free")
  }

  @Test func aJobWaitsForARangeThatComesBack() throws {
    let node = try Node(ranges: 1)
    let first = try #require(try node.maker.make())
    #expect(try node.maker.make() == nil)
    let impatient = SandboxStock(
      maker: node.maker, size: 0, teardown: node.teardown, patience: .milliseconds(10), filler: node.filler,
      logger: node.logger)
    let error = #expect(throws: SetupProblem.self) { try impatient.take() }
    #expect(error?.message.contains("isolation.id_pool") == true)
    node.filler.submit { [teardown = node.teardown, namespaces = node.namespaces] in
      do { try teardown.remove(first.name, cgroup: "\(first.name)", process: first.process) } catch { return }
      namespaces.giveBack(first.firstID)
    }
    let second = try node.stock(0).take()
    #expect(second.firstID == first.firstID)
    try node.teardown.remove(second.name, cgroup: "\(second.name)", process: second.process)
  }

  /// One range, and whoever is first makes a sandbox of it: the job gets that one, even if it was made for the stock.
  @Test func aJobDoesNotStarveBesideASandboxThatIsJustMade() throws {
    let node = try Node(ranges: 1)
    for _ in 0..<50 {
      let stock = node.stock(1)
      stock.open()
      let sandbox = try stock.take()
      stock.close()
      try node.remove(sandbox)
    }
    node.waitForFiller()
    #expect(try node.names().isEmpty)
  }

  /// The stock doesn't take the range that a job waits for: both would look for it at the same moment, over and over.
  @Test func whatComesBackIsForTheJobThatWaits() throws {
    let node = try Node(ranges: 1)
    let stock = node.stock(1)
    let first = try stock.take()
    let second = Mutex<Result<PreparedSandbox, SetupProblem>?>(nil)
    try KeptThread.start(name: "job") {
      let result = Result { () throws(SetupProblem) in try stock.take() }
      second.withLock { $0 = result }
    }
    try node.remove(first)
    stock.open()
    while second.withLock({ $0 == nil }) { usleep(1000) }
    let sandbox = try #require(try second.withLock { try $0?.get() })
    #expect(sandbox.firstID == first.firstID)
    stock.close()
    try node.remove(sandbox)
  }
}

@Suite struct NamespaceStockTests {
  @Test func withoutAFreeRangeThereIsNone() throws {
    let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
    var ranges = IDRangePool(first: 65_536, count: 65_536)
    #expect(ranges.take() == 65_536)
    let stock = NamespaceStock(ranges: ranges, filler: try WorkQueue(name: "fill", threads: 1), logger: logger)
    #expect(try stock.take() == nil)
  }
}

@Suite struct ClaimTests {
  private func directory(_ root: String, _ job: JobID = JobID(node: 1)) -> JobStateDirectory {
    mkdir(root, 0o700)
    return JobStateDirectory(root: root, job: job)
  }

  @Test(arguments: [false, true]) func aSandboxsDirectoryBecomesAJobs(_ exists: Bool) throws {
    let root = TemporaryDirectory()
    let sandbox = directory("\(root.path)/prepared")
    let job = directory("\(root.path)/jobs")
    let request = JobRequest(command: "true", secretEnv: ["KEY": "hush"])
    if exists { try job.create(request: request, record: Array("old".utf8)) }
    try sandbox.createForSandbox()
    try sandbox.saveLaunch(LaunchNote(pid: 1, startTime: 2, firstID: 65_536, cgroup: "x"))
    try sandbox.writeJob(request: request, record: Array("new".utf8), isLive: true)
    try sandbox.become(job, exists: exists)
    #expect(access(sandbox.path, F_OK) != 0)
    #expect(try job.loadLaunch()?.cgroup == "x")
    #expect(try job.loadRequest().secretEnv == ["KEY": "hush"] && job.isLive)
    let record = try FileDescriptor.open("\(job.path)/record", O_RDONLY).readAll()
    #expect(String(decoding: record, as: UTF8.self) == "new")
    try job.writeFacts(Plan.facts(of: JobID(node: 1)))
    job.remove()
    #expect(access(job.path, F_OK) != 0)
  }

  @Test func aNoteOfAnEarlierVersionNamesNoCgroup() throws {
    let root = TemporaryDirectory()
    let job = directory("\(root.path)/jobs")
    try job.createForSandbox()
    let file = try FileDescriptor.open("\(job.path)/launch", O_WRONLY | O_CREAT, mode: 0o600)
    try file.writeAll(Array(#"{"pid":7,"start_time":8,"first_id":65536}"#.utf8))
    #expect(try job.loadLaunch() == LaunchNote(pid: 7, startTime: 8, firstID: 65_536))
  }
}
