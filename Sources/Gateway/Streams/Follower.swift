import JobletModel
import JobletWire
import NIOCore

/// What a follower reads from, and when it speaks.
struct StreamSource: Sendable {
  let exec: FramePool
  let pulls: SharedPulls
  let directory: JobDirectory
  let persistWatch: PersistWatch?
  let drain: DrainSignal
  /// The longest silence on a stream.
  let heartbeat: Duration
}

/// What exec is asked for: the records after a number, as many as one batch has room for.
struct Pull: Hashable, Sendable {
  var type: FrameType
  var job: JobID
  var after: UInt64
  var most: Int
}

/// exec's answer to a ``Pull``.
struct PulledRecords: Sendable {
  var frames: [Frame]
  var state: OutputState

  /// The last number there is, from an answer without records; nil if exec does not say.
  var last: UInt64? {
    guard frames.isEmpty else { return nil }
    return state.state == .ended ? state.record?.lastSeq : state.last
  }
}

typealias SharedPulls = SharedQuestions<Pull, PulledRecords>

/// Reads one job's records for one client: does what ``FollowerMachine`` says. Pull, not push: the next batch is asked for
/// when the last one has left, so a client that doesn't read costs one batch and no more.
struct Follower<Formatter: RecordFormatter & ~Copyable>: Sendable {
  /// The job as it was when the client came.
  let record: JobRecord
  let format: StreamFormat
  let parameters: Formatter.Parameters
  let source: StreamSource
  let requestID: String
  /// Refuses once the client's certificate is past its time or revoked.
  let checkCaller: @Sendable () throws -> Void

  /// Sends the records until their end, or until the gateway stops: then the client is told to come again.
  func run(_ stream: ResponseStream) async throws {
    guard parameters.follow else { return try await read(stream) }
    let me = self
    let isDraining = try await source.drain.interrupting { try await me.read(stream) }
    guard isDraining else { return }
    var farewell = Formatter(format, parameters)
    farewell.reportReconnect()
    if farewell.out.readableBytes > 0 { try await stream.write(farewell.out) }
  }

  private func read(_ stream: ResponseStream) async throws {
    var session = FollowerSession<Formatter>(self, stream)
    do {
      try await session.run()
      await session.close()
    } catch {
      await session.close()
      throw error
    }
  }
}

/// Bounds of a follower's batches and waits.
private enum Bounds {
  /// A batch of live output, as exec hands it out: a thousand lines of 64 bytes.
  static let batchBytes = 64 << 10
  /// The first batch, and one for a client that is slow to take them: a thousand streams that nobody reads hold one each.
  static let smallBatch = 8 << 10
  /// How much longer than a batch what is made of it may be: as JSON lines and events, an empty line is a hundred times its length.
  static let growth = 4
  /// A batch that left sooner was taken at once.
  static let promptness: Duration = .milliseconds(100)
  /// So many answers to others' questions one after the other, and a follower keeps no connection to exec.
  static let othersAnswers = 8
  static let pause: Duration = .seconds(1)
  /// A store that has said nothing for so long, and answers no ping either, is given up.
  static let silence: Duration = .seconds(60)
  /// Timers are early by less.
  static let slack: Duration = .milliseconds(50)
}

/// One reader's state: where it is, and the connections it has open.
private struct FollowerSession<Formatter: RecordFormatter & ~Copyable>: ~Copyable {
  let follower: Follower<Formatter>
  let stream: ResponseStream
  var machine: FollowerMachine
  var formatter: Formatter
  var lastWrite = ContinuousClock.now
  /// Who doesn't follow gets what was written until now: a job that writes faster than its reader reads has no end.
  let begun = Timestamp.now()
  var lastCheck = ContinuousClock.now
  /// How much is asked of exec at a time: as much as the client takes.
  var batch = Bounds.smallBatch
  /// Answers one after the other to questions that others had asked.
  var othersAnswers = 0
  let exec = Held()
  let persist = Held()

  init(_ follower: Follower<Formatter>, _ stream: ResponseStream) {
    self.follower = follower
    self.stream = stream
    let parameters = follower.parameters
    machine = FollowerMachine(
      .init(
        follow: parameters.follow, tail: parameters.tail, needsStore: parameters.needsStore,
        isCountedByRecord: Formatter.isCountedByRecord))
    formatter = Formatter(follower.format, parameters)
  }

  private var job: JobID { follower.record.id }
  private var isFollowing: Bool { follower.parameters.follow }
  private var heartbeat: Duration { follower.source.heartbeat }

