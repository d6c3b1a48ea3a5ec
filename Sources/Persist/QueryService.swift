import FoundationEssentials
import JobletModel
import JobletWire
import LocalStore
import LogStore
import Logging
import NIOCore
import StateStore

/// Answers the query socket: one connection after another request, results streamed as the peer takes them.
struct QueryService: Sendable {
  let intake: Intake
  let pool: BlockingPool
  let house: Housekeeping
  let logger: Logger

  /// A frame of lines ends with the one that reaches so many bytes. Whoever passes lines on to a client that does not read holds
  /// a frame and what it made of it, and buffers grow by doubling: what becomes of a frame is to fit 64 KiB.
  fileprivate static let frameSize = 40 << 10

  /// How long a query waits until a line is applied that its asker was told is written.
  private static let throughWait: Duration = .seconds(5)

  func handle(_ connection: FrameConnection) async throws {
    while let frame = try await connection.next() {
      do {
        try await answer(frame, connection)
      } catch let problem as Problem {
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: problem))
      } catch let error as FrameError {
        let problem = Problem(.badRequest, error.description)
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: problem))
        throw error
      } catch let error as ValidationError {
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: Problem(error)))
      } catch let error as PersistError {
        try await refuse(frame, connection, "\(error)")
      } catch let error as LocalStoreError {
        try await refuse(frame, connection, "\(error)")
      } catch let error as StateStoreError {
        try await refuse(frame, connection, "\(error)")
      }
    }
  }

  private func refuse(_ frame: Frame, _ connection: FrameConnection, _ why: String) async throws {
    logger.error("a query of type '\(frame.header.type)' failed: \(why)")
    try await connection.send(
      Frame(FrameHeader(.problem, job: frame.header.job), json: Problem(.internalError, "persist: \(why)")))
  }

  private func answer(_ frame: Frame, _ connection: FrameConnection) async throws {
    let start = Moment.now
    defer { intake.statistics.queries(frame.header.type).record(nanoseconds: Moment.now - start) }
    let job = frame.header.job
    switch frame.header.type {
    case .ping:
      let house = house
      let reply = try await pool.run { try house.ping() }
      try await connection.send(Frame(FrameHeader(.done), json: reply))
    case .statistics:
      let house = house
      let text = try await pool.run { try house.statistics() }
      try await connection.send(Frame(FrameHeader(.done), payload: ByteBuffer(string: text)))
    case .sweep: try await sweep(try frame.decode(), connection)
    case .queryLogs: try await queryLogs(try frame.decode(), connection)
    case .queryMetrics: try await queryMetrics(try frame.decode(), connection)
    case .listRecords: try await listRecords(try frame.decode(), connection)
    case .getRecord:
      let intake = intake
      guard let record = try await pool.run({ try intake.record(job) }) else {
        throw Problem(.notFound, "there is no job \(job)")
      }
      try await connection.send(Frame(FrameHeader(.record, job: job, seq: record.version), json: record))
    case .deleteJobData:
      let intake = intake
      // A thread of its own: it may wait for a seal or a sync, and queries should not.
      try await WorkerThread.run("delete") { try intake.remove(job) }
      logger.info("deleted the data of job \(job)")
      try await connection.send(Frame(FrameHeader(.done, job: job)))
    default: throw FrameError.unexpected(frame.header.type)
    }
  }

  private func sweep(_ request: SweepRequest, _ connection: FrameConnection) async throws {
    let house = house
    // A thread of its own: it deletes, and it may wait for another sweep.
    let (jobs, totals) = try await WorkerThread.run("sweep") {
      var jobs: [SweptJob] = []
      let totals = try house.sweeper.sweep(request) { jobs.append($0) }
      return (jobs, totals)
    }
    for start in stride(from: 0, to: jobs.count, by: 500) {
      let part = Array(jobs[start..<min(start + 500, jobs.count)])
      try await connection.send(Frame(FrameHeader(.sweep), json: part))
    }
    try await connection.send(Frame(FrameHeader(.done), json: totals))
  }

  private func listRecords(_ query: RecordQuery, _ connection: FrameConnection) async throws {
    try query.check()
    let intake = intake
    let page = try await pool.run { try intake.records(query) }
    var frames: [Frame] = []
    for record in page.records {
      let header = FrameHeader(.record, job: record.id, seq: record.version)
      frames.append(Frame(header, payload: ByteBuffer(bytes: record.json)))
      if frames.count == 64 {
        try await connection.send(frames)
        frames = []
      }
    }
    try await connection.send(frames + [try Frame(FrameHeader(.done), json: RecordsEnd(next: page.next))])
  }

  private func queryLogs(_ query: LogQuery, _ connection: FrameConnection) async throws {
    if let seq = query.throughSeq { try await waitUntilApplied(query.job, seq, of: .lines, connection) }
    let intake = intake
    try await run(StoredScan(.log, query.job) { .lines(try intake.scanner(query)) }, connection)
  }

  private func queryMetrics(_ query: MetricQuery, _ connection: FrameConnection) async throws {
    if let seq = query.throughSeq { try await waitUntilApplied(query.job, seq, of: .samples, connection) }
    let intake = intake
    try await run(StoredScan(.metric, query.job) { .samples(try intake.scanner(query)) }, connection)
  }

  /// Sends what a scan finds as the peer takes it. Each step is bounded, so a peer that leaves ends its query at once.
  private func run(_ scan: StoredScan, _ connection: FrameConnection) async throws {
    intake.openQueries.wrappingAdd(1, ordering: .relaxed)
    defer { intake.openQueries.wrappingSubtract(1, ordering: .relaxed) }
    while connection.isOpen {
      try Task.checkCancellation()
      switch try await pool.run({ try scan.next() }) {
      case .frame(let frame): try await connection.send(frame)
      case .working: continue
      case .end:
        try await connection.send(Frame(FrameHeader(.done, job: scan.job)))
        return
      }
    }
  }

  private func waitUntilApplied(_ job: JobID, _ seq: UInt64, of counter: JobCounter, _ connection: FrameConnection)
    async throws
  {
    let deadline = ContinuousClock.now + QueryService.throughWait
    let intake = intake
    while connection.isOpen, !(try await pool.run { try intake.hasApplied(job, seq, of: counter) }) {
      guard ContinuousClock.now < deadline else {
        throw Problem(
          .unavailable, "\(counter.noun) \(seq) of job \(job) is not written yet; try again", field: "through_seq",
          retryAfter: 1)
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }
}

/// One log or metric query under way. Its steps block and run on the pool, one after another.
///
/// Safe to share: whoever runs the query awaits each step before it asks for the next, so one thread at a time is in here.
private final class StoredScan: @unchecked Sendable {
  enum Step: Sendable {
    case frame(Frame)
    case working
    case end
  }
  enum Scanner {
    case lines(LogScanner)
    case samples(MetricScanner)
  }
  let job: JobID
  private let type: FrameType
  private let open: () throws -> Scanner
  private var scanner: Scanner?

  /// - Parameters:
  ///   - type: of the frames of the answer.
  ///   - open: called with the first step: it may read files.
  init(_ type: FrameType, _ job: JobID, open: @escaping () throws -> Scanner) {
    self.type = type
    self.job = job
    self.open = open
  }

  func next() throws -> Step {
    let scanner = try self.scanner ?? open()
    self.scanner = scanner
    let batch =
      switch scanner {
      case .lines(let scanner): try scanner.next()
      case .samples(let scanner): try scanner.next()
      }
    switch batch {
    case .lines(let firstSeq, let count, let bytes):
      let header = FrameHeader(type, flags: .encoded, job: job, seq: firstSeq, count: UInt32(count))
      return .frame(Frame(header, payload: ByteBuffer(bytes: bytes)))
    case .gap(let first, let last):
      // An encoded frame without a payload: `count` lines from `seq` on can't be given.
      let missing = UInt32(clamping: last - first + 1)
      return .frame(Frame(FrameHeader(type, flags: .encoded, job: job, seq: first, count: missing)))
    case .working: return .working
    case .end: return .end
    }
  }
}

extension Intake {
  /// Opens what a query may read: members and the lines that wait in memory, as one.
  ///
  /// The streams are opened one after the other while lines go on coming. Without an end in common the later one would have
  /// lines behind some that the earlier one lacks, and who asks on behind the last line would never see those.
  func scanner(_ query: LogQuery) throws -> LogScanner {
    while true {
      let applied = appliedSeq(query.job, .lines)
      var bounded = query
      if let applied { bounded.through = min(query.through ?? .max, applied) }
      let scanner = try LogScanner(bounded, batchSize: QueryService.frameSize, open: pages(of: query.job))
      // A job that nobody writes needs no such end; one that came to life meanwhile does.
      if applied != nil || appliedSeq(query.job, .lines) == nil { return scanner }
    }
  }

  /// The same for samples.
  func scanner(_ query: MetricQuery) throws -> MetricScanner { try MetricScanner(query, open: pages(of: query.job)) }

  private func pages(of job: JobID) -> OpenPages {
    { [self] stream, range, order in
      // Memory first, then the file: a line that is sealed between the two is in both, and given once; the other way
      // round it could be in neither.
      let live = LivePages(self, job, stream, range, order)
      return [try logs.pages(job, stream, range, order), live]
    }
  }

  /// True if everything of the job's counter up to `seq` can be read, or never will be because it is lost.
  func hasApplied(_ job: JobID, _ seq: UInt64, of counter: JobCounter) throws -> Bool {
    if seq == 0 { return true }
    let applied = appliedSeq(job, counter)
    if let applied, applied >= seq { return true }
    // A record that says how a job ended comes behind its last line and sample: what is not there by then is lost. To wait
    // for it would keep a follower from its end for ever.
    if try record(job)?.status.isEnded == true { return true }
    if applied != nil { return false }
    return try counter.streams.contains { try hasLines(job, $0, from: seq) }
  }

  private func hasLines(_ job: JobID, _ stream: StoredStream, from seq: UInt64) throws -> Bool {
    let pages = try logs.pages(job, stream, LogRange(after: seq - 1), .descending)
    while true {
      switch try pages.next() {
      case .page: return true
      case .working: continue
      case .end: return false
      }
    }
  }
}
