import Cgroups
import DaemonKit
import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Logging
import Sandbox
import Synchronization

/// Where exec finds what is not in the configuration; a developer may point elsewhere.
public struct ExecPaths: Sendable {
  /// cgroup v2 directory for jobs; nil: `joblet-jobs.scope`, made through systemd if it is absent.
  public var cgroupRoot: String?
  /// State that outlives exec, on tmpfs.
  public var stateDirectory: String
  public var initProgram: String

  public static let defaultStateDirectory = "/run/joblet"
  public static let defaultInit = "/opt/joblet/bin/joblet-init"

  public init(
    cgroupRoot: String? = nil, stateDirectory: String = defaultStateDirectory, initProgram: String = defaultInit
  ) {
    self.cgroupRoot = cgroupRoot
    self.stateDirectory = stateDirectory
    self.initProgram = initProgram
  }
}

/// Why this node can't run jobs as configured, and what to change.
public struct SetupError: Error, CustomStringConvertible {
  public var description: String
}

/// Everything a node needs once, before its first job. Blocks, so it runs on a thread of its own.
struct NodeSetup: Sendable {
  let launcher: JobLauncher
  let sandboxes: SandboxStock
  let teardown: JobTeardown
  let settings: WorkerSettings
  /// Holds the lock on the state directory for as long as this process lives.
  let lock: StateLock

  private final class OneAtATime: Sendable {
    private let lock = Mutex(())
    func run(_ body: () throws -> Void) throws { try lock.withLock { _ in try body() } }
  }

  final class StateLock: Sendable {
    let file: FileDescriptor
    init(_ file: consuming FileDescriptor) { self.file = file }
  }

  /// What the configuration asks for that can't be: before anything is touched.
  static func check(_ configuration: Configuration) throws(SetupError) {
    guard configuration.network.defaultNetwork == "none" else {
      throw SetupError(
        description:
          "network.default_network: '\(configuration.network.defaultNetwork)' is not supported by this version; allowed is none"
      )
    }
  }

  init(_ configuration: Configuration, paths: ExecPaths, filler: WorkQueue, logger: Logger) throws {
    guard geteuid() == 0 else {
      throw SetupError(description: "joblet-exec makes namespaces and cgroups for jobs and must run as root")
    }
    let state = paths.stateDirectory
    try NodeSetup.makeDirectories(["\(state)", "\(state)/jobs", "\(state)/prepared", "\(state)/root"], mode: 0o700)
    try NodeSetup.makeDirectories([configuration.filesystem.baseDir], mode: 0o711)
    lock = try NodeSetup.lock("\(state)/lock")
    // With the lock held: what it finds of an earlier exec is nobody's any more.
    let workspaces = try Workspaces(configuration.filesystem)
    if paths.cgroupRoot == nil { try JobsScope.ensure(logger: logger) }
    let cgroups = try NodeSetup.cgroups(configuration, path: paths.cgroupRoot ?? JobsScope.path, logger: logger)
    let spawner = try InitSpawner(executable: paths.initProgram)
    let pool = configuration.isolation.idPool
    let ranges = IDRangePool(first: pool.first, count: pool.count)
    guard ranges.free > 0 else {
      throw SetupError(
        description: "isolation.id_pool: \(pool.count) IDs are not enough for one job, which takes 65536")
    }
    let namespaces = NamespaceStock(ranges: ranges, filler: filler, logger: logger)
    var settings = WorkerSettings(
      configuration, stateRoot: "\(state)/jobs", cgroups: cgroups, disk: try NodeSetup.disk(configuration),
      software: "joblet-exec \(jobletVersion) pid \(getpid())")
    // More jobs than ranges of IDs can't run at once; the others wait in the queue.
    settings.maxRunning = settings.maxRunning == 0 ? ranges.free : min(settings.maxRunning, ranges.free)
    self.settings = settings
    teardown = JobTeardown(
      cgroups: cgroups, workspaces: workspaces,
      timeout: configuration.joblet.cleanupTimeout)
    let sandbox = try SandboxSettings(
      configuration, stateDirectory: state,
      landlock: try LandlockPolicy.support(configuration.isolation.landlock, abi: Landlock.abi(), logger: logger))
    let filters = try SeccompFilters(profile: configuration.isolation.seccomp)
    let shared = JobLauncher.SharedSpawner(spawner)
    let isOwnScope = paths.cgroupRoot == nil
    let plan = try SandboxMaker.SandboxPlan(try Plan.sandbox(sandbox, filters: filters))
    // Threads that find the scope gone at the same moment must not each make one.
    let restoring = OneAtATime()
    sandboxes = SandboxStock(
      maker: SandboxMaker(
        spawner: shared,
        template: try MountTemplate.make(sandbox, spawner: shared, cgroups: cgroups, root: settings.preparedRoot),
        plan: plan, cgroups: cgroups, namespaces: namespaces, workspaces: workspaces, teardown: teardown,
        settings: sandbox, ringSize: settings.ringSize, maxRecords: settings.maxRecords, root: settings.preparedRoot,
        logger: logger,
        restoreRoot: {
          guard isOwnScope else { return }
          try restoring.run {
            try JobsScope.ensure(logger: logger)
            _ = try CgroupRoot(path: JobsScope.path, enabling: cgroups.controllers)
          }
        }),
      size: configuration.isolation.prepared, teardown: teardown, filler: filler, logger: logger)
    launcher = try JobLauncher(
      sandboxes: sandboxes, cgroups: cgroups, namespaces: namespaces, settings: sandbox, filters: filters,
      workspaces: workspaces, sandboxPlan: plan.plan)
  }

