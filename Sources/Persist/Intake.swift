import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Logging
import StateStore
import Synchronization

/// A frame as it lies in a connection's buffer.
struct ReceivedFrame {
  var header: FrameHeader
  /// The whole frame, header included.
  var bytes: UnsafeRawBufferPointer
  /// The record of a ``FrameType/record`` frame.
  var record: JobRecord?

  var payload: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[FrameHeader.byteCount...]) }
}

/// What everything received goes through: checked, written to the log, applied, acknowledged, in one order.
///
/// Order of steps in ``accept(_:)``, and what would break if one moved: the check comes before the log, so that what is
/// doubled or out of order never stands in it; the log before memory, so that nothing is seen that a crash could take
/// back without a trace; the commit before the acknowledgement, for that is its promise.
final class Intake: Sendable {
  struct State {
    var jobs: [JobID: JobEntry] = [:]
    /// Jobs whose data was deleted: frames of theirs that are still on their way are absorbed. The oldest are forgotten.
    var deleted: Set<JobID> = []
    var deletedOrder: [JobID] = []
    var unsealedBytes = 0
    var sealQueue: [JobID] = []
    /// No more is taken in.
    var isStopping = false
    /// Nothing is left to seal: the sealing threads may go.
    var isDone = false
    /// Set while lines of a segment that could not be synced are being brought to safety: nothing is acknowledged.
    var givingUp: UInt64?
    /// Nothing can be promised any more; the daemon ends with this.
    var failure: PersistError?
    var acceptedLines: UInt64 = 0
  }

  let monitor: Monitor<State>
  let log: WriteAheadLog
  let logs: any LogStore
  let records: any StateStore
  let maxUnsealed: Int
  let maxLog: Int
  let logger: Logger
  let statistics: Statistics
  /// Whether new jobs are taken on: writers are told, pings say it.
  let board = ConditionBoard()
  /// Held from a batch's check until it is applied: the log's order is the order in which lines are applied.
  let order = Monitor<Void>(())

  private static let rememberedDeletions = 100_000

  init(
    log: WriteAheadLog, logs: any LogStore, records: any StateStore, settings: Configuration.Persist.WAL,
    statistics: Statistics, logger: Logger
  ) {
    self.statistics = statistics
    self.log = log
    self.logs = logs
    self.records = records
    maxUnsealed = Int(settings.maxUnsealed)
    maxLog = Int(settings.maxSize)
    self.logger = logger
    monitor = Monitor(State())
  }

  /// Takes a batch of frames (of types log, record and end): what is returned may be acknowledged.
  ///
  /// Blocks while memory or the log is at its bound, so that a sender waits and nothing is dropped.
  /// - Returns: the acknowledgements for what is safe now, and why the connection must end behind them, if it must.
  func accept(_ frames: [ReceivedFrame]) throws -> (acks: [Ack], fault: PersistError?) {
    while true {
      try waitForRoom()
      do {
        let (plan, batch) = try order.withLock { _ in try takeInOrder(frames) }
        if let batch { try commit(batch) }
        return (plan.acks, plan.fault)
      } catch let error as PersistError where error.isFullDisk {
        // Sealing frees log segments; until then the sender waits, as on any full pipe.
        logger.error("the write-ahead log can't grow: \(error); waiting for room")
        requestRelief()
        _ = monitor.wait(.space, timeout: .seconds(1)) { $0.isStopping ? true : nil }
      }
    }
  }

  private func takeInOrder(_ frames: [ReceivedFrame]) throws -> (plan: BatchPlan, batch: UInt64?) {
    for frame in frames where frame.header.type != .record { try load(frame.header.job) }
    var plan = monitor.withLock { BatchPlan(frames, $0) }
    statistics.count(plan)
    plan.dropKnownRecords(try plan.newRecords.filter { try isNews($0) })
    guard !plan.accepted.isEmpty else {
      monitor.withLock { remember(plan.refused, &$0) }
      return (plan, log.lastBatch)
    }
    let parts = plan.parts
    let written = try log.append(parts)
    statistics.count(batch: parts)
    let relief = monitor.withLock { state in
      apply(plan.accepted, segment: written.segment, &state)
      remember(plan.refused, &state)
      return state.unsealedBytes > maxUnsealed / 2
    }
    // After the lines: whoever sees a record that says how the job ended may take it that all its lines can be read.
    try records.put(plan.newRecords)
    statistics.records.wrappingAdd(UInt64(plan.newRecords.count), ordering: .relaxed)
    if relief { requestRelief() }
    return (plan, written.batch)
  }

