import JobletModel
import Synchronization

/// Records in memory: gone with the process, but for those that the write-ahead log still holds and those that exec sends
/// again. The oldest ended records make room for new ones.
public final class MemoryStateStore: StateStore {
  private struct Records: Sendable {
    var byID: [JobID: JobRecord] = [:]
    /// Ascending, which is the order of time.
    var ids: [JobID] = []
  }
  private let records = Mutex(Records())
  private let capacity: Int
  private let pageTime: Duration

  public let name = "memory"

  /// - Parameters:
  ///   - capacity: records kept; beyond it the oldest ended one goes when a new one comes.
  ///   - pageTime: how long one page's search may take; then it says where it goes on.
  public init(capacity: Int = 100_000, pageTime: Duration = .milliseconds(50)) {
    self.capacity = max(1, capacity)
    self.pageTime = pageTime
  }

  public func put(_ new: [JobRecord]) {
    records.withLock { records in
      for record in new {
        if let known = records.byID[record.id] {
          guard record.version > known.version else { continue }
        } else {
          makeRoom(&records)
          records.ids.insert(record.id, at: records.ids.firstIndex(notBelow: record.id))
        }
        records.byID[record.id] = record
      }
    }
  }

  /// Running jobs' records always stay.
  private func makeRoom(_ records: inout Records) {
    guard records.ids.count >= capacity,
      let index = records.ids.firstIndex(where: { records.byID[$0]?.status.isEnded ?? true })
    else { return }
    records.byID[records.ids.remove(at: index)] = nil
  }

  public func get(_ id: JobID) -> JobRecord? { records.withLock { $0.byID[id] } }

  public func page(_ query: RecordQuery) throws(StateStoreError) -> StoredPage {
    let page = list(query)
    var stored = StoredPage()
    stored.next = page.next
    stored.records = page.records.map { StoredRecord($0) }
    return stored
  }

  public func list(_ query: RecordQuery) -> RecordPage {
    let deadline = ContinuousClock.now + pageTime
    var page = RecordPage(records: [])
    var before = query.before
    while true {
      // A piece at a time, so that a long search keeps no record from being put.
      let piece = records.withLock { records -> [JobRecord] in
        let end = before.map { records.ids.firstIndex(notBelow: $0) } ?? records.ids.count
        return records.ids[..<end].suffix(256).reversed().compactMap { records.byID[$0] }
      }
      guard let last = piece.last else { return page }
      for record in piece where query.matches(record) {
        if page.records.count == query.limit {
          page.next = page.records.last?.id
          return page
        }
        page.records.append(record)
      }
      before = last.id
      if ContinuousClock.now >= deadline {
        page.next = before
        return page
      }
    }
  }

  public func delete(_ id: JobID) -> Bool {
    records.withLock { records in
      guard records.byID.removeValue(forKey: id) != nil else { return false }
      let index = records.ids.firstIndex(notBelow: id)
      if index < records.ids.count, records.ids[index] == id { records.ids.remove(at: index) }
      return true
    }
  }

  /// Nothing to do: memory has no stable storage.
  public func sync() {}

  public func close() {}
}

extension [JobID] {
  /// The first index whose element is not below `id`, in a sorted array.
  fileprivate func firstIndex(notBelow id: JobID) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle] < id { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
