import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import LogStore
import Logging
import StateStore

/// persist without its sockets: log, memory, sealing, queries. Its calls block.
public final class PersistEngine: Sendable {
  public struct Settings: Sendable {
    public var logDirectory: String
    public var wal: Configuration.Persist.WAL
    public var retention: Configuration.Persist.Retention
    /// Threads that seal.
    public var sealers: Int
    /// What is free on the fullest of the disks written to; nil where that means nothing.
    package var freeSpace: @Sendable () throws -> FreeSpace?
    /// Seconds without any room for lines before a replay fails.
    package var replayPatience = 30
    /// Failures of the log's disk that a test asks for.
    package var logFaults: DiskFaults?

    /// - Parameter directories: what is written to, on whatever disks: ``Configuration/Persist/Retention/minFree`` holds
    ///   for each.
    public init(
      logDirectory: String, wal: Configuration.Persist.WAL,
      retention: Configuration.Persist.Retention = Configuration().persist.retention, directories: [String] = [],
      sealers: Int = 2
    ) {
      self.logDirectory = logDirectory
      self.wal = wal
      self.retention = retention
      self.sealers = sealers
      let all = directories + [logDirectory]
      freeSpace = { try SpaceWatch.least(of: all) }
    }
  }

  /// What a start found in the log.
  public struct Recovery: Sendable, Hashable {
    public var segments: Int
    /// Lines that no file had yet.
    public var lines: Int
    /// Bytes that were no whole batch, and were left out.
    public var tornBytes: Int
  }

  let intake: Intake
  let keeper: Keeper
  let house: Housekeeping
  let pool: BlockingPool
  private let settings: Settings
  private let logger: Logger
  private let sealers: [WorkerThread]
  private let recordWriter: WorkerThread

  /// Opens the log, replays it and starts to seal.
  /// - Parameters:
  ///   - beat: called by the loop that keeps time, for the watchdog.
  ///   - onCondition: called when new jobs are refused from now on for want of space, and when they are taken on again.
  ///   - progress: called while the log is replayed: segments done, segments in all.
  public init(
    _ settings: Settings, logs: any LogStore, records: any StateStore, logger: Logger,
    beat: @escaping @Sendable () -> Void = {}, onCondition: @escaping @Sendable (StoreCondition) -> Void = { _ in },
    progress: @escaping (Int, Int) -> Void = { _, _ in }
  ) throws {
    self.settings = settings
    self.logger = logger
    let statistics = Statistics()
    let log = try WriteAheadLog(
      directory: settings.logDirectory, policy: settings.wal.fsync, maxSize: settings.wal.maxSize,
      statistics: statistics, faults: settings.logFaults)
    let intake = Intake(
      log: log, logs: logs, records: records, settings: settings.wal, statistics: statistics, logger: logger)
    self.intake = intake
    let space = SpaceWatch(
      board: intake.board, minFree: settings.retention.minFree, logger: logger, measure: settings.freeSpace,
      // Only a new start makes it again; the log brings back what was in memory.
      onGone: { intake.fail($0) }, onTurn: onCondition)
    space.look()
    keeper = Keeper(intake: intake, settings: settings.wal, space: space, beat: beat)
    house = Housekeeping(
      intake: intake, space: space, sweeper: Sweeper(intake: intake, settings: settings.retention, logger: logger),
      isSyncing: settings.wal.fsync != .never)
    pool = try BlockingPool(threads: 4)
    let sealer = Sealer(intake: intake)
    sealers = try (0..<max(1, settings.sealers)).map { try WorkerThread("seal-\($0)") { sealer.run() } }
    let recordWriter = RecordWriter(intake: intake)
    self.recordWriter = try WorkerThread("records") { recordWriter.run() }
    do {
      var replay = Replay(intake, patience: settings.replayPatience, progress: progress)
      let found = try replay.run()
      intake.refillReserve()
      recovery = Recovery(segments: found.segments, lines: found.lines, tornBytes: found.tornBytes)
    } catch {
      PersistEngine.end(sealers + [self.recordWriter], of: intake)
      pool.stop()
      log.unlock()
      throw error
    }
  }