  /// Only once the batch is in the log: a batch that is taken in again because the disk was full must meet the same answer,
  /// or the sender would never be asked for what is missing.
  private func remember(_ refused: (job: JobID, seq: UInt64)?, _ state: inout State) {
    if let refused { state.jobs[refused.job]?.refusedSeq = refused.seq }
  }

  private func isNews(_ record: JobRecord) throws -> Bool {
    try records.get(record.id).map { $0.version < record.version } ?? true
  }

  /// Makes sure that a job's counters are in memory: a job that was not heard of since the start is looked up.
  private func load(_ job: JobID) throws {
    let isKnown = monitor.withLock { $0.jobs[job] != nil || $0.deleted.contains(job) }
    guard !isKnown else { return }
    let last = try StoredStream.logs.map { try logs.lastSeq(job, $0) }.max() ?? 0
    monitor.withLock { $0.jobs[job] = JobEntry(job, lastSeq: last) }
  }

  private func apply(_ frames: [BatchPlan.Accepted], segment: UInt64, _ state: inout State) {
    for accepted in frames {
      let frame = accepted.frame
      guard let entry = state.jobs[frame.header.job] else { continue }
      entry.touched = Moment.now
      switch frame.header.type {
      case .log:
        guard let info = frame.header.chunk else { continue }
        if info.firstSeq > entry.lastSeq + 1 { reportLoss(entry.job, entry.lastSeq + 1, info.firstSeq - 1) }
        state.unsealedBytes += entry[StoredStream(info.stream)].append(
          info, frame.payload, after: entry.lastSeq, segment: segment)
        entry.lastSeq = info.lastSeq
        state.acceptedLines += UInt64(info.count)
        statistics.lines.wrappingAdd(UInt64(info.count), ordering: .relaxed)
      case .end:
        if frame.header.seq > entry.lastSeq { reportLoss(entry.job, entry.lastSeq + 1, frame.header.seq) }
        entry.endSeq = frame.header.seq
        entry.sealsAll = true
      default: break
      }
      queueIfDue(entry, &state)
    }
  }

  private func reportLoss(_ job: JobID, _ first: UInt64, _ last: UInt64) {
    statistics.dropped.wrappingAdd(last - first + 1, ordering: .relaxed)
    logger.error("job \(job): lines \(first) to \(last) are lost: they are not stored, and the sender has them no more")
  }

  func queueIfDue(_ entry: JobEntry, _ state: inout State) {
    guard entry.isDue, !entry.isQueued, !entry.isSealing, entry.retryAt == 0 else { return }
    entry.isQueued = true
    state.sealQueue.append(entry.job)
    monitor.signal(.work)
  }

  /// Asks for the largest jobs to be sealed until half the bound is free.
  func requestRelief() {
    monitor.withLock { state in
      var excess = state.unsealedBytes - maxUnsealed / 4
      for entry in state.jobs.values.sorted(by: {
        $0.stdout.bytes + $0.stderr.bytes > $1.stdout.bytes + $1.stderr.bytes
      }) {
        guard excess > 0, entry.hasUnsealed else { break }
        excess -= entry.stdout.bytes + entry.stderr.bytes
        entry.sealsAll = true
        queueIfDue(entry, &state)
      }
    }
  }

  /// Asks for everything to be sealed that stands in segments up to `segment`.
  func requestSeal(through segment: UInt64) {
    monitor.withLock { state in
      for entry in state.jobs.values where entry.hasUnsealed && (entry.oldestSegment ?? .max) <= segment {
        entry.sealsAll = true
        queueIfDue(entry, &state)
      }
    }
  }

  private func waitForRoom() throws {
    _ = try monitor.wait(.space) { state -> Bool? in
      if let failure = state.failure { throw failure }
      if state.isStopping { throw PersistError.stopping }
      guard state.unsealedBytes < maxUnsealed, log.totalBytes <= maxLog + maxLog / 4 else { return nil }
      return true
    }
  }

