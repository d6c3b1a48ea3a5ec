import Glibc
import JobletConfig
import JobletModel
import LocalStore
import LogStore

/// One job's data as it lies on the disk, for reading only: nothing is made, locked or repaired.
///
/// A daemon may write meanwhile: what the log has is read before the files, so a line that is sealed between the two is in
/// both, and given once.
struct StoredJob {
  let job: JobID
  private let store: LocalLogStore
  private let tail: LogTail
  /// The directories looked at, for messages.
  let places: String

  init(_ job: JobID, _ configuration: Configuration) throws {
    let storage = configuration.persist.storage
    self.job = job
    let store = try LocalLogStore(existingLogs: storage.local.logs.directory, metrics: storage.local.metrics.directory)
    self.store = store
    tail = try LogTail(job, directory: PersistEngine.logDirectory(storage)) { try store.lastSeq(job, $0) }
    places = "\(storage.local.logs.directory), \(storage.local.metrics.directory) or the write-ahead log"
  }

  /// True if anything is stored. What was deleted is gone, though its files may still lie there.
  var exists: Bool {
    get throws { try !tail.chunks.isEmpty || (!tail.isDeleted && store.contains(job)) }
  }

  func open(_ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) throws -> [any LogPages] {
    let waiting = ChunkPages(tail.chunks[stream] ?? [], range: range, order: order)
    guard !tail.isDeleted else { return [waiting] }
    return [try store.pages(job, stream, range, order), waiting]
  }
}
