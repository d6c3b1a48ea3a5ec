import JobletConfig
import JobletModel
import JobletWire
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// The gateway as one service: two listeners, the live view, the readiness gate, and the drain at the end.
public struct Gateway: Service {
  /// What the gateway tells the service manager. Plain closures, so that it runs in a test as it does under systemd.
  public struct Hooks: Sendable {
    /// It serves: `READY=1` with a sentence for `systemctl status`.
    public var ready: @Sendable (String) -> Void
    public var status: @Sendable (String) -> Void
    /// Called once for each event loop that serves: to be watched.
    public var watch: @Sendable (any EventLoop, String) -> Void

    public init(
      ready: @escaping @Sendable (String) -> Void = { _ in }, status: @escaping @Sendable (String) -> Void = { _ in },
      watch: @escaping @Sendable (any EventLoop, String) -> Void = { _, _ in }
    ) {
      self.ready = ready
      self.status = status
      self.watch = watch
    }
  }

  /// Proxies and browsers commonly give up a silent stream after 30 to 60 seconds.
  public static let heartbeat: Duration = .seconds(15)

  private let configuration: Configuration
  private let api: CInt
  private let health: CInt
  private let hooks: Hooks
  private let logger: Logger
  private let tls: CurrentTLS
  private let audit: AuditLog?
  private let parts: Parts
  private let gateTries: Int
  private let address: String

  /// What requests are answered from.
  private struct Parts: Sendable {
    let exec: FramePool
    let pulls = SharedPulls()
    let persist: FramePool?
    let persistWatch: PersistWatch?
    let view = LiveView()
    let metrics = GatewayMetrics()
    let drain = DrainSignal()
    let certificates = CertificateBoard()
    let readiness: Readiness
    let reporter: NodeReporter
    let connections: ConnectionRegistry
    let healthConnections = ConnectionRegistry(limit: 256, metrics: nil)

    let ledgers: LoopLedgers
    let refusals: LogLimit

    let heartbeat: Duration

    init(
      _ configuration: Configuration, execSocket: String, address: String = "",
      heartbeat: Duration = Gateway.heartbeat, bounds: ClientBounds = ClientBounds(), logger: Logger
    ) {
      self.heartbeat = heartbeat
      exec = FramePool(path: execSocket, service: "joblet-exec")
      persist =
        configuration.ipc.enabled
        ? FramePool(path: configuration.persist.server.querySocket, service: "joblet-persist") : nil
      persistWatch = persist.map { PersistWatch($0, logger: logger) }
      readiness = Readiness(view: view, persistWatch: persistWatch, certificates: certificates)
      connections = ConnectionRegistry(
        limit: configuration.server.maxConnections, handshakes: ConnectionRegistry.handshakes, metrics: metrics)
      refusals = LogLimit(logger)
      ledgers = LoopLedgers(
        bounds, loops: MultiThreadedEventLoopGroup.singleton.makeIterator().reduce(0) { n, _ in n + 1 },
        metrics: metrics)
      reporter = NodeReporter(
        exec: exec, persistWatch: persistWatch, view: view, readiness: readiness, metrics: metrics,
        certificates: certificates, nodeID: configuration.server.nodeID,
        address: Gateway.reachable(configuration.server.advertise, listening: address))
    }
  }

  /// - Parameters:
  ///   - api: the listening socket of the API; the gateway closes it at its end.
  ///   - health: the listening socket of `/healthz`, `/readyz` and `/metrics`.
  ///   - execSocket: where joblet-exec listens.
  ///   - address: where `api` listens, for people.
  ///   - gateTries: how often persist is tried, a second apart, before the gateway gives up.
  ///   - heartbeat: the longest silence on a stream.
  ///   - bounds: what clients may make it hold.
  /// - Throws: ``TLSSettings/Invalid`` or ``AuditLog/Unwritable``, naming the configuration's key.
  public init(
    configuration: Configuration, api: CInt, health: CInt, execSocket: String, address: String,
    hooks: Hooks = Hooks(), gateTries: Int = 30, heartbeat: Duration = Gateway.heartbeat,
    bounds: ClientBounds = ClientBounds(), logger: Logger
  ) throws {
    self.configuration = configuration
    self.api = api
    self.health = health
    self.hooks = hooks
    self.address = address
    self.gateTries = gateTries
    self.logger = logger
    let settings = try TLSSettings(configuration.security, minVersion: configuration.server.tls.minVersion)
    tls = CurrentTLS(settings)
    let auditing = configuration.security.audit
    audit = auditing.enabled ? try AuditLog(file: auditing.logFile, logger: logger) : nil
    parts = Parts(
      configuration, execSocket: execSocket, address: address, heartbeat: heartbeat, bounds: bounds, logger: logger)
    parts.certificates.replace(with: settings.certificates)
    warnOfOldLists(settings)
  }

