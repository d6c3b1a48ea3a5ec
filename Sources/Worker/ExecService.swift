import DaemonKit
import JobletConfig
import JobletModel
import JobletWire
import Logging
import ServiceLifecycle

/// joblet-exec: jobs, from admission to removal. Adopts first, then waits for persist, then serves.
public struct ExecService: Service {
  private let context: DaemonContext
  private let paths: ExecPaths

  /// The sockets exec listens on by its configuration.
  public static func listeners(_ configuration: Configuration) -> [ExpectedListener] {
    [ExpectedListener(name: "exec", address: .unix(configuration.execSocket))]
  }

  /// - Throws: ``SetupError`` for a configuration that this version can't serve.
  public init(_ context: DaemonContext, paths: ExecPaths) throws {
    try NodeSetup.check(context.configuration)
    guard paths.cgroupRoot != nil || context.isSupervised else {
      throw SetupError(
        description: "without systemd there is no \(JobsScope.unit): name a cgroup v2 directory with --cgroup-root")
    }
    self.context = context
    self.paths = paths
  }

  public func run() async throws {
    do {
      try await cancelWhenGracefulShutdown { try await work() }
    } catch is CancellationError {
      // This is how it stops. Jobs go on; the next start adopts them.
    }
  }

  private func work() async throws {
    let logger = context.logger
    let preparing = try WorkQueue(name: "jl-prepare", threads: 1)
    let (configuration, paths) = (context.configuration, paths)
    let node = try await preparing.run {
      try NodeSetup(configuration, paths: paths, filler: preparing, logger: logger)
    }
    let loop = try LoopExecutor(name: "jl-loop")
    let supervisor = JobSupervisor(
      loop: loop, settings: node.settings, launcher: node.launcher, teardown: node.teardown,
      admitting: try WorkQueue(name: "jl-admit", threads: 1),
      launching: try WorkQueue(name: "jl-launch", threads: 2), ending: try WorkQueue(name: "jl-end", threads: 2),
      removing: try WorkQueue(name: "jl-remove", threads: 2), sampling: try WorkQueue(name: "jl-sample", threads: 1),
      logger: logger)
    await supervisor.keepBeating(context.watchdog)
    let adopted = try await supervisor.adopt()
    // After the adoption, which marks the ID ranges that are taken.
    node.launcher.namespaces.fill()
    node.sandboxes.open()
    await supervisor.sweepWorkspaces()
    await supervisor.connect()
    logger.info("supervising", metadata: ["adopted": "\(adopted)", "state": "\(paths.stateDirectory)"])
    if configuration.ipc.enabled { try await waitForPersist(adopted) }
    await supervisor.open()
    let manager = context.manager
    manager.ready(await supervisor.statusSentence)
    await supervisor.setStatusHandler { manager.status($0) }
    do {
      try await serve(
        supervisor,
        NodeReport(
          meter: NodeMeter(configuration, paths: paths, cgroups: node.launcher.cgroups),
          queue: try WorkQueue(name: "jl-node", threads: 1), prepared: { node.sandboxes.count }))
    } catch {
      await supervisor.close()
      // Jobs go on; sandboxes that wait for one would wait for nobody.
      try await preparing.run { node.sandboxes.close() }
      withExtendedLifetime(node.lock) {}
      throw error
    }
  }

  /// The gate holds new jobs and `READY=1`; the jobs that were adopted are supervised meanwhile.
  private func waitForPersist(_ adopted: Int) async throws {
    let manager = context.manager
    try await PersistGate.wait(
      querySocket: context.configuration.persist.server.querySocket, logger: context.logger,
      onTry: { manager.status("waiting for persist, try \($0) of 30; \(adopted) jobs adopted") })
  }

  private func serve(_ supervisor: JobSupervisor, _ node: NodeReport) async throws {
    let listener = try context.sockets.listener("exec")
    let server = ExecServer(supervisor: supervisor, node: node, logger: context.logger)
    let frames = FrameServer(
      listening: listener.descriptor, maxPayload: ExecServer.maxPayload,
      maxConnections: context.configuration.server.maxConnections,
      allowedUsers: try allowedPeers(["joblet-api", "root"], for: listener), logger: context.logger,
      handle: { try await server.serve($0) })
    try await withThrowingTaskGroup(of: Void.self) { group in
      defer { group.cancelAll() }
      group.addTask { try await frames.run() }
      group.addTask { try await supervisor.waitForTrouble() }
      try await group.next()
    }
  }
}

extension JobSupervisor {
  /// Pets the watchdog from the loop itself: if it is stuck, systemd restarts exec, and the next one adopts.
  func keepBeating(_ watchdog: Watchdog) {
    let heart = watchdog.heart("supervision")
    heart.beat()
    if let interval = watchdog.interval { beat(heart, every: interval / 2) }
  }

  private func beat(_ heart: Watchdog.Heart, every interval: Duration) {
    loop.schedule(after: interval) { [weak self] in
      self?.assumeIsolated { supervisor in
        heart.beat()
        supervisor.beat(heart, every: interval)
      }
    }
  }
}