  mutating func run() async throws {
    formatter.begin()
    if isFollowing {
      try await stream.start()  // the client sees that it is served, whenever the first record may come
      try await flush()
    }
    while true {
      try Task.checkCancellation()
      switch machine.action {
      case .measure: try await measure()
      case .survey: try await survey()
      case .live(let wait): try await live(wait: wait)
      case .history(let through, let throughSeq, let tail):
        try await history(through: through, throughSeq: throughSeq, tail: tail)
      case .lookUp: try await lookUp()
      case .pause:
        try await Task.sleep(for: min(Bounds.pause, heartbeat))
        machine.paused()
      case .end(let end, let lastSeq):
        if let lastSeq { finish(at: lastSeq) }
        formatter.reportEnd(end)
        return try await flush()
      case .finish: return try await flush()
      case .fail(let problem):
        if stream.isStarted {
          formatter.format.problem(problem, requestID: follower.requestID, &formatter.out)
          try await flush()
        }
        throw problem
      }
      if formatter.isLimitReached { machine.limitReached() }
      // Who follows gets records at once; a query's reply is collected into batches, and as long as nothing has left it
      // can still become a proper refusal.
      if isFollowing || formatter.out.readableBytes >= Bounds.batchBytes { try await flush() }
      if isFollowing { try await beat() }
    }
  }

  /// What has not come by the end does not come. Where nothing is stored that is a loss to who chose records, too.
  private mutating func finish(at last: UInt64) {
    if follower.source.directory.persist == nil {
      formatter.advance(pastLost: last)
    } else {
      formatter.advance(to: last)
    }
  }

  func close() async {
    await exec.close()
    await persist.close()
  }

  // MARK: Live

  private mutating func live(wait: Bool) async throws {
    let position = formatter.position
    // Of what is chosen from, little may leave, and nothing would make a small batch larger.
    let most = follower.parameters.isSelective ? Bounds.batchBytes : batch
    guard let answer = try await pull(after: position, wait: wait, most: most) else { return }
    var seen = position
    var state = answer.state
    let room = formatter.out.readableBytes + Bounds.growth * batch
    for frame in answer.frames {
      guard let (last, time) = Formatter.span(frame) else { continue }
      if !isFollowing, time > begun { return machine.limitReached() }
      seen = max(seen, last)
      guard !follower.parameters.needsStore, !formatter.append(live: frame, upTo: room) else { continue }
      // The rest is asked for again when this has left: to keep it meanwhile would cost more than to read it twice.
      state = OutputState(.more)
      break
    }
    machine.live(state, position: formatter.position, seen: seen, hadRecords: seen > position)
  }

  /// Goes through the ring from the position on without sending anything.
  /// - Parameter body: gets each frame with the position before it.
  /// - Returns: how far the records go; `oldest` and what persist acknowledged, where the ring does not reach back; false
  ///   if exec does not know the job. Nil if exec can't be asked, which the machine is told.
  private mutating func scan(
    _ body: (borrowing Formatter, Frame, UInt64) -> Void
  ) async throws -> (last: UInt64, oldest: UInt64?, acknowledged: UInt64?, isKnown: Bool)? {
    var (position, oldest, acknowledged) = (formatter.position, UInt64?.none, UInt64?.none)
    while let answer = try await pull(after: position, wait: false) {
      let before = position
      for frame in answer.frames {
        guard let (last, time) = Formatter.span(frame) else { continue }
        if time > begun { return (position, oldest, acknowledged, true) }
        body(formatter, frame, before)
        position = max(position, last)
      }
      switch answer.state.state {
      case .more: if position == before { return (position, oldest, acknowledged, true) }
      case .behind:
        guard let first = answer.state.oldest, first > position + 1 else {
          return (position, oldest, acknowledged, true)
        }
        (oldest, acknowledged, position) = (first, answer.state.acknowledged, first - 1)
      case .ended: return (position, oldest, acknowledged, true)
      case .unknown: return (position, oldest, acknowledged, false)
      }
    }
    return nil
  }

  /// A place no job's records come to: whoever asks for those behind it is told how far they go.
  private static var beyond: UInt64 { .max / 2 }

  /// True if the last so many records can be counted off: each of them is wanted, and what the ring has lost of them is stored.
  private var isTailCountable: Bool {
    guard isFollowing, Formatter.isCountedByRecord, let tail = follower.parameters.tail else { return false }
    return tail == 0 || !follower.parameters.isSelective && follower.source.directory.persist != nil
  }