  private func warnOfOldLists(_ settings: TLSSettings) {
    for warning in settings.revocations.warnings() { logger.warning("\(warning)") }
  }

  /// Gives new connections the certificates that the configuration names now. Open ones keep theirs. The revocation list
  /// holds for all of them.
  /// - Throws: ``TLSSettings/Invalid``; the old ones stay in use then.
  public func reload(_ configuration: Configuration) throws {
    let settings = try TLSSettings(configuration.security, minVersion: configuration.server.tls.minVersion)
    tls.replace(with: settings)
    let revoked =
      configuration.security.crl.isEmpty ? "" : "; \(settings.revocations.count) client certificates are revoked"
    logger.notice("certificates reloaded; open connections keep the old ones\(revoked)")
    warnOfOldLists(settings)
    parts.certificates.replace(with: settings.certificates)
    parts.certificates.tell(logger)
    try audit?.reopen()
  }

  /// Every route's method, pattern and operation: what the API's document must describe.
  public static var routes: [Route] {
    let logger = Logger(label: "routes")
    let parts = Parts(Configuration(), execSocket: "", logger: logger)
    return table(parts).routes
  }

  private static func table(_ parts: Parts) -> RouteTable {
    let directory = JobDirectory(view: parts.view, persist: parts.persist)
    let source = StreamSource(
      exec: parts.exec, pulls: parts.pulls, directory: directory, persistWatch: parts.persistWatch,
      drain: parts.drain, heartbeat: parts.heartbeat)
    return RouteTable(
      jobs: JobRoutes(
        exec: parts.exec, persist: parts.persist, persistWatch: parts.persistWatch, view: parts.view,
        directory: directory),
      streams: StreamRoutes(source: source),
      events: EventRoutes(
        source: EventSource(
          view: parts.view, directory: directory, drain: parts.drain, heartbeat: parts.heartbeat)),
      node: NodeRoutes(reporter: parts.reporter, drain: parts.drain, heartbeat: parts.heartbeat))
  }

  /// Where others reach the gateway. One that listens on every address has no single one to tell.
  static func reachable(_ advertised: String, listening: String) -> String? {
    if !advertised.isEmpty { return advertised }
    let address = listening.hasPrefix("tcp:") ? String(listening.dropFirst(4)) : listening
    return address.isEmpty || address.hasPrefix("0.0.0.0:") || address.hasPrefix("[::]:") ? nil : address
  }

  /// Requests that wait for a job's end.
  public var waitingRequests: Int { parts.view.waiters.count }

  /// Followers that wait for the answer to what another has asked exec.
  public var waitingFollowers: Int { parts.pulls.waiting }

  // MARK: Life

  /// Serves until a graceful shutdown has drained every connection, or the task is cancelled.
  public func run() async throws {
    let group = MultiThreadedEventLoopGroup.singleton
    let executors = LoopExecutors(group)
    for (index, loop) in group.makeIterator().enumerated() { hooks.watch(loop, "http-\(index)") }
    let healthChannel = try await listener(healthDispatcher, health, tls: nil, group, executors).start()
    do {
      try await serve(group, executors)
    } catch {
      // Also when the gate fails: nobody is to find a listener that will never serve.
      await close(healthChannel)
      throw error
    }
    parts.healthConnections.closeAll()
    await close(healthChannel)
  }

  private func serve(_ group: any EventLoopGroup, _ executors: LoopExecutors) async throws {
    try await waitForPersist()
    parts.readiness.passGate()
    try await withThrowingTaskGroup(of: Void.self) { tasks in
      let feed = LiveViewFeed(exec: parts.exec, view: parts.view, logger: logger)
      tasks.addTask { try await feed.run() }
      if let watch = parts.persistWatch { tasks.addTask { try await watch.run() } }
      await waitForExec()
      let apiChannel = try await listener(apiDispatcher, api, tls: tls, group, executors).start()
      hooks.ready(sentence)
      tasks.addTask { try await reportStatus() }
      tasks.addTask { try await closeUnwelcome() }
      tasks.addTask { try await parts.certificates.watch(logger: logger) }
      tasks.addTask { await untilShutdown() }
      // The first to return is the shutdown: the others run for ever or throw.
      defer { tasks.cancelAll() }
      do {
        try await tasks.next()
      } catch is CancellationError {
        // Cancelled: the same as a shutdown.
      }
      await drain(apiChannel)
    }
  }

