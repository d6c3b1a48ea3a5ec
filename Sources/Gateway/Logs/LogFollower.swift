import JobletModel
import JobletWire
import NIOCore
import Synchronization

/// Reads one job's log for one client: does what ``FollowerMachine`` says. Pull, not push: the next batch is asked for when
/// the last one has left, so a client that doesn't read costs one batch and no more.
struct LogFollower: Sendable {
  let job: JobID
  let format: LogFormat
  let parameters: LogParameters
  let exec: FramePool
  let directory: JobDirectory
  let drain: DrainSignal
  /// Refuses once the client's certificate is past its time.
  let checkCaller: @Sendable () throws -> Void

  private static let heartbeat: Duration = .seconds(15)
  /// A batch of live output: a thousand lines of 64 bytes.
  private static let batchBytes = 64 << 10
  private static let pause: Duration = .seconds(1)
  private static let queryTimeout: Duration = .seconds(60)

  /// Sends the log until its end, or until the gateway stops: then the client is told to come again.
  func run(_ stream: ResponseStream) async throws {
    guard parameters.follow else { return try await read(stream) }
    let me = self
    let isDraining = try await withThrowingTaskGroup(of: Bool.self) { group in
      group.addTask {
        try await me.read(stream)
        return false
      }
      group.addTask {
        await me.drain.wait()
        return true
      }
      let first = try await group.next() ?? false
      group.cancelAll()
      // The reader stops between two batches, and its last one has left before we write on.
      while let next = await group.nextResult() {
        if first, case .success(false) = next { return false }
      }
      return first
    }
    try Task.checkCancellation()
    guard isDraining else { return }
    var farewell = LogFormatter(format, parameters)
    farewell.reportReconnect()
    if farewell.out.readableBytes > 0 { try await stream.write(farewell.out) }
  }

  private func read(_ stream: ResponseStream) async throws {
    var session = Session(self, stream)
    do {
      try await session.run()
      await session.close()
    } catch {
      await session.close()
      throw error
    }
  }

  /// One reader's state: where it is, and the connections it has open.
  private struct Session: ~Copyable {
    let follower: LogFollower
    let stream: ResponseStream
    var machine: FollowerMachine
    var formatter: LogFormatter
    var lastWrite = ContinuousClock.now
    /// Who doesn't follow gets what was written until now: a job that writes faster than its reader reads has no end.
    let begun = Timestamp.now()
    var lastCheck = ContinuousClock.now
    let exec = Held()
    let persist = Held()

    init(_ follower: LogFollower, _ stream: ResponseStream) {
      self.follower = follower
      self.stream = stream
      machine = FollowerMachine(follower.parameters)
      formatter = LogFormatter(follower.format, follower.parameters)
    }

    mutating func run() async throws {
      formatter.begin()
      if follower.parameters.follow {
        try await stream.start()  // the client sees that it is served, whenever the first line may come
        try await flush()
      }
      while true {
        try Task.checkCancellation()
        switch machine.action {
        case .measure: try await measure()
        case .live(let wait): try await live(wait: wait)
        case .history(let through, let throughSeq, let tail):
          try await history(through: through, throughSeq: throughSeq, tail: tail)
        case .lookUp: try await lookUp()
        case .pause:
          try await Task.sleep(for: LogFollower.pause)
          machine.paused()
        case .end(let end, let lastSeq):
          if let lastSeq { formatter.advance(to: lastSeq) }
          formatter.reportEnd(end)
          return try await flush()
        case .finish: return try await flush()
        case .fail(let problem): throw problem
        }
        if formatter.isLimitReached { machine.limitReached() }
        // Who follows gets lines at once; a query's reply is collected into batches, and as long as nothing has left it
        // can still become a proper refusal.
        if follower.parameters.follow || formatter.out.readableBytes >= LogFollower.batchBytes { try await flush() }
        try await beat()
      }
    }

    func close() async {
      await exec.close()
      await persist.close()
    }