  public let recovery: Recovery

  /// Lines taken in since the start.
  public var acceptedLines: UInt64 { intake.monitor.withLock { $0.acceptedLines } }

  /// The loop that keeps time; returns after ``close()`` began.
  /// - Throws: when nothing can be promised any more and the daemon must end.
  public func keepTime() throws {
    keeper.run()
    if let failure = intake.monitor.withLock({ $0.failure }) { throw failure }
  }

  /// The loop that removes what `persist.retention` does not keep; returns after ``close()`` began.
  public func keepSweeping() { house.sweeper.run() }

  /// One sweep, beside those of ``keepSweeping()``.
  /// - Parameter report: called with each job that went, or in a dry run would.
  public func sweep(_ request: SweepRequest, report: (SweptJob) throws -> Void = { _ in }) throws -> SweepTotals {
    try house.sweeper.sweep(request, report: report)
  }

  /// Takes the bounds of a configuration that was read again.
  public func apply(_ retention: Configuration.Persist.Retention) { house.apply(retention) }

  /// Whether new jobs are taken on.
  public var condition: StoreCondition { intake.board.condition }

  /// What persist counts, as Prometheus text.
  package func statistics() throws -> String { try house.statistics() }

  /// Answers a query that walks the whole way, to prove that it works.
  public func selfTest() throws {
    let scanner = try intake.scanner(LogQuery(job: .none, limit: 1))
    while case .working = try scanner.next() {}
    _ = try intake.logs.freeBytes()
  }

  /// Ends taking in: whoever waits for room is told.
  public func stopTaking() {
    intake.monitor.withLock { $0.isStopping = true }
    for signal in Signal.allCases { intake.monitor.signal(signal) }
  }

  /// Seals and syncs everything and ends the threads. Writers must be gone.
  public func close() throws {
    stopTaking()
    let outcome = Result { try keeper.finish() }
    endThreads()
    try outcome.get()
  }

  /// Ends the threads and leaves everything as a kill would: for tests of recovery.
  package func abandon() {
    stopTaking()
    intake.monitor.withLock { $0.sealQueue = [] }
    endThreads()
  }

  /// The write socket's server; its accepting loop wants a thread.
  package func writeServer(
    listening descriptor: CInt, maxPayload: Int, maxConnections: Int, allowedUsers: Set<UInt32>
  ) throws -> WriteServer {
    try WriteServer(
      listening: descriptor, intake: intake, maxPayload: maxPayload, maxConnections: maxConnections,
      allowedUsers: allowedUsers, logger: logger)
  }

  /// Serves one connection of the query socket.
  package func answer(_ connection: FrameConnection) async throws {
    try await QueryService(intake: intake, pool: pool, house: house, logger: logger).handle(connection)
  }

  /// Log and metric queries under way.
  package var openQueries: Int { intake.openQueries.load(ordering: .relaxed) }

  /// Bytes of lines that wait in memory, and of the log's segments.
  package var load: (unsealed: Int, log: Int) { (intake.monitor.withLock { $0.unsealedBytes }, intake.log.totalBytes) }

  /// One sync of the members and the log segments they cover, as the keeper does it by itself.
  package func checkpoint() throws {
    try keeper.syncMembers()
    try keeper.dropSegments()
  }

  private func endThreads() {
    PersistEngine.end(sealers + [recordWriter], of: intake)
    pool.stop()
    intake.log.unlock()
  }

  private static func end(_ threads: [WorkerThread], of intake: Intake) {
    intake.monitor.withLock { $0.isDone = true }
    for signal in [Signal.work, .records] { intake.monitor.signal(signal) }
    for thread in threads { thread.join() }
  }
}
