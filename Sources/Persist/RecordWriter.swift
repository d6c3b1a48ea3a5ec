import JobletModel
import Logging
import StateStore

/// Commits job records to the state store, many in one transaction, off the acknowledging path: a thread of its own.
struct RecordWriter: Sendable {
  let intake: Intake
  private static let retryPause: UInt64 = 1_000_000_000

  /// The thread's life: until nothing more comes and all is committed, or nothing can be promised any more.
  func run() {
    while let records = nextBatch() {
      var failure: StateStoreError?
      do throws(StateStoreError) {
        try intake.records.put(records)
      } catch {
        failure = error
        intake.logger.error(
          "can't store \(records.count) job records: \(error); they stay in memory and in the log, and it is tried again"
        )
        if case .full = error { _ = intake.log.reserve.release() }
      }
      intake.monitor.withLock { state in
        state.records.endCommit(retryAt: failure == nil ? nil : Moment.now + RecordWriter.retryPause)
        for signal in [Signal.records, .settled, .space] { intake.monitor.signal(signal) }
      }
    }
  }

  private func nextBatch() -> [JobRecord]? {
    while true {
      let batch = intake.monitor.wait(.records, timeout: .seconds(1)) { state -> [JobRecord]? in
        if state.records.isDue(at: Moment.now) { return state.records.beginCommit() }
        // Asked to go, nothing holds it: what could not be committed is in the log.
        return state.isDone || state.failure != nil ? [] : nil
      }
      if let batch { return batch.isEmpty ? nil : batch }
    }
  }
}

extension Intake {
  /// A job's record, the newest version that was acknowledged.
  func record(_ job: JobID) throws -> JobRecord? {
    // Memory first: what is committed between the two looks is in the store.
    if let pending = monitor.withLock({ $0.records.record(job) }) { return pending }
    return try records.get(job)
  }

  /// A page of records as they were acknowledged, the newest first.
  func records(_ query: RecordQuery) throws -> StoredPage {
    let pending = monitor.withLock { $0.records.all }
    var page = try records.page(query)
    guard !pending.isEmpty else { return page }
    // What waits hides older versions in the store. Of the store's own only what it looked at is compared: what is older
    // belongs to the next page.
    let versions = Dictionary(pending.map { ($0.id, $0.version) }) { first, _ in first }
    var merged = page.records.filter { versions[$0.id].map { [version = $0.version] in $0 < version } ?? true }
    let known = Set(merged.map(\.id))
    let missing = pending.filter { record in
      !known.contains(record.id) && page.next.map { record.id >= $0 } ?? true && query.matches(record)
    }
    merged += missing.map { StoredRecord($0) }
    merged.sort { $0.id > $1.id }
    if merged.count > query.limit {
      merged.removeSubrange(query.limit...)
      page.next = merged.last?.id
    }
    page.records = merged
    return page
  }

  /// Makes what was committed safe.
  /// - Throws: when the store can't promise it; only a replay of the log mends that.
  func syncRecords() throws {
    guard monitor.withLock({ $0.records.beginSync() }) else { return }
    var failure: StateStoreError?
    do throws(StateStoreError) { try records.sync() } catch { failure = error }
    monitor.withLock { [isDone = failure == nil] state in
      state.records.endSync(isDone: isDone)
      monitor.signal(.settled)
    }
    guard let failure else { return }
    guard failure.isPassing else { throw failure }
    logger.error("\(failure); the log is kept until the records are safe")
  }

  /// The oldest log segment that still holds something which is safe nowhere else.
  func oldestSegment(_ state: borrowing State) -> UInt64? {
    (state.jobs.values.compactMap(\.oldestSegment) + [state.records.oldestSegment].compactMap { $0 }).min()
  }

  /// Waits until no version of the job's record is being committed, then removes what the store has.
  func eraseRecord(_ job: JobID) throws {
    _ = monitor.wait(.settled) { $0.records.isWriting(job) ? nil : true }
    _ = try records.delete(job)
  }
}