    // MARK: Steps

    private mutating func live(wait: Bool) async throws {
      let position = formatter.position
      let answer: Output
      do {
        answer = try await ask(after: position, wait: wait)
      } catch let error where !(error is CancellationError) {
        await exec.close()
        try Task.checkCancellation()
        return machine.liveFailed()
      }
      for frame in answer.chunks {
        guard let chunk = frame.header.chunk else { continue }
        if !follower.parameters.follow, chunk.timestamp > begun { return machine.limitReached() }
        formatter.append(live: chunk, payload: frame.payload)
      }
      machine.live(answer.state, position: formatter.position, hadLines: formatter.position > position)
    }

    /// Looks where the last lines begin, and keeps their numbers only.
    private mutating func measure() async throws {
      let wanted = follower.parameters.tail ?? 0
      var matches: [UInt64] = []
      var (position, oldest, acknowledged) = (formatter.position, UInt64?.none, UInt64?.none)
      var isKnown = true
      do {
        search: while true {
          let answer = try await ask(after: position, wait: false)
          let before = position
          for frame in answer.chunks {
            guard let chunk = frame.header.chunk else { continue }
            if chunk.timestamp > begun { break search }
            formatter.matches(chunk, frame.payload) { seq in if seq > before { matches.append(seq) } }
            position = max(position, chunk.lastSeq)
          }
          if matches.count > wanted { matches.removeFirst(matches.count - max(wanted, 1)) }
          switch answer.state.state {
          case .more: if position == before { break search }
          case .behind:
            guard let first = answer.state.oldest, first > position + 1 else { break search }
            (oldest, acknowledged, position) = (first, answer.state.acknowledged, first - 1)
          case .ended: break search
          case .unknown:
            isKnown = false
            break search
          }
        }
      } catch let error where !(error is CancellationError) {
        await exec.close()
        try Task.checkCancellation()
        return machine.liveFailed()
      }
      let start = machine.measured(matches: matches, oldest: oldest, acknowledged: acknowledged, isKnown: isKnown)
      if case .live = machine.action { formatter.jump(to: start ?? formatter.position) }
    }

    private mutating func history(through: UInt64?, throughSeq: UInt64?, tail: Int?) async throws {
      guard let pool = follower.directory.persist else {
        // Nothing is persisted here: what the ring has lost is lost, and said to be.
        if let through { formatter.advance(pastLost: through) }
        return machine.historyRead()
      }
      let parameters = follower.parameters
      let query = LogQuery(
        job: follower.job, stream: parameters.stream, after: formatter.position, through: through,
        since: parameters.since, until: parameters.until, filter: parameters.filter, tail: tail,
        limit: formatter.limitLeft, throughSeq: throughSeq)
      let position = formatter.position
      do {
        let connection = try await persist.connection { try await pool.connect() }
        try await connection.send(Frame(FrameHeader(.queryLogs, job: follower.job), json: query))
        while let frame = try await nextHistory(connection) {
          if frame.payload.readableBytes == 0, frame.header.count > 0 {
            formatter.append(damagedFrom: frame.header.seq, count: frame.header.count)
          } else {
            formatter.append(stored: frame.payload)
          }
          if formatter.isLimitReached {
            await persist.close()
            return machine.limitReached()
          }
          if formatter.out.readableBytes >= LogFollower.batchBytes {
            try await flush()
          }
        }
        if let through { formatter.advance(to: through) }
        machine.historyRead()
      } catch {
        try await historyFailed(error, pool, hadLines: formatter.position > position)
      }
    }

    private mutating func historyFailed(_ error: any Error, _ pool: FramePool, hadLines: Bool) async throws {
      let wasLetGo = persist.wasLetGo
      await persist.close()
      try Task.checkCancellation()
      if error is ClientLeft { throw error }
      if wasLetGo {
        machine.historyInterrupted(hadLines: hadLines)
      } else if let problem = error as? Problem, problem.kind == .notFound {
        if case .history(let through?, _, _) = machine.action { formatter.advance(to: through) }
        machine.historyRead()
      } else {
        machine.historyFailed(error as? Problem ?? pool.away("\(error)"))
      }
    }

