import Glibc
import JobletModel
import JobletWire
import Logging
import NIOCore

/// Stands in for joblet-exec: speaks its protocol on a real socket; tests script its jobs.
actor FakeExec {
  struct Pause: Equatable {
    var type: FrameType
    var caller: Caller
  }

  struct Job {
    var record: JobRecord
    var chunks: [(info: LogChunkInfo, payload: ByteBuffer)] = []
    var acknowledged: UInt64 = 0
    var samples: [MetricSample] = []
    var lastSample: UInt64 = 0
    var nextSeq: UInt64 = 1
    /// Followers are told nothing.
    var isMute = false
    /// Output without end, made as it is pulled.
    var isFlooding = false
  }

  private(set) var jobs: [JobID: Job] = [:]
  private(set) var requests: [RunRequest] = []
  /// Jobs by the key their request had.
  private var keys: [String: JobID] = [:]
  /// A connection that asks for a job with a key is closed so many times after the job was started.
  var losses = 0
  private(set) var stops: [StopRequest] = []
  private(set) var pauses: [Pause] = []
  /// Bytes of output handed out.
  private(set) var bytesSent = 0
  /// Changes seen by every events subscription and every waiting output request.
  private var watchers: [Int: AsyncStream<JobRecord?>.Continuation] = [:]
  private var nextWatcher = 0
  /// Positions of the output requests that wait for lines.
  private var holding: [Int: UInt64] = [:]

  func isHolding(after seq: UInt64) -> Bool { holding.values.contains(seq) }
  /// How many requests wait for what comes after a line.
  func holders(after seq: UInt64) -> Int { holding.values.count { $0 == seq } }
  /// Answer to the next run, instead of a job.
  var refusal: Problem?

  /// While it is there, deletions do not end.
  private var deletions: (stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)?
  private(set) var deleting = 0

  func holdDeletions() { deletions = AsyncStream.makeStream(of: Void.self) }
  func letDeletionsEnd() { deletions?.continuation.finish() }

  func refuse(_ problem: Problem?) { refusal = problem }

  /// What it says of the node.
  private var node = NodeStatus(nodeID: "node-1", versions: .init(exec: "9.9"))
  private(set) var nodeRequests = 0
  /// Since when it remembers every job that ended.
  private var completeSince = Timestamp(nanoseconds: 0)

  func report(_ node: NodeStatus) { self.node = node }
  func remember(since time: Timestamp) { completeSince = time }

  /// How often its events were asked for.
  private(set) var subscriptions = 0
  private var isHangingUp = false

  /// Closes the events connection, as a restart does.
  func hangUp() {
    isHangingUp = true
    for watcher in watchers.values { watcher.finish() }
    watchers = [:]
  }
  /// exec dies so many times between starting a job and saying so.
  func lose(_ times: Int) { losses = times }

  @discardableResult
  func add(_ record: JobRecord) -> JobID {
    jobs[record.id] = Job(record: record)
    tell(record)
    return record.id
  }

  func forget(_ id: JobID) { jobs[id] = nil }

  func write(_ id: JobID, _ text: String, stream: LogStream = .stdout, at time: Timestamp = .now()) {
    guard var job = jobs[id] else { return }
    let isPartial = !text.hasSuffix("\n")
    let count = isPartial ? 1 : UInt32(text.utf8.count { $0 == 0x0A })
    let info = LogChunkInfo(
      stream: stream, firstSeq: job.nextSeq, count: count, timestamp: time, isPartial: isPartial)
    job.chunks.append((info, ByteBuffer(string: text)))
    job.nextSeq += UInt64(count)
    jobs[id] = job
    tell(nil)
  }

  /// Takes samples; the number of each is its own.
  func measure(_ id: JobID, _ samples: MetricSample...) {
    jobs[id]?.samples += samples
    jobs[id]?.lastSample = samples.last?.seq ?? 0
    tell(nil)
  }

  /// Samples up to `seq` are only in persist now.
  func dropSamples(_ id: JobID, through seq: UInt64) { jobs[id]?.samples.removeAll { $0.seq <= seq } }

  func flood(_ id: JobID) {
    jobs[id]?.isFlooding = true
    tell(nil)
  }

  /// The ring moves on: chunks up to `seq` are only in persist now.
  func drop(_ id: JobID, through seq: UInt64) {
    jobs[id]?.chunks.removeAll { $0.info.lastSeq <= seq }
    jobs[id]?.acknowledged = seq
  }

  func end(_ id: JobID, exitCode: Int = 0) {
    guard var job = jobs[id] else { return }
    job.isFlooding = false
    job.record.status = exitCode == 0 ? .completed : .failed
    job.record.reason = exitCode == 0 ? nil : .exitCode
    job.record.exitCode = exitCode
    job.record.endedAt = .now()
    job.record.lastSeq = job.nextSeq - 1
    job.record.version += 1
    jobs[id] = job
    tell(job.record)
  }

  /// The job ends after lines that nobody reads any more; followers are not told, events are.
  func vanish(_ id: JobID, lastSeq: UInt64) {
    guard var record = jobs[id]?.record else { return }
    record.status = .completed
    record.lastSeq = lastSeq
    record.version += 1
    jobs[id]?.record = record
    jobs[id]?.isMute = true
    tell(record)
  }

  /// Whoever waits looks again.
  func wake() { tell(nil) }

  private func tell(_ record: JobRecord?) { for watcher in watchers.values { watcher.yield(record) } }

  private func watch() -> (Int, AsyncStream<JobRecord?>) {
    let (stream, continuation) = AsyncStream.makeStream(of: JobRecord?.self)
    nextWatcher += 1
    watchers[nextWatcher] = continuation
    return (nextWatcher, stream)
  }

  private func unwatch(_ id: Int) { watchers.removeValue(forKey: id)?.finish() }

  // MARK: The protocol

  func serve(_ connection: FrameConnection) async throws {
    while let frame = try await connection.next() {
      do {
        try await answer(frame, connection)
      } catch let problem as Problem {
        try await connection.send(Frame(FrameHeader(.problem), json: problem))
      }
    }
  }

  private func answer(_ frame: Frame, _ connection: FrameConnection) async throws {
    switch frame.header.type {
    case .run:
      let request: RunRequest = try frame.decode()
      requests.append(request)
      if let refusal { throw refusal }
      if let job = request.key.flatMap({ keys[$0] }) {
        guard let record = jobs[job]?.record else {
          return try await connection.send(Frame(FrameHeader(.record, flags: .replayed, job: job)))
        }
        return try await connection.send(Frame(FrameHeader(.record, flags: .replayed, job: job), json: record))
      }
      var record = JobRecord(
        id: JobID(node: 1), request: request.request, status: .running, createdAt: .now(), nodeID: "node-1",
        owner: request.caller.name)
      record.traceparent = request.caller.traceparent
      add(record)
      if let key = request.key { keys[key] = record.id }
      if losses > 0 {
        losses -= 1
        return await connection.close()
      }
      try await connection.send(Frame(FrameHeader(.record, job: record.id), json: record))
    case .stop:
      let request: StopRequest = try frame.decode()
      stops.append(request)
      guard let job = jobs[request.job] else { throw Problem(.notFound, "there is no job \(request.job)") }
      try await connection.send(Frame(FrameHeader(.record, job: request.job), json: job.record))
    case .pause, .resume:
      pauses.append(Pause(type: frame.header.type, caller: try frame.decode()))
      guard var record = jobs[frame.header.job]?.record else {
        throw Problem(.notFound, "there is no job \(frame.header.job)")
      }
      guard !record.status.isEnded else { throw Problem(.conflict, "the job has ended already") }
      record.status = frame.header.type == .pause ? .paused : .running
      record.version += 1
      jobs[record.id]?.record = record
      tell(record)
      try await connection.send(Frame(FrameHeader(.record, job: record.id), json: record))
    case .deleteJob:
      guard let job = jobs[frame.header.job] else { throw Problem(.notFound, "there is no such job") }
      guard job.record.status.isEnded else { throw Problem(.conflict, "the job runs; stop it first") }
      jobs[frame.header.job] = nil
      if let deletions {
        deleting += 1
        for await _ in deletions.stream {}
      }
      try await connection.send(Frame(FrameHeader(.done)))
    case .events: try await events(connection)
    case .nodeStatus:
      nodeRequests += 1
      try await connection.send(Frame(FrameHeader(.done), json: node))
    case .statistics:
      let text = "# TYPE joblet_exec_queued_jobs gauge\njoblet_exec_queued_jobs 7\n"
      try await connection.send(Frame(FrameHeader(.done), payload: ByteBuffer(string: text)))
    case .output: try await output(try frame.decode(), connection) { try await self.answerOutput($0, $1, mayWait: $2) }
    case .metricOutput:
      try await output(try frame.decode(), connection) { try await self.answerMetrics($0, $1, mayWait: $2) }
    default: throw FrameError.unexpected(frame.header.type)
    }
  }

  private func events(_ connection: FrameConnection) async throws {
    subscriptions += 1
    let (id, changes) = watch()
    defer { unwatch(id) }
    for job in jobs.values { try await connection.send(Frame(FrameHeader(.record), json: job.record)) }
    try await connection.send(Frame(FrameHeader(.done), json: SnapshotEnd(completeSince: completeSince)))
    for await record in changes {
      if let record { try await connection.send(Frame(FrameHeader(.record), json: record)) }
    }
    if isHangingUp {
      isHangingUp = false
      throw FrameError.truncated
    }
  }

  private func output(
    _ request: OutputRequest, _ connection: FrameConnection,
    _ answer: @escaping @Sendable (OutputRequest, FrameConnection, _ mayWait: Bool) async throws -> Bool
  ) async throws {
    let (watcher, changes) = watch()
    defer { unwatch(watcher) }
    if try await answer(request, connection, request.waitMilliseconds > 0) { return }
    holding[watcher] = request.after
    defer { holding[watcher] = nil }
    do {
      try await withTimeout(.milliseconds(request.waitMilliseconds)) {
        for await _ in changes { if try await answer(request, connection, true) { return } }
      }
    } catch is TimedOut {
      try await connection.send(Frame(FrameHeader(.outputState), json: OutputState(.more)))
    }
  }

  /// False if there is nothing to say yet.
  private func answerOutput(
    _ request: OutputRequest, _ connection: FrameConnection, mayWait: Bool
  ) async throws -> Bool {
    guard let job = jobs[request.job] else { return try await state(OutputState(.unknown), connection) }
    if job.isMute { return false }
    if job.isFlooding {
      let count = request.maxBytes / 64
      let payload = ByteBuffer(string: String(repeating: String(repeating: "x", count: 63) + "\n", count: count))
      let info = LogChunkInfo(
        stream: .stdout, firstSeq: request.after + 1, count: UInt32(count), timestamp: .now(), isPartial: false)
      jobs[request.job]?.nextSeq = max(job.nextSeq, request.after + UInt64(count) + 1)
      bytesSent += payload.readableBytes
      try await connection.send(
        Frame(FrameHeader(job: request.job, chunk: info, length: UInt32(payload.readableBytes)), payload: payload))
      return try await state(OutputState(.more), connection)
    }
    let first = job.chunks.first?.info.firstSeq ?? job.nextSeq
    if first > request.after + 1 {
      return try await state(OutputState(.behind, oldest: first, acknowledged: job.acknowledged), connection)
    }
    let wanted = job.chunks.filter { $0.info.lastSeq > request.after }
    var sent = 0
    for chunk in wanted {
      if sent > 0, sent + chunk.payload.readableBytes > request.maxBytes { break }
      sent += chunk.payload.readableBytes
      try await connection.send(
        Frame(
          FrameHeader(job: request.job, chunk: chunk.info, length: UInt32(chunk.payload.readableBytes)),
          payload: chunk.payload))
    }
    bytesSent += sent
    if sent > 0 { return try await state(OutputState(.more), connection) }
    if job.record.status.isEnded { return try await state(OutputState(.ended, record: job.record), connection) }
    return mayWait ? false : try await state(OutputState(.more, last: job.nextSeq - 1), connection)
  }

  private func answerMetrics(
    _ request: OutputRequest, _ connection: FrameConnection, mayWait: Bool
  ) async throws -> Bool {
    guard let job = jobs[request.job] else { return try await state(OutputState(.unknown), connection) }
    let first = job.samples.first?.seq ?? job.lastSample + 1
    if first > request.after + 1 {
      return try await state(OutputState(.behind, oldest: first, acknowledged: first - 1), connection)
    }
    let wanted = job.samples.filter { $0.seq > request.after }
    if let first = wanted.first, let last = wanted.last {
      let header = FrameHeader(
        .metric, flags: .encoded, job: request.job, seq: first.seq, timestamp: last.ts, count: UInt32(wanted.count))
      try await connection.send(Frame(header, payload: ByteBuffer(string: wanted.map(\.line).joined())))
      return try await state(OutputState(.more), connection)
    }
    if job.record.status.isEnded { return try await state(OutputState(.ended, record: job.record), connection) }
    return mayWait ? false : try await state(OutputState(.more), connection)
  }

  private func state(_ state: OutputState, _ connection: FrameConnection) async throws -> Bool {
    try await connection.send(Frame(FrameHeader(.outputState), json: state))
    return true
  }
}