  /// Waits until a batch is as safe as the policy says.
  private func commit(_ batch: UInt64) throws {
    try log.commit(batch) { giveUp($0) }
    // Lines of a segment that was given up are in memory still: they count once their seal is synced, not before.
    _ = try monitor.wait(.settled) { state -> Bool? in
      if let failure = state.failure { throw failure }
      return state.givingUp == nil ? true : nil
    }
  }

  /// A sync of the log failed: nothing in that segment is acknowledged; what memory still has is sealed at once.
  func giveUp(_ error: PersistError) {
    guard case .logGivenUp(let segment, _) = error else { return }
    logger.critical("\(error)")
    monitor.withLock { $0.givingUp = max($0.givingUp ?? 0, segment) }
    requestSeal(through: segment)
  }

  /// Nothing can be promised any more: everyone who waits is told, and the daemon ends.
  func fail(_ error: PersistError) {
    monitor.withLock { state in
      if state.failure == nil { state.failure = error }
    }
    for signal in Signal.allCases { monitor.signal(signal) }
  }
}

extension Intake {
  /// Lines that wait in memory, for a reader; they stay as they are whatever comes after.
  func unsealed(_ job: JobID, _ stream: StoredStream) -> [LogChunk] {
    monitor.withLock { $0.jobs[job]?[stream].all ?? [] }
  }

  /// The number up to which nothing more will come, if the job is in memory: of the last line that was applied, or of the
  /// job's end if lines before it are lost.
  func appliedSeq(_ job: JobID) -> UInt64? {
    monitor.withLock { state in state.jobs[job].map { max($0.lastSeq, $0.endSeq ?? 0) } }
  }

  /// Deletes a job's data so that it stays deleted.
  /// - Throws: ``JobletModel/Problem`` if nothing is known of the job.
  func remove(_ job: JobID) throws {
    // Not held back by the bounds: a delete takes 80 bytes of the log, and is how room is made when the disk is full.
    try monitor.withLock { state in
      if let failure = state.failure { throw failure }
      if state.isStopping { throw PersistError.stopping }
    }
    let entry = try order.withLock { _ -> JobEntryReference? in
      let isKnown = monitor.withLock { $0.jobs[job] != nil }
      guard try isKnown || logs.contains(job) || records.get(job) != nil else {
        throw Problem(.notFound, "there is no data of job \(job)")
      }
      // First into the log: from here on a replay deletes it again, whatever happens to this process.
      var header = [UInt8](repeating: 0, count: FrameHeader.byteCount)
      header.withUnsafeMutableBytes { FrameHeader(.delete, job: job).encode(into: $0) }
      _ = try header.withUnsafeBytes { try log.append([$0]) }
      return monitor.withLock { JobEntryReference(forget(job, &$0)) }
    }
    try log.sync { giveUp($0) }
    if let entry { awaitRest(entry) }
    _ = try logs.delete(job)
    _ = try records.delete(job)
  }

  /// Takes a job out of memory for good.
  func forget(_ job: JobID, _ state: inout State) -> JobEntry? {
    if state.deleted.insert(job).inserted {
      state.deletedOrder.append(job)
      if state.deletedOrder.count > 2 * Intake.rememberedDeletions {
        for old in state.deletedOrder.prefix(Intake.rememberedDeletions) { state.deleted.remove(old) }
        state.deletedOrder.removeFirst(Intake.rememberedDeletions)
      }
    }
    guard let entry = state.jobs.removeValue(forKey: job) else { return nil }
    entry.isDeleted = true
    state.unsealedBytes -= entry.stdout.bytes + entry.stderr.bytes
    monitor.signal(.space)
    return entry
  }

  /// Waits until no thread writes files of the job.
  func awaitRest(_ reference: JobEntryReference) {
    _ = monitor.wait(.settled) { _ in
      guard let entry = reference.entry else { return true }
      return entry.isSealing || entry.syncingSegment != nil ? nil : true
    }
  }
}

/// Carries an entry out of the monitor and back in.
///
/// Safe: its properties are touched only inside the monitor, here as everywhere.
struct JobEntryReference: @unchecked Sendable {
  let entry: JobEntry?
  init(_ entry: JobEntry?) { self.entry = entry }
}