    /// The next frame of stored lines; nil when there are no more.
    private func nextHistory(_ connection: FrameConnection) async throws -> Frame? {
      let frame = try await withDeadline(LogFollower.queryTimeout, connection) { try await connection.reply() }
      switch frame.header.type {
      case .log: return frame
      case .done: return nil
      default: throw FrameError.unexpected(frame.header.type)
      }
    }

    private mutating func lookUp() async throws {
      do {
        let directory = follower.directory
        // The view may be older than the store when exec is away or has let go of the job.
        var record = directory.view.record(follower.job)
        if record?.status.isEnded != true { record = try await directory.stored(follower.job) ?? record }
        machine.lookedUp(record, position: formatter.position)
      } catch let problem as Problem {
        machine.lookUpFailed(problem)
      }
    }

    // MARK: exec

    struct Output: Sendable {
      var chunks: [Frame]
      var state: OutputState
    }

    /// One pull.
    private func ask(after: UInt64, wait: Bool) async throws -> Output {
      let idle = ContinuousClock.now - lastWrite
      // Back in time for the next heartbeat.
      let hold = wait ? max(.milliseconds(1), LogFollower.heartbeat - idle) : .zero
      let request = OutputRequest(
        job: follower.job, after: after, maxBytes: LogFollower.batchBytes, waitMilliseconds: hold.milliseconds)
      let pool = follower.exec
      let connection = try await exec.connection { try await pool.connect() }
      let frame = try Frame(FrameHeader(.output, job: follower.job), json: request)
      return try await withDeadline(hold + .seconds(10), connection) {
        try await connection.send(frame)
        var chunks: [Frame] = []
        while true {
          let reply = try await connection.reply()
          switch reply.header.type {
          case .log: chunks.append(reply)
          case .outputState: return Output(chunks: chunks, state: try reply.decode())
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
      do {
        try await stream.write(formatter.out) {
          exec.letGo()
          persist.letGo()
        }
      } catch {
        throw ClientLeft()
      }
      formatter.out.clear()
      lastWrite = .now
    }

    private mutating func beat() async throws {
      guard follower.parameters.follow else { return }
      let now = ContinuousClock.now
      // By its own clock: a busy stream has no heartbeats, and its client's certificate ends all the same.
      if now - lastCheck >= LogFollower.heartbeat - .milliseconds(50) {
        try follower.checkCaller()
        lastCheck = now
      }
      guard now - lastWrite >= LogFollower.heartbeat - .milliseconds(50) else { return }
      formatter.heartbeat()
      lastWrite = .now
      try await flush()
    }
  }
}

/// A write to the client failed: it is gone. Told apart from what goes wrong on the way to exec and persist.
struct ClientLeft: Error {}

/// A connection a reader keeps while its client keeps up.
private final class Held: Sendable {
  private let state = Mutex<(connection: FrameConnection?, wasLetGo: Bool)>((nil, false))

  /// True if the connection was closed because the client did not read.
  var wasLetGo: Bool { state.withLock { $0.wasLetGo } }

  func connection(_ open: @Sendable () async throws -> FrameConnection) async throws -> FrameConnection {
    if let connection = state.withLock({ $0.connection }) { return connection }
    let opened = try await open()
    state.withLock { $0 = (opened, false) }
    return opened
  }

  func letGo() {
    let connection = state.withLock { state in
      let connection = state.connection
      // What came before the close may still be read, and the client stall on it again: let go is let go.
      state = (nil, state.wasLetGo || connection != nil)
      return connection
    }
    if let connection { Task { await connection.close() } }
  }

  func close() async {
    let connection = state.withLock { state in
      defer { state = (nil, false) }
      return state.connection
    }
    await connection?.close()
  }
}
