import DaemonKit
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import Logging
import ServiceLifecycle
import StateStore

/// The daemon: the engine between its two sockets, from replay to the last seal.
public struct PersistService: Service {
  private let context: DaemonContext
  private let ipc: Listener
  private let query: Listener
  private let writers: Set<UInt32>
  private let askers: Set<UInt32>

  /// The sockets the configuration asks for.
  public static func listeners(_ configuration: Configuration) -> [ExpectedListener] {
    [
      ExpectedListener(name: "ipc", address: .unix(configuration.ipc.socket)),
      ExpectedListener(name: "query", address: .unix(configuration.persist.server.querySocket)),
    ]
  }

  /// - Throws: ``PersistError/unsupported(_:)`` for backends that this version does not have.
  public init(_ context: DaemonContext) throws {
    let kind = context.configuration.persist.storage.type
    guard kind == .local else {
      throw PersistError.unsupported("persist.storage.type: \(kind.rawValue) is not in this version; it has: local")
    }
    guard context.configuration.state.backend != .dynamodb else {
      throw PersistError.unsupported("state.backend: dynamodb is not in this version; it has: local, memory")
    }
    self.context = context
    ipc = try context.sockets.listener("ipc")
    query = try context.sockets.listener("query")
    writers = try allowedPeers(["root"], for: ipc)
    askers = try allowedPeers(["joblet-api", "joblet", "root"], for: query)
  }

  public func run() async throws {
    let configuration = context.configuration
    let logger = context.logger
    context.manager.status("opening the store")
    let engine = try await open(configuration)
    try await WorkerThread.run("self-test") { try engine.selfTest() }
    try makeOlderName(configuration)
    context.reload.onReload("persist.retention") { engine.apply($0.persist.retention) }

    let server = try engine.writeServer(
      listening: ipc.descriptor, maxPayload: Int(configuration.persist.ipc.maxMessageSize),
      maxConnections: configuration.persist.ipc.maxConnections, allowedUsers: writers)
    let accepting = try WorkerThread("accept") { server.run() }
    let queries = FrameServer(
      listening: query.descriptor, maxPayload: 1 << 20, maxConnections: configuration.persist.server.maxConnections,
      allowedUsers: askers, logger: logger, handle: { try await engine.answer($0) })
    let outcome: Result<Void, any Error>
    do {
      try await serve(queries, engine)
      outcome = .success(())
    } catch {
      outcome = .failure(error)
    }
    context.manager.status("sealing what is left")
    try await WorkerThread.run("stop") {
      engine.stopTaking()
      server.stop()
      accepting.join()
      try engine.close()
      try engine.intake.records.close()
    }
    try outcome.get()
  }

  private func open(_ configuration: Configuration) async throws -> PersistEngine {
    let (manager, logger) = (context.manager, context.logger)
    let heart = context.watchdog.heart("keeper")
    let engine = try await WorkerThread.run("replay") {
      try PersistEngine.open(
        configuration, logger: logger, beat: { heart.beat() },
        onCondition: {
          manager.status($0.reason.map { "no new jobs: \($0)" } ?? "serving: new jobs are taken on again")
        },
        progress: { done, all in manager.status("replaying the write-ahead log: \(done) of \(all) segments") })
    }
    let found = engine.recovery
    if found.segments > 0 {
      logger.info("replayed the write-ahead log: \(found.segments) segments, \(found.lines) lines that no file had")
    }
    return engine
  }

  /// Serves until a graceful shutdown, or until nothing can be promised any more.
  private func serve(_ queries: FrameServer, _ engine: PersistEngine) async throws {
    let manager = context.manager
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await queries.run() }
      group.addTask { try await WorkerThread.run("keeper") { try engine.keepTime() } }
      group.addTask { try await WorkerThread.run("sweeper") { engine.keepSweeping() } }
      group.addTask {
        while true {
          try await Task.sleep(for: .seconds(10))
          manager.status(engine.status)
        }
      }
      manager.ready(engine.status)
      context.logger.info("serving writes on \(ipc.address) and queries on \(query.address)")
      // Whoever ends first ends all: the query server at a shutdown, the keeper when a promise can't be kept.
      defer { group.cancelAll() }
      let outcome = await group.nextResult()
      engine.stopTaking()
      if case .failure(let error) = outcome, !(error is CancellationError) { throw error }
    }
  }

  /// The seeds' older name of the query socket. Under systemd the socket unit makes it (`Symlinks=`).
  private func makeOlderName(_ configuration: Configuration) throws {
    let server = configuration.persist.server
    guard !query.isInherited, query.address == .unix(server.querySocket), !server.grpcSocket.isEmpty,
      server.grpcSocket != server.querySocket
    else { return }
    var status = stat()
    if lstat(server.grpcSocket, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFLNK else {
        throw PersistError.unsupported("\(server.grpcSocket) is in the way of the link to the query socket; remove it")
      }
      unlink(server.grpcSocket)
    }
    guard symlink(server.querySocket, server.grpcSocket) == 0 else {
      throw PersistError.system(call: "symlink", path: server.grpcSocket, errno: errno)
    }
  }
}

extension PersistEngine {
  /// A sentence for `systemctl status`.
  var status: String {
    let jobs = intake.monitor.withLock { $0.jobs.values.filter { $0.endSeq == nil }.count }
    let serving = "serving: \(jobs) jobs writing, \(acceptedLines) lines taken in, backend \(intake.logs.name)"
    return condition.reason.map { "\(serving); no new jobs: \($0)" } ?? serving
  }
}
