import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Logging
import Synchronization

/// Retention at work: lists what is stored, lets ``RetentionPlan`` decide, and deletes as a client's delete does, so that
/// no replay brings anything back.
///
/// What was once learned of a job that has ended is remembered, for its files do not change any more: a sweep costs one
/// listing of the directories, and a look at the jobs that are new or run.
final class Sweeper: Sendable {
  private let intake: Intake
  private let logger: Logger
  private let settings: Mutex<Configuration.Persist.Retention>
  /// Held during a sweep: one at a time.
  private let known = Mutex<[JobID: KeptJob]>([:])
  /// The job that began first, as far as was seen.
  private let oldestJob = Mutex<JobID?>(nil)

  /// A job without a record is taken to run until it was not written for so long: while it runs, each metrics sample is.
  private static let quiet: Int64 = 24 * 3600 * 1_000_000_000
  /// Records without data that one sweep removes; each costs a sync, and the next sweep goes on.
  private static let recordsASweep = 10_000

  init(intake: Intake, settings: Configuration.Persist.Retention, logger: Logger) {
    self.intake = intake
    self.logger = logger
    self.settings = Mutex(settings)
  }

  /// `persist.retention`; may be set while it runs.
  var retention: Configuration.Persist.Retention {
    get { settings.withLock { $0 } }
    set { settings.withLock { $0 = newValue } }
  }

  /// The sweeping thread's life: until the intake stops.
  func run() {
    var last: UInt64?
    while true {
      let bounds = retention
      if bounds.isBounded, last.map({ Moment.now - $0 >= pause(bounds) }) ?? true {
        last = Moment.now
        do {
          _ = try sweep(SweepRequest(dryRun: false)) { _ in }
        } catch PersistError.stopping {
          return
        } catch {
          logger.error("the sweep by persist.retention failed: \(error); it is tried again")
        }
      }
      let isStopping = intake.monitor.wait(.settled, timeout: .seconds(10)) { $0.isStopping ? true : nil }
      if isStopping == true { return }
    }
  }

  /// Nanoseconds between two sweeps. Age can wait, a bound on size is passed within a minute, and a disk that is almost
  /// full is an emergency.
  private func pause(_ bounds: Configuration.Persist.Retention) -> UInt64 {
    if !intake.board.condition.acceptsJobs { return 10 * 1_000_000_000 }
    return (bounds.maxBytes > 0 || bounds.maxBytesPerJob > 0 ? 60 : 300) * 1_000_000_000
  }

  /// One sweep.
  /// - Parameter report: called with each job that goes, after it went (in a dry run, instead).
  /// - Throws: ``JobletModel/Problem`` for bounds out of range, and what keeps it from seeing what there is.
  func sweep(_ request: SweepRequest, report: (SweptJob) throws -> Void) throws -> SweepTotals {
    try request.check()
    var bounds = retention
    if let days = request.days { bounds.days = days }
    if let bytes = request.maxBytesPerJob { bounds.maxBytesPerJob = bytes }
    if let bytes = request.maxBytes { bounds.maxBytes = bytes }
    return try known.withLock { known in
      let now = Timestamp.now()
      let plan = RetentionPlan(try survey(&known, bounds, now), bounds, now: now)
      if request.dryRun {
        for job in plan.removals { try report(job) }
        return plan.totals
      }
      return try remove(plan, &known, report)
    }
  }

  private func remove(_ plan: RetentionPlan, _ known: inout [JobID: KeptJob], _ report: (SweptJob) throws -> Void)
    throws
    -> SweepTotals
  {
    var totals = plan.totals
    for job in plan.removals {
      do {
        try intake.remove(job.job)
      } catch PersistError.stopping {
        throw PersistError.stopping
      } catch let problem as Problem where problem.kind == .notFound {
        // Someone else removed it meanwhile.
      } catch {
        logger.error("can't remove the data of job \(job.job): \(error)")
        totals.failedJobs += 1
        totals.removedJobs -= 1
        totals.removedBytes -= job.bytes
        totals.keptJobs += 1
        totals.keptBytes += job.bytes
        continue
      }
      known[job.job] = nil
      intake.statistics.sweptJobs.wrappingAdd(1, ordering: .relaxed)
      intake.statistics.sweptBytes.wrappingAdd(UInt64(max(0, job.bytes)), ordering: .relaxed)
      logger.debug("removed the data of job \(job.job), \(job.bytes) bytes: \(job.reason.rawValue)")
      try report(job)
    }
    if totals.removedJobs > 0 {
      logger.info(
        """
        swept \(totals.removedJobs) jobs with \(ByteCount.text(totals.removedBytes)) by persist.retention; \
        \(totals.keptJobs) jobs with \(ByteCount.text(totals.keptBytes)) stay
        """)
    }
    return totals
  }