  /// Looks where the last records begin, and keeps their numbers only.
  private mutating func measure() async throws {
    let wanted = follower.parameters.tail ?? 0
    if isTailCountable {
      guard let answer = try await pull(after: Self.beyond, wait: false) else { return }
      if let last = answer.last {
        formatter.jump(to: last - min(last, UInt64(wanted)))
        return machine.located()
      }
    }
    var matches: [UInt64] = []
    let found = try await scan { formatter, frame, before in
      formatter.matches(live: frame) { seq in if seq > before { matches.append(seq) } }
      if matches.count > wanted { matches.removeFirst(matches.count - max(wanted, 1)) }
    }
    guard let found else { return }
    let start = machine.measured(
      matches: matches, oldest: found.oldest, acknowledged: found.acknowledged, isKnown: found.isKnown)
    if case .live = machine.action { formatter.jump(to: start ?? formatter.position) }
  }

  private mutating func survey() async throws {
    if Formatter.isCountedByRecord {
      guard let answer = try await pull(after: Self.beyond, wait: false) else { return }
      if let last = answer.last { return machine.surveyed(last: last, isKnown: true) }
    }
    guard let found = try await scan({ _, _, _ in }) else { return }
    machine.surveyed(last: found.last, isKnown: found.isKnown)
  }

  // MARK: Stored

  private mutating func history(through: UInt64?, throughSeq: UInt64?, tail: Int?) async throws {
    if let through { formatter.begin(at: through) }
    guard let pool = follower.source.directory.persist else {
      // Nothing is persisted here: what the ring has lost is lost, and said to be.
      if let through { formatter.advance(pastLost: through) }
      return machine.historyRead()
    }
    let written = formatter.ledger.written
    do {
      let connection = try await persist.connection { try await pool.connect() }
      try await connection.send(formatter.query(job, through: through, throughSeq: throughSeq, tail: tail))
      while try await takeStored(connection) {
        if formatter.isLimitReached {
          await persist.close()
          return machine.limitReached()
        }
        if formatter.out.readableBytes >= min(Bounds.batchBytes, Bounds.growth * batch) { try await flush() }
      }
      if let through { formatter.advance(to: through) }
      machine.historyRead()
    } catch {
      try await historyFailed(error, pool, hadRecords: formatter.ledger.written > written)
    }
  }

  private mutating func historyFailed(_ error: any Error, _ pool: FramePool, hadRecords: Bool) async throws {
    let wasLetGo = persist.wasLetGo
    await persist.close()
    try Task.checkCancellation()
    if error is ClientLeft { throw error }
    if wasLetGo {
      machine.historyInterrupted(hadRecords: hadRecords)
    } else if let problem = error as? Problem, problem.kind == .notFound {
      // Never written, or deleted a moment ago: nobody has these records any more.
      if case .history(let through?, _, _) = machine.action { formatter.advance(pastLost: through) }
      machine.historyRead()
    } else {
      machine.historyFailed(error as? Problem ?? pool.away("\(error)"))
    }
  }

  /// Takes the next frame of stored records into the reply; false when there are no more. A function of its own, so that the
  /// frame is not held while what was made of it leaves.
  private mutating func takeStored(_ connection: FrameConnection) async throws -> Bool {
    guard let frame = try await nextStored(connection) else { return false }
    if frame.payload.readableBytes == 0, frame.header.count > 0 {
      formatter.append(damagedFrom: frame.header.seq, count: frame.header.count)
    } else {
      formatter.append(stored: frame)
    }
    return true
  }

  /// The next frame of stored records; nil when there are no more. A long search that finds nothing is no failure: the
  /// client hears a heartbeat, and the store is given up only when it answers nobody else either.
  private mutating func nextStored(_ connection: FrameConnection) async throws -> Frame? {
    let asked = ContinuousClock.now
    let watch = follower.source.persistWatch
    let frame = try await connection.reply(every: heartbeat) {
      if ContinuousClock.now - asked >= Bounds.silence, watch?.isConnected == false { throw TimedOut() }
      try await beat()
    }
    if frame.header.type == .done { return nil }
    guard frame.header.type == Formatter.carrier else { throw FrameError.unexpected(frame.header.type) }
    return frame
  }

  private mutating func lookUp() async throws {
    do {
      let directory = follower.source.directory
      // The view may be older than the store when exec is away or has let go of the job.
      var record = directory.view.record(job)
      if record?.status.isEnded != true { record = try await directory.stored(job) ?? record }
      if record != nil { return machine.lookedUp(record, position: formatter.position) }
      // Deleted while it was read: what was known of it last is no invention.
      let known = directory.view.deleted(job) ?? follower.record
      if known.status.isEnded, !machine.isAnswered, let last = known.lastSeq, Formatter.isCountedByRecord {
        formatter.advance(pastLost: last)
      }
      machine.deleted(known)
    } catch let problem as Problem {
      machine.lookUpFailed(problem)
    }
  }