  private func waitForPersist() async throws {
    guard configuration.ipc.enabled else { return }
    let hooks = hooks
    let tries = gateTries
    let socket = configuration.persist.server.querySocket
    try await cancelWhenGracefulShutdown {
      try await PersistGate.wait(querySocket: socket, tries: tries, logger: logger) { attempt in
        hooks.status("waiting for joblet-persist (try \(attempt) of \(tries))")
      }
    }
  }

  /// Gives exec's first snapshot a moment, so that the first clients are not told to come again. Not a gate: without exec
  /// there are still jobs to be read.
  private func waitForExec() async {
    for _ in 0..<100 where !parts.view.isConnected {
      do { try await Task.sleep(for: .milliseconds(20)) } catch { return }
    }
  }

  private func untilShutdown() async {
    // Returns at a cancellation too.
    do { try await gracefulShutdown() } catch {}
  }

  /// Says goodbye: not ready, no new connections, streams are told to come again, and whoever is not done in time is cut.
  private func drain(_ apiChannel: any Channel) async {
    parts.readiness.drain()
    hooks.status("stopping: \(parts.connections.count) connections are being closed")
    await close(apiChannel)
    parts.drain.raise()
    parts.view.waiters.close()
    parts.connections.quiesce()
    let deadline = ContinuousClock.now + configuration.server.timeouts.drain
    while parts.connections.count > 0, ContinuousClock.now < deadline {
      // A cancelled task has no time left to be polite.
      do { try await Task.sleep(for: .milliseconds(20)) } catch { break }
    }
    if parts.connections.count > 0 {
      logger.warning("\(parts.connections.count) connections were not done in time and are closed")
      parts.connections.closeAll()
    }
  }

  private func close(_ channel: any Channel) async {
    // Closed already is what was asked for.
    do { try await channel.close() } catch {}
  }

  private func reportStatus() async throws {
    var last = sentence
    while true {
      try await Task.sleep(for: .seconds(5))
      let now = sentence
      if now != last { hooks.status(now) }
      last = now
    }
  }

  /// A client whose certificate has run out or was revoked gets nothing more, whatever it has open.
  private func closeUnwelcome() async throws {
    while true {
      // Longer than a stream takes to notice by itself and say why it ends.
      try await Task.sleep(for: parts.heartbeat * 2)
      let closed = parts.connections.closeUnwelcome { identity in
        do { try tls.check(identity) } catch { return false }
        return true
      }
      if closed > 0 { logger.notice("closed \(closed) connections of clients whose certificate is no longer valid") }
    }
  }

  private var sentence: String {
    let exec = parts.view.isConnected ? "exec connected" : "exec is away"
    let persist =
      parts.persistWatch.map { $0.isConnected ? $0.refusal.map { "; \($0)" } ?? "" : ", persist is away" }
      ?? ", nothing is stored (ipc.enabled: false)"
    return
      "serving on \(address): \(parts.connections.count) connections, "
      + "\(parts.metrics.openStreams) streams; \(exec)\(persist)"
  }

  // MARK: Listeners

  private func listener(
    _ dispatcher: Dispatcher, _ descriptor: CInt, tls: CurrentTLS?, _ group: any EventLoopGroup,
    _ executors: LoopExecutors
  ) -> HTTPListener {
    HTTPListener(
      descriptor: descriptor, tls: tls, responder: dispatcher,
      registry: tls == nil ? parts.healthConnections : parts.connections, metrics: parts.metrics,
      timeouts: configuration.server.timeouts, drain: parts.drain, group: group, executors: executors,
      ledgers: parts.ledgers, logger: logger, refusals: parts.refusals)
  }

  private var apiDispatcher: Dispatcher {
    Dispatcher(
      router: Router(Gateway.table(parts).routes), metrics: parts.metrics, maxBody: Int(configuration.server.maxBody),
      audit: audit, logger: logger)
  }

  private var healthDispatcher: Dispatcher {
    let routes = HealthRoutes(
      readiness: parts.readiness, metrics: parts.metrics, view: parts.view, persistWatch: parts.persistWatch,
      exec: parts.exec, certificates: parts.certificates)
    return Dispatcher(
      router: Router(routes.routes), metrics: GatewayMetrics(), maxBody: Int(configuration.server.maxBody), audit: nil,
      logger: logger)
  }
}
