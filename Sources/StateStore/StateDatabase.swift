import FoundationEssentials
internal import GRDB
import Glibc

/// The database file: who may open it, and what is in it.
///
/// `records` is ordered by ID, which is the order of time; `records_by_status` gives a page of any status without a look at
/// the others. `search` is a full-text index of trigrams over ``JobletModel/JobRecord/searchText``: it holds no text, only
/// which buckets of records (``RecordTable/bucket(_:)``) have each three characters. `meta` has single numbers.
enum StateDatabase {
  static let schemaVersion = 1
  /// "Jblt", in the file's header: file(1) and we tell the database from any other by it.
  static let applicationID: Int32 = 0x4A62_6C74

  static let schema = """
    CREATE TABLE records (
      id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
      version INTEGER NOT NULL,
      status TEXT NOT NULL,
      created INTEGER NOT NULL,
      search TEXT NOT NULL,
      json BLOB NOT NULL
    );
    CREATE UNIQUE INDEX records_by_status ON records (status, id);
    CREATE VIRTUAL TABLE search USING fts5 (text, tokenize = 'trigram', content = '', detail = none, columnsize = 0);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta (key, value) VALUES ('skew_ms', 0), ('syncs', 0);
    """

  static func open(_ path: String) throws(StateStoreError) -> DatabasePool {
    let isNew = try makeFile(path)
    do {
      if !isNew { try check(path) }
      let pool = try DatabasePool(path: path, configuration: configuration(readonly: false))
      try pool.writeWithoutTransaction { db in
        try db.execute(sql: "PRAGMA synchronous = FULL")
        try db.inTransaction(.immediate) {
          if try Int.fetchOne(db, sql: "PRAGMA user_version") == 0 {
            try db.execute(sql: schema)
            try db.execute(
              sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(schemaVersion)")
          }
          return .commit
        }
        // Whatever an earlier process left in SQLite's log is brought to the database and synced there: should a sync of
        // that log have failed, its pages look clean to the kernel, and another sync of it would prove nothing.
        _ = try db.checkpoint(.truncate)
        try db.execute(sql: "PRAGMA synchronous = NORMAL")
        let pages = try Int64.fetchOne(db, sql: "PRAGMA page_count") ?? 0
        let size = try Int64.fetchOne(db, sql: "PRAGMA page_size") ?? 0
        var status = stat()
        if stat(path, &status) == 0, Int64(status.st_size) < pages * size {
          throw StateStoreError.corrupt(path: path, why: "\(status.st_size) bytes of \(pages * size) are there")
        }
      }
      return pool
    } catch {
      throw StateStoreError(error, path: path)
    }
  }

  private static func configuration(readonly: Bool) -> GRDB.Configuration {
    var configuration = GRDB.Configuration()
    configuration.readonly = readonly
    configuration.label = "state"
    configuration.maximumReaderCount = 2
    configuration.persistentReadOnlyConnections = true
    // Somebody may have the file open in sqlite3(1).
    configuration.busyMode = .timeout(5)
    configuration.prepareDatabase { db in
      try db.execute(
        sql: "PRAGMA cache_size = -2048; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 1048576")
    }
    return configuration
  }

  /// Makes the file where there is none, so that its mode is ours (SQLite gives its companions the same), and refuses what
  /// is no regular file.
  /// - Returns: true if the file is empty: a new one, or one that a crash left so.
  private static func makeFile(_ path: String) throws(StateStoreError) -> Bool {
    let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    guard folder.isEmpty || mkdir(folder, 0o750) == 0 || errno == EEXIST else {
      throw .unavailable(path: path, why: "mkdir: \(String(cString: strerror(errno)))")
    }
    let file = Glibc.open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0o640)
    guard file >= 0 else {
      if errno == ELOOP { throw .foreign(path: path, why: "a symbolic link") }
      throw .unavailable(path: path, why: "open: \(String(cString: strerror(errno)))")
    }
    // No connection is open yet, so no lock of SQLite's goes with the descriptor.
    defer { Glibc.close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else {
      throw .unavailable(path: path, why: "fstat: \(String(cString: strerror(errno)))")
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .foreign(path: path, why: "not a regular file") }
    return status.st_size == 0
  }

  /// Refuses what is not ours, before anything is written.
  private static func check(_ path: String) throws {
    let queue = try DatabaseQueue(path: path, configuration: configuration(readonly: true))
    let (application, version) = try queue.read { db in
      (
        try Int32.fetchOne(db, sql: "PRAGMA application_id") ?? 0, try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
      )
    }
    try queue.close()
    // A crash before the schema's commit leaves a database without anything.
    if application == 0, version == 0 { return }
    guard application == applicationID else {
      throw StateStoreError.foreign(path: path, why: "another program's database, application ID \(application)")
    }
    guard version <= schemaVersion else {
      throw StateStoreError.newerSchema(path: path, found: version, known: schemaVersion)
    }
  }
}