  private static func cgroups(_ configuration: Configuration, path: String, logger: Logger) throws -> CgroupRoot {
    var wanted: Set<Controller> = []
    for name in configuration.cgroup.enableControllers {
      guard let controller = Controller(rawValue: name) else {
        let known = Controller.allCases.map(\.rawValue).joined(separator: ", ")
        throw SetupError(description: "cgroup.enableControllers: '\(name)' is not known; allowed are \(known)")
      }
      wanted.insert(controller)
    }
    let root = try CgroupRoot(path: path, enabling: wanted)
    let missing = wanted.subtracting(root.controllers).map(\.rawValue).sorted().joined(separator: ", ")
    guard missing.isEmpty else {
      throw SetupError(
        description:
          "cgroup.enableControllers: \(path) does not offer \(missing); delegate them to it, or take them off the list (limits that need them can't be asked for then)"
      )
    }
    let jobs = configuration.joblet
    let unheld = [
      (jobs.defaultCPULimit > 0, Controller.cpu, "joblet.defaultCpuLimit"),
      (jobs.defaultMemoryLimit > 0, .memory, "joblet.defaultMemoryLimit"),
      (jobs.defaultIOLimit > 0, .io, "joblet.defaultIoLimit"),
    ]
    for (isSet, controller, key) in unheld where isSet && !root.controllers.contains(controller) {
      throw SetupError(
        description:
          "\(key): the cgroup controller '\(controller.rawValue)' is not enabled on this node, so the limit can't be held; add it to cgroup.enableControllers, or set \(key) to 0"
      )
    }
    if !root.controllers.contains(.pids) {
      logger.warning("process.pids is not held: the cgroup controller 'pids' is not enabled on this node")
    }
    return root
  }

  /// The disk that limits on I/O are for. A node without one is a node where they can't be asked for.
  private static func disk(_ configuration: Configuration) throws(SetupError) -> WorkDisk {
    let disk = WorkDisk.behind(configuration.filesystem.baseDir)
    if case .none(let why) = disk, configuration.joblet.defaultIOLimit > 0 {
      throw SetupError(
        description:
          "joblet.defaultIoLimit can't be held in filesystem.baseDir: \(why); or set joblet.defaultIoLimit to 0")
    }
    return disk
  }

  private static func makeDirectories(_ paths: [String], mode: mode_t) throws(Errno) {
    for path in paths {
      var prefix = ""
      let parts = path.split(separator: "/")
      for (index, part) in parts.enumerated() {
        prefix += "/\(part)"
        let isLast = index == parts.count - 1
        if mkdir(prefix, isLast ? mode : 0o755) != 0, errno != EEXIST { throw Errno(errno, "mkdir", prefix) }
      }
    }
  }

  /// Two execs over one state directory would each adopt the other's jobs.
  private static func lock(_ path: String) throws -> StateLock {
    let file = try FileDescriptor.open(path, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
    guard flock(file.raw, LOCK_EX | LOCK_NB) == 0 else {
      throw SetupError(description: "another joblet-exec works with \(path); stop it first, or give --state-dir")
    }
    return StateLock(file)
  }
}
