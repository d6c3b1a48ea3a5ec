import JobletModel

/// Job records on their way from the log to the state store: what was taken in and is not committed yet, and how far the log
/// must be kept for what is not synced.
///
/// A newer version takes an older one's place, so what waits is bounded by jobs as well as by bytes. Guarded by the
/// intake's monitor.
struct PendingRecords {
  private struct Item {
    var record: JobRecord
    var bytes: Int
    /// The oldest log segment with a version of the record that is committed nowhere.
    var segment: UInt64
  }
  private var waiting: [JobID: Item] = [:]
  private var writing: [JobID: Item] = [:]
  /// Jobs whose deletion stands in the log and is still to be done, with the segment it stands in.
  private var deletions: [JobID: UInt64] = [:]
  /// The oldest segment with something that is committed and not synced; and the same for a sync under way.
  private var unsyncedSegment: UInt64?
  private var syncingSegment: UInt64?
  /// Bytes of JSON that wait.
  private(set) var bytes = 0
  /// When a commit that failed may be tried again; 0 for none failed.
  var retryAt: UInt64 = 0

  /// Writers wait above this.
  static let maxBytes = 8 << 20
  /// Records in one transaction.
  static let batchSize = 1000

  var isFull: Bool { bytes >= PendingRecords.maxBytes }
  var isEmpty: Bool { waiting.isEmpty && writing.isEmpty }
  /// True if there is something to commit now.
  func isDue(at now: UInt64) -> Bool { !waiting.isEmpty && writing.isEmpty && retryAt <= now }

  /// The oldest log segment that still holds something which is safe nowhere else.
  var oldestSegment: UInt64? {
    // Few are under way at any moment.
    let items = [waiting, writing].compactMap { $0.values.map(\.segment).min() }
    return (items + deletions.values + [unsyncedSegment, syncingSegment].compactMap { $0 }).min()
  }

  /// The newest version that is not in the store yet.
  func record(_ job: JobID) -> JobRecord? { (waiting[job] ?? writing[job])?.record }

  /// Every record that is not in the store yet, the newest version of each.
  var all: [JobRecord] {
    writing.merging(waiting) { _, newer in newer }.values.map(\.record)
  }

  mutating func add(_ record: JobRecord, bytes count: Int, segment: UInt64) {
    let known = waiting[record.id]
    if let known, known.record.version >= record.version { return }
    waiting[record.id] = Item(record: record, bytes: count, segment: min(known?.segment ?? segment, segment))
    bytes += count - (known?.bytes ?? 0)
  }

  /// Takes what is to be committed next.
  mutating func beginCommit() -> [JobRecord] {
    retryAt = 0
    for (job, item) in waiting.prefix(PendingRecords.batchSize) { writing[job] = item }
    for job in writing.keys { waiting[job] = nil }
    return writing.values.map(\.record)
  }

  /// The commit is done, or failed and is tried again at `retryAt`.
  mutating func endCommit(retryAt: UInt64?) {
    for (job, item) in writing {
      if retryAt == nil {
        markUnsynced(item.segment)
      } else if waiting[job] == nil {
        waiting[job] = item
        continue
      } else {
        waiting[job]?.segment = item.segment
      }
      bytes -= item.bytes
    }
    writing = [:]
    self.retryAt = retryAt ?? 0
  }

  private mutating func markUnsynced(_ segment: UInt64) { unsyncedSegment = min(unsyncedSegment ?? segment, segment) }

  /// A job's deletion is in the log: its record goes nowhere any more, and the segment stays until the deletion is safe.
  mutating func beginDeletion(_ job: JobID, segment: UInt64) {
    if let item = waiting.removeValue(forKey: job) { bytes -= item.bytes }
    deletions[job] = segment
  }

  /// True while a version of the job's record is being committed.
  func isWriting(_ job: JobID) -> Bool { writing[job] != nil }

  /// - Parameter isDone: false if it failed, and whoever asked was told so: the log need not be kept for it.
  mutating func endDeletion(_ job: JobID, isDone: Bool) {
    if let segment = deletions.removeValue(forKey: job), isDone { markUnsynced(segment) }
  }

  /// False if no sync is needed.
  mutating func beginSync() -> Bool {
    guard let segment = unsyncedSegment else { return false }
    syncingSegment = min(syncingSegment ?? segment, segment)
    unsyncedSegment = nil
    return true
  }

  mutating func endSync(isDone: Bool) {
    if !isDone, let segment = syncingSegment { markUnsynced(segment) }
    syncingSegment = nil
  }
}