  // MARK: exec

  /// One pull; nil if exec could not be asked, which the machine was told.
  private mutating func pull(after: UInt64, wait: Bool, most: Int = Bounds.batchBytes) async throws -> PulledRecords? {
    do {
      return try await ask(after: after, wait: wait, most: most)
    } catch let error where !(error is CancellationError) {
      await exec.close()
      try Task.checkCancellation()
      machine.liveFailed()
      return nil
    }
  }

  /// The records after a place, as exec has them or gets them; none if it is time for a heartbeat.
  private mutating func ask(after: UInt64, wait: Bool, most: Int) async throws -> PulledRecords {
    let pull = Pull(type: Formatter.pull, job: job, after: after, most: most)
    guard wait else { return try await ask(pull, hold: .zero) }
    // Back in time for the next heartbeat, also if its own turn to ask comes only after a while.
    let due = lastWrite + heartbeat
    func hold() -> Duration { max(.milliseconds(1), due - .now) }
    var isAsker = false
    let answer = try await follower.source.pulls.answer(to: pull, within: hold()) {
      isAsker = true
      return try await ask(pull, hold: hold())
    }
    othersAnswers = isAsker ? 0 : othersAnswers + 1
    // Others ask: a connection of its own is no longer needed.
    if othersAnswers == Bounds.othersAnswers { await exec.close() }
    return answer ?? PulledRecords(frames: [], state: OutputState(.more))
  }

  /// One request to exec and its answer.
  private func ask(_ pull: Pull, hold: Duration) async throws -> PulledRecords {
    let request = OutputRequest(
      job: pull.job, after: pull.after, maxBytes: pull.most, waitMilliseconds: hold.milliseconds)
    let pool = follower.source.exec
    let connection = try await exec.connection { try await pool.connect() }
    let frame = try Frame(FrameHeader(pull.type, job: pull.job), json: request)
    let carrier = Formatter.carrier
    return try await withDeadline(hold + .seconds(10), connection) {
      try await connection.send(frame)
      var frames: [Frame] = []
      while true {
        let reply = try await connection.reply()
        switch reply.header.type {
        case carrier: frames.append(reply)
        case .outputState: return PulledRecords(frames: frames, state: try reply.decode())
        default: throw FrameError.unexpected(reply.header.type)
        }
      }
    }
  }

  // MARK: The client

  /// Sends what there is. A client that doesn't take it soon holds no connection to exec or persist meanwhile.
  private mutating func flush() async throws {
    guard formatter.out.readableBytes > 0 else { return }
    let (exec, persist) = (exec, persist)
    // Handed over, not kept: once it is encrypted, that is all a client that does not read costs.
    let bytes = formatter.out
    formatter.out = ByteBuffer()
    let (handedOver, count) = (ContinuousClock.now, bytes.readableBytes)
    do {
      try await stream.write(consume bytes) {
        exec.letGo()
        persist.letGo()
      }
    } catch {
      throw ClientLeft()
    }
    lastWrite = .now
    if lastWrite - handedOver > Bounds.promptness {
      batch = max(batch / 2, Bounds.smallBatch)
    } else if count >= batch {
      batch = min(batch * 2, Bounds.batchBytes)
    }
  }

  /// Keeps a silent stream alive, and looks whether its client may still have it.
  private mutating func beat() async throws {
    let now = ContinuousClock.now
    // By its own clock: a busy stream has no heartbeats, and its client's certificate ends all the same.
    if now - lastCheck >= heartbeat - Bounds.slack {
      do {
        try follower.checkCaller()
      } catch let problem as Problem {
        formatter.format.problem(problem, requestID: follower.requestID, &formatter.out)
        try await flush()
        throw problem
      }
      lastCheck = now
    }
    guard now - lastWrite >= heartbeat - Bounds.slack else { return }
    formatter.heartbeat()
    lastWrite = .now
    guard formatter.out.readableBytes == 0 else { return try await flush() }
    do {
      try await stream.start()  // where there is no comment, the head says that somebody is at it
    } catch {
      throw ClientLeft()
    }
  }
}

/// A write to the client failed: it is gone. Told apart from what goes wrong on the way to exec and persist.
struct ClientLeft: Error {}
