/// Why a store of records could not do something.
public enum StateStoreError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The database is damaged. Trying again is of no use.
  case corrupt(path: String, why: String)
  /// The file is not a database of job records, or not one that this version can read. It was left as it is.
  case foreign(path: String, why: String)
  /// A later version of Joblet wrote the database. It was left as it is.
  case newerSchema(path: String, found: Int, known: Int)
  /// What was put could not be brought to stable storage, and asking the kernel again would prove nothing: the store takes
  /// nothing more until it is opened anew. What it may have lost is still in the write-ahead log.
  case unsynced(path: String, why: String)
  /// No room for more. Nothing was changed; it may go better later.
  case full(path: String, why: String)
  /// The storage can't be read or written now. Nothing was changed; it may go better later.
  case unavailable(path: String, why: String)

  /// True if the same call may succeed later.
  public var isPassing: Bool {
    switch self {
    case .full, .unavailable: true
    case .corrupt, .foreign, .newerSchema, .unsynced: false
    }
  }

  public var description: String {
    switch self {
    case .corrupt(let path, let why):
      """
      the job records in \(path) are damaged (\(why)); stop joblet-persist, move \(path), \(path)-wal and \(path)-shm \
      away and start it again: it begins a new database, the logs stay as they are
      """
    case .foreign(let path, let why): "\(path) is not a database of job records (\(why)); move it away"
    case .newerSchema(let path, let found, let known):
      """
      \(path) has schema version \(found), from a later version of joblet-persist; this one knows up to \(known): \
      install the later version again, or move the file away to begin a new one
      """
    case .unsynced(let path, let why):
      "\(path) could not be synced (\(why)); restart joblet-persist when the disk is sound again"
    case .full(let path, let why): "no room for job records in \(path): \(why)"
    case .unavailable(let path, let why): "the job records in \(path) can't be reached: \(why)"
    }
  }
}
