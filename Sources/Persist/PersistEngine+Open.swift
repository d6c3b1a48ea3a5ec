import Glibc
import JobletConfig
import JobletWire
import LocalStore
import Logging
import StateStore

extension PersistEngine {
  /// Opens everything where a configuration has it: what the daemon does at its start, and a command that takes its place.
  /// Blocks while the write-ahead log is replayed. The parameters are those of the initialiser.
  static func open(
    _ configuration: Configuration, logger: Logger, beat: @escaping @Sendable () -> Void = {},
    onCondition: @escaping @Sendable (StoreCondition) -> Void = { _ in },
    progress: @escaping (Int, Int) -> Void = { _, _ in }
  ) throws -> PersistEngine {
    let storage = configuration.persist.storage
    let cores = sysconf(CInt(_SC_NPROCESSORS_ONLN))
    let settings = Settings(
      logDirectory: logDirectory(storage), wal: configuration.persist.wal,
      retention: configuration.persist.retention,
      directories: [storage.local.logs.directory, storage.local.metrics.directory],
      sealers: min(max(cores - 1, 1), 8))
    return try PersistEngine(
      settings, logs: LocalLogStore(logs: storage.local.logs.directory, metrics: storage.local.metrics.directory),
      records: records(configuration), logger: logger, beat: beat, onCondition: onCondition, progress: progress)
  }

  /// Where the write-ahead log is.
  static func logDirectory(_ storage: Configuration.Persist.Storage) -> String { storage.baseDir + "/persist/wal" }

  /// The store of records that the configuration asks for.
  private static func records(_ configuration: Configuration) throws -> any StateStore {
    switch configuration.state.backend {
    case .local: try SQLiteStateStore(path: configuration.persist.storage.baseDir + "/persist/state.db")
    case .memory: MemoryStateStore()
    case .dynamodb: throw PersistError.unsupported("state.backend: dynamodb is not in this version")
    }
  }
}
