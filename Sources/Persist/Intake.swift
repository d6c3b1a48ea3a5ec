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
  /// A record's memory of its own, so that frames without one stay small.
  final class Record: Sendable {
    let value: JobRecord
    init(_ value: JobRecord) { self.value = value }
  }
  var header: FrameHeader
  /// The whole frame, header included.
  var bytes: UnsafeRawBufferPointer
  /// What a ``FrameType/log`` or ``FrameType/metric`` frame says of its lines, once that was held against them.
  var chunk: StoredChunkInfo?
  /// The record of a ``FrameType/record`` frame.
  var record: Record?

  var payload: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[FrameHeader.byteCount...]) }
}

/// Where frames come from.
protocol FrameSender: AnyObject, Sendable {
  /// Frames of the job that were turned away can be taken in now: the sender is to send anew what was not acknowledged. From
  /// any thread; it must not block.
  func askAgain(for job: JobID)
}

/// What everything received goes through: checked, written to the log, applied, acknowledged, in one order.
///
/// Order of steps in ``accept(_:from:)``, and what would break if one moved: the check comes before the log, so that what is
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
    /// Jobs whose files can't be written or read now.
    var stuck: Set<JobID> = []
    var lastSealFailure = ""
    var records = PendingRecords()
    /// The disk was full a moment ago: members are to be synced and the log's segments to go, however small it is.
    var isShortOfDisk = false
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
  /// Log and metric queries under way.
  let openQueries = Atomic<Int>(0)

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

  /// Takes a batch of frames (of types log, metric, record and end): what is returned may be acknowledged.
  ///
  /// Blocks while memory or the log is at its bound, so that a sender waits and nothing is dropped.
  /// - Parameter sender: asked again for what was turned away, when its time has come.
  /// - Returns: the acknowledgements for what is safe now, and why the connection must end behind them, if it must.
  func accept(_ frames: [ReceivedFrame], from sender: (any FrameSender)? = nil) throws -> (
    acks: [Ack], fault: PersistError?
  ) {
    while true {
      try waitForRoom()
      do {
        let (plan, batch) = try order.withLock { _ in try takeInOrder(frames, sender) }
        if let batch { try commit(batch) }
        return (plan.acks.all, plan.fault)
      } catch PersistError.logSuspended {
        try waitUntilGivenUp()
      } catch let error as PersistError where error.isFullDisk {
        // Sealing frees log segments; until then the sender waits, as on any full pipe.
        logger.error("the write-ahead log can't grow: \(error); waiting for room")
        requestAllSeals()
        _ = monitor.wait(.space, timeout: .seconds(1)) { $0.isStopping ? true : nil }
      }
    }
  }

  private func takeInOrder(_ frames: [ReceivedFrame], _ sender: (any FrameSender)?) throws -> (
    plan: BatchPlan, batch: UInt64?
  ) {
    load(frames)
    let plan = monitor.withLock { state in
      let policy = TurnAwayPolicy(state, maxUnsealed: maxUnsealed, isLogHalfFull: log.totalBytes > maxLog / 2)
      return BatchPlan(frames, state) { policy.turnsAway($0) }
    }
    statistics.count(plan)
    guard !plan.accepted.isEmpty else {
      monitor.withLock { remember(plan, sender, &$0) }
      return (plan, log.lastBatch)
    }
    let parts = plan.parts
    let written = try log.append(parts)
    statistics.count(batch: parts)
    let needsRelief = monitor.withLock { state in
      apply(plan.accepted, segment: written.segment, &state)
      remember(plan, sender, &state)
      // While jobs wait for a sealing thread, asking for more would change nothing.
      return state.unsealedBytes > maxUnsealed / 2 && state.sealQueue.isEmpty
    }
    if needsRelief { requestRelief() }
    return (plan, written.batch)
  }

  /// Only once the batch is in the log: a batch that is taken in again because the disk was full must meet the same answer,
  /// or the sender would never be asked for what is missing.
  private func remember(_ plan: BatchPlan, _ sender: (any FrameSender)?, _ state: inout State) {
    if let refused = plan.refused { state.jobs[refused.job]?[refused.counter].refused = refused.seq }
    for (place, seq) in plan.turnedAway {
      guard let entry = state.jobs[place.job] else { continue }
      entry[place.counter].turnedAway = min(entry[place.counter].turnedAway ?? .max, seq)
    }
    guard let sender else { return }
    for job in plan.turnedAwayJobs { state.jobs[job]?.add(asker: sender) }
  }

  /// Makes sure that the jobs' counters are in memory: a job that was not heard of since the start is looked up.
  private func load(_ frames: [ReceivedFrame]) {
    let unknown = monitor.withLock { state -> [JobID] in
      var unknown: [JobID] = []
      var last: JobID?
      for frame in frames where frame.header.type != .record && frame.header.job != last {
        let job = frame.header.job
        last = job
        if state.jobs[job] == nil, !state.deleted.contains(job), !unknown.contains(job) { unknown.append(job) }
      }
      return unknown
    }
    for job in unknown {
      let entry = JobEntry(job)
      do {
        try loadCounters(of: job, into: entry)
      } catch {
        // Its files are its own trouble: other jobs go on, and it is tried again.
        logger.error("job \(job): its files can't be read, so none of its output is taken in: \(error)")
        entry.isUnreadable = true
      }
      let reference = JobEntryReference(entry)
      monitor.withLock { state in
        state.jobs[job] = reference.entry
        if reference.entry?.isUnreadable == true { state.stuck.insert(job) }
      }
    }
  }

  /// Reads where the job's counters stand from its files.
  func loadCounters(of job: JobID, into entry: JobEntry) throws {
    for counter in JobCounter.allCases {
      for stream in counter.streams {
        let last = try settingAside(job, stream) { try logs.lastSeq(job, stream) }
        entry[counter].last = max(entry[counter].last, last)
      }
    }
  }

  private func apply(_ frames: [ReceivedFrame], segment: UInt64, _ state: inout State) {
    let now = Moment.now
    for frame in frames {
      if frame.header.type == .record {
        applyRecord(frame, segment: segment, &state)
        continue
      }
      guard let entry = state.jobs[frame.header.job] else { continue }
      entry.touched = now
      if let chunk = frame.chunk {
        apply(chunk, frame.payload, segment: segment, entry, &state)
      } else if frame.header.type == .end {
        let (seq, last) = (frame.header.seq, entry.lines.last)
        if seq > last { reportLoss(entry.job, .lines, last + 1, seq) }
        entry.endSeq = seq
        entry.sealsAll = true
      }
      queueIfDue(entry, &state)
    }
  }

  private func apply(
    _ chunk: StoredChunkInfo, _ payload: UnsafeRawBufferPointer, segment: UInt64, _ entry: JobEntry,
    _ state: inout State
  ) {
    let counter: JobCounter = chunk.stream == .metrics ? .samples : .lines
    let last = entry[counter].last
    if chunk.firstSeq > last + 1 { reportLoss(entry.job, counter, last + 1, chunk.firstSeq - 1) }
    state.unsealedBytes += entry[chunk.stream].append(chunk, payload, after: last, segment: segment)
    entry[counter].last = chunk.lastSeq
    if let seq = entry[counter].turnedAway, chunk.lastSeq >= seq { entry[counter].turnedAway = nil }
    switch counter {
    case .lines:
      state.acceptedLines += UInt64(chunk.count)
      statistics.lines.wrappingAdd(UInt64(chunk.count), ordering: .relaxed)
    case .samples: statistics.samples.wrappingAdd(UInt64(chunk.count), ordering: .relaxed)
    }
  }

  private func applyRecord(_ frame: ReceivedFrame, segment: UInt64, _ state: inout State) {
    guard let record = frame.record?.value else { return }
    state.records.add(record, bytes: Int(frame.header.length), segment: segment)
    statistics.records.wrappingAdd(1, ordering: .relaxed)
    monitor.signal(.records)
  }

  func reportLoss(_ job: JobID, _ counter: JobCounter, _ first: UInt64, _ last: UInt64) {
    statistics.dropped.wrappingAdd(last - first + 1, ordering: .relaxed)
    logger.error(
      "job \(job): \(counter.noun)s \(first) to \(last) are lost: they are not stored, and the sender has them no more")
  }

  private func waitForRoom() throws {
    _ = try monitor.wait(.space) { state -> Bool? in
      if let failure = state.failure { throw failure }
      if state.isStopping { throw PersistError.stopping }
      guard hasRoom(state), !state.records.isFull, log.totalBytes <= maxLog + maxLog / 4 else { return nil }
      return true
    }
  }

  /// Waits until a batch is as safe as the policy says.
  private func commit(_ batch: UInt64) throws {
    try log.commit(batch) { giveUp($0) }
    // Lines of a segment that was given up are in memory still: they count once their seal is synced, not before.
    try waitUntilGivenUp()
  }

  func waitUntilGivenUp() throws {
    _ = try monitor.wait(.settled) { state -> Bool? in
      if let failure = state.failure { throw failure }
      return state.givingUp == nil ? true : nil
    }
  }

  /// A sync of the log failed: nothing in that segment is acknowledged; what memory still has is sealed and committed at
  /// once, and until it is safe the log takes nothing more.
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
  /// The number up to which nothing more will come, if the job is in memory: of the last line or sample that was applied, or
  /// of the job's end if lines before it are lost.
  func appliedSeq(_ job: JobID, _ counter: JobCounter) -> UInt64? {
    monitor.withLock { state in
      guard let entry = state.jobs[job], !entry.isUnreadable else { return nil }
      return counter == .lines ? max(entry.lines.last, entry.endSeq ?? 0) : entry.samples.last
    }
  }
}