  // MARK: What there is

  /// Every job that has data, and those that have only a record if that may be too old.
  private func survey(_ known: inout [JobID: KeptJob], _ bounds: Configuration.Persist.Retention, _ now: Timestamp)
    throws -> [KeptJob]
  {
    let stored = Set(try intake.logs.storedJobs())
    known = known.filter { stored.contains($0.key) }
    var jobs: [KeptJob] = []
    for job in stored {
      if let settled = known[job] {
        jobs.append(settled)
        continue
      }
      let usage: LogUsage?
      do {
        usage = try intake.logs.usage(job)
      } catch {
        // One job that can't be looked at must not keep the others for ever.
        logger.error("can't see what the data of job \(job) takes: \(error)")
        continue
      }
      guard let usage else { continue }  // it went meanwhile
      let (found, isSettled) = try judge(job, usage, now)
      jobs.append(found)
      if isSettled { known[job] = found }
    }
    oldestJob.withLock { $0 = stored.filter { $0.created != nil }.min() }
    if bounds.days > 0 { jobs += try recordsAlone(stored, bounds, now) }
    return jobs
  }

  /// Whether a job runs, and else since when it does not; and whether that, and its size, stay so.
  private func judge(_ job: JobID, _ usage: LogUsage, _ now: Timestamp) throws -> (KeptJob, isSettled: Bool) {
    let (isInMemory, isWriting) = intake.monitor.withLock { state in
      let entry = state.jobs[job]
      return (entry != nil, entry.map { $0.endSeq == nil } ?? false)
    }
    var kept = KeptJob(job, bytes: usage.bytes, ended: nil)
    if let record = try intake.record(job) {
      guard record.status.isEnded else { return (kept, false) }
      kept.ended = record.endedAt ?? usage.lastWrite
      return (kept, !isInMemory)
    }
    if !isWriting, now.nanoseconds - usage.lastWrite.nanoseconds > Sweeper.quiet { kept.ended = usage.lastWrite }
    return (kept, false)
  }

  /// Jobs that ended too long ago and have a record but no data: they printed nothing, or someone removed their files.
  private func recordsAlone(_ stored: Set<JobID>, _ bounds: Configuration.Persist.Retention, _ now: Timestamp) throws
    -> [KeptJob]
  {
    let cut = Timestamp(nanoseconds: now.nanoseconds - Int64(bounds.days) * 86_400_000_000_000)
    // Created before: then it may have ended before.
    var query = RecordQuery(statuses: JobStatus.allCases.filter(\.isEnded), until: cut, limit: 1000)
    var found: [KeptJob] = []
    var seen = stored
    func take(_ records: [JobRecord]) {
      for record in records where record.status.isEnded {
        let ended = record.endedAt ?? record.createdAt
        if ended < cut, seen.insert(record.id).inserted { found.append(KeptJob(record.id, bytes: 0, ended: ended)) }
      }
    }
    // Those that are not in the store yet first: what gets there between the two looks is seen at the second.
    take(intake.monitor.withLock { $0.records.all })
    while found.count < Sweeper.recordsASweep {
      let page = try intake.records.list(query)
      take(page.records)
      guard let next = page.next else { break }
      query.before = next
    }
    return found
  }

  /// When the oldest job began whose data is kept; nil if there is none. Lists the directories only if the one it knew is
  /// gone.
  func oldest() throws -> Timestamp? {
    if let job = oldestJob.withLock({ $0 }), try intake.logs.contains(job) { return job.created }
    let stored = try intake.logs.storedJobs().filter { $0.created != nil }.min()
    oldestJob.withLock { $0 = stored }
    let waiting = intake.monitor.withLock { $0.jobs.keys.filter { $0.created != nil }.min() }
    return [stored, waiting].compactMap { $0 }.min()?.created
  }
}

extension Configuration.Persist.Retention {
  /// True if there is anything that may go.
  var isBounded: Bool { days > 0 || maxBytes > 0 || maxBytesPerJob > 0 }
}

extension JobID {
  /// When the ID was made; nil if it is no UUIDv7 (RFC 9562), which alone says so.
  var created: Timestamp? {
    guard high >> 12 & 0xF == 7 else { return nil }
    return Timestamp(nanoseconds: Int64(high >> 16) * 1_000_000)
  }
}
