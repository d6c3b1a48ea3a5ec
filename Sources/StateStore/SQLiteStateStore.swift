import FoundationEssentials
internal import GRDB
import Glibc
import JobletModel
import Synchronization

/// Records in one SQLite database: crash-safe, and quick to list at a million of them.
///
/// One connection writes, two read; in WAL mode neither waits for the other. Each has a page cache of its own, of 2 MiB at
/// most.
///
/// What is safe when: the database runs with `synchronous=NORMAL`, so a commit is in the kernel's hands when ``put(_:)``
/// returns and on stable storage when SQLite's own log was synced. ``sync()`` commits once with `synchronous=FULL`, for
/// which SQLite syncs that log (and, at its first, its directory). A sync covers the whole file, so every commit before it
/// in the log is safe too; a commit that is no longer in the log was moved to the database by a checkpoint, and that syncs
/// the log before it moves anything and the database before the log is used anew. Checkpoints are made here only, never by
/// SQLite in passing (`wal_autocheckpoint=0`), because SQLite says nothing when one of those fails: a failed `fsync` would
/// look to the next as if all were well.
public final class SQLiteStateStore: StateStore {
  public let name = "local"
  /// The database file; SQLite keeps `-wal` and `-shm` beside it while it is open.
  public let path: String

  private struct Safety {
    /// Why nothing can be promised any more.
    var failure: StateStoreError?
    /// Something was put since the last sync.
    var isDirty = false
  }

  let pool: DatabasePool
  let pageTime: Duration
  private let safety = Mutex(Safety())

  /// Beyond this size SQLite's log is moved into the database, in bytes.
  private static let maxLogBytes = 4 << 20

  /// Opens the database, or makes a new one (mode 0640) where there is none, and its folder (mode 0750).
  /// - Parameter pageTime: how long one page's search may take; then it says where it goes on.
  /// - Throws: ``StateStoreError`` if the file is damaged, not ours or of a later version; it is left as it is then.
  public init(path: String, pageTime: Duration = .milliseconds(50)) throws(StateStoreError) {
    self.path = path
    self.pageTime = pageTime
    pool = try StateDatabase.open(path)
  }

  public func put(_ records: [JobRecord]) throws(StateStoreError) {
    guard !records.isEmpty else { return }
    try write { db throws in
      var isNews = false
      try db.inTransaction(.immediate) {
        for record in records where try RecordTable.put(record, db) { isNews = true }
        return .commit
      }
      if isNews { safety.withLock { $0.isDirty = true } }
      moveLog(db)
    }
  }

  public func get(_ id: JobID) throws(StateStoreError) -> JobRecord? {
    try guarded {
      let stored = try pool.read { db in
        let statement = try db.cachedStatement(sql: "SELECT version, json FROM records WHERE id = ?")
        return try Row.fetchOne(statement, arguments: [id.data]).map {
          StoredRecord(id: id, version: UInt64(clamping: $0[0] as Int64), json: $0[1])
        }
      }
      return try stored?.decode(from: path)
    }
  }

  public func page(_ query: RecordQuery) throws(StateStoreError) -> StoredPage {
    try guarded { try pool.read { db in try RecordListing(query, db, time: pageTime).page() } }
  }

  public func list(_ query: RecordQuery) throws(StateStoreError) -> RecordPage {
    try page(query).decode(from: path)
  }

  public func delete(_ id: JobID) throws(StateStoreError) -> Bool {
    try write { db throws in
      try durably(db) { try RecordTable.delete(id, db) }
    }
  }

  public func sync() throws(StateStoreError) {
    if let failure = safety.withLock({ $0.failure }) { throw failure }
    guard safety.withLock({ $0.isDirty }) else { return }
    try write { db throws in
      // A commit that changes nothing writes nothing, and then SQLite has nothing to sync.
      try durably(db) { try db.execute(sql: "UPDATE meta SET value = value + 1 WHERE key = 'syncs'") }
    }
  }

  public func close() throws(StateStoreError) {
    try sync()
    try guarded { try pool.close() }
  }

  // MARK: Safety

  /// Commits a change, and with it every change before, to stable storage.
  private func durably<Value>(_ db: Database, _ change: () throws -> Value) throws -> Value {
    try db.execute(sql: "PRAGMA synchronous = FULL")
    defer { relax(db) }
    var value: Value?
    try db.inTransaction(.immediate) {
      value = try change()
      return .commit
    }
    guard let value else { throw StateStoreError.unavailable(path: path, why: "the change was not made") }
    safety.withLock { $0.isDirty = false }
    moveLog(db)
    return value
  }

  private func relax(_ db: Database) {
    do {
      try db.execute(sql: "PRAGMA synchronous = NORMAL")
    } catch {
      // Then commits go on being synced one by one: slower, no less safe.
    }
  }

  /// Moves SQLite's log into the database once it is large. A reader of an old state leaves a rest to the next time.
  ///
  /// The change before it is committed whatever happens here, so that a failure is not that change's: one that leaves
  /// doubt about what is on stable storage ends every promise, any other is met again at the next change.
  private func moveLog(_ db: Database) {
    var status = stat()
    guard stat(path + "-wal", &status) == 0, status.st_size > SQLiteStateStore.maxLogBytes else { return }
    do {
      _ = try db.checkpoint(.passive)
    } catch let error as DatabaseError where error.resultCode == .SQLITE_IOERR {
      let failure = StateStoreError.unsynced(path: path, why: "checkpoint: \(error.message ?? "input/output error")")
      safety.withLock { $0.failure = $0.failure ?? failure }
    } catch {
      // Busy, or no room: the log keeps what it has.
    }
  }

  private func write<Value>(_ body: (Database) throws -> Value) throws(StateStoreError) -> Value {
    if let failure = safety.withLock({ $0.failure }) { throw failure }
    return try guarded { try pool.writeWithoutTransaction(body) }
  }

  private func guarded<Value>(_ body: () throws -> Value) throws(StateStoreError) -> Value {
    do {
      return try body()
    } catch {
      let error = StateStoreError(error, path: path)
      if case .unsynced = error { safety.withLock { $0.failure = $0.failure ?? error } }
      throw error
    }
  }
}

extension StateStoreError {
  init(_ error: any Error, path: String) {
    switch error {
    case let error as StateStoreError: self = error
    case let error as DatabaseError:
      let why = error.message ?? "SQLite error \(error.extendedResultCode.rawValue)"
      switch error.extendedResultCode {
      case .SQLITE_IOERR_FSYNC, .SQLITE_IOERR_DIR_FSYNC:
        self = .unsynced(path: path, why: why)
      default:
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: self = .corrupt(path: path, why: why)
        case .SQLITE_FULL: self = .full(path: path, why: why)
        default: self = .unavailable(path: path, why: why)
        }
      }
    default: self = .unavailable(path: path, why: "\(error)")
    }
  }
}
