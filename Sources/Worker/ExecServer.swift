import FoundationEssentials
import JobletModel
import JobletWire
import Logging
import NIOCore

/// exec.sock: what the gateway may ask of this node. One request at a time on a connection; `events` takes its connection over.
struct ExecServer: Sendable {
  let supervisor: JobSupervisor
  let node: NodeReport
  let logger: Logger

  /// The longest request: a job's command, arguments and environment are at most 1 MiB, six times that as escaped JSON.
  static let maxPayload = 8 << 20

  /// Serves one connection until its peer closes it.
  func serve(_ connection: FrameConnection) async throws {
    while let frame = try await connection.next() {
      if frame.header.type == .events { return try await streamEvents(connection) }
      do {
        try await connection.send(try await answer(frame, connection))
      } catch let problem as Problem {
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: problem))
      } catch let error as ValidationError {
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: Problem(error)))
      } catch let error as FrameError {
        guard case .badPayload(_, let why) = error else { throw error }
        // The frame itself was whole, so the connection can go on.
        let problem = Problem(.badRequest, "the request can't be read: \(why)")
        try await connection.send(Frame(FrameHeader(.problem, job: frame.header.job), json: problem))
      }
    }
  }

  private func answer(_ frame: Frame, _ connection: FrameConnection) async throws -> [Frame] {
    switch frame.header.type {
    case .ping:
      return [Frame(FrameHeader(.done))]
    case .run:
      let request = try frame.decode(RunRequest.self)
      var trace: StartTrace?
      if logger.logLevel <= .debug {
        trace = StartTrace()
        trace?.note(.frame)
      }
      return try await audited("run", request.caller, connection) { [trace] in
        try await self.run(request, trace)
      }
    case .status:
      return [reply(try await supervisor.status(frame.header.job))]
    case .stop:
      let request = try frame.decode(StopRequest.self)
      return try await audited("stop", request.caller, connection, job: request.job) {
        Answered([reply(try await supervisor.stop(request))], request.job)
      }
    case .pause, .resume:
      let caller = try frame.decode(Caller.self)
      let job = frame.header.job
      let isPause = frame.header.type == .pause
      return try await audited(isPause ? "pause" : "resume", caller, connection, job: job) {
        let record = isPause ? try await supervisor.pause(job) : try await supervisor.resume(job)
        return Answered([reply(record)], job)
      }
    case .deleteJob:
      let caller = try frame.decode(Caller.self)
      let job = frame.header.job
      return try await audited("delete", caller, connection, job: job) {
        try await supervisor.delete(job)
        return Answered([Frame(FrameHeader(.done, job: job))], job)
      }
    case .nodeStatus:
      return [try Frame(FrameHeader(.done), json: await node.status(await supervisor.figures))]
    case .statistics:
      return [Frame(FrameHeader(.done), payload: ByteBuffer(string: await node.metrics(await supervisor.figures)))]
    case .output:
      return try await output(try frame.decode(OutputRequest.self))
    case .metricOutput:
      let request = try frame.decode(OutputRequest.self)
      let (frames, state) = await supervisor.metricOutput(request)
      return frames + [try Frame(FrameHeader(.outputState, job: request.job), json: state)]
    default:
      // The stream can't be trusted from here on: the connection is closed with this.
      throw FrameError.unexpected(frame.header.type)
    }
  }

  private func run(_ request: RunRequest, _ trace: StartTrace?) async throws -> Answered {
    switch try await supervisor.run(request, trace: trace) {
    case .started(let record): return Answered([reply(record)], record.id)
    case .replayed(let job, let record?):
      let header = FrameHeader(.record, flags: .replayed, job: job, seq: record.version)
      return Answered([Frame(header, payload: ByteBuffer(bytes: record.json()))], job, outcome: "replayed")
    case .replayed(let job, nil):
      return Answered([Frame(FrameHeader(.record, flags: .replayed, job: job))], job, outcome: "replayed")
    }
  }

  private func reply(_ record: JobRecord) -> Frame {
    Frame(FrameHeader(.record, job: record.id, seq: record.version), payload: ByteBuffer(bytes: record.json()))
  }

  private func output(_ request: OutputRequest) async throws -> [Frame] {
    do {
      let (frames, state) = try await supervisor.output(request)
      return frames + [try Frame(FrameHeader(.outputState, job: request.job), json: state)]
    } catch let fault as RingFault {
      throw Problem(.internalError, "the job's output ring can't be believed: \(fault)")
    }
  }

  /// A mutation's answer, and what the audit line says of it.
  private struct Answered {
    var frames: [Frame]
    var job: JobID
    var outcome: String

    init(_ frames: [Frame], _ job: JobID, outcome: String = "ok") {
      self.frames = frames
      self.job = job
      self.outcome = outcome
    }
  }

  /// Writes exec's own audit line for a mutation, whatever the gateway writes: a gateway taken over can't forge it.
  private func audited(
    _ operation: String, _ caller: Caller, _ connection: FrameConnection, job: JobID? = nil,
    _ body: () async throws -> Answered
  ) async throws -> [Frame] {
    var metadata: Logger.Metadata = [
      "operation": "\(operation)", "caller": "\(ExecServer.printable(caller.name))", "role": "\(caller.role.rawValue)",
      "request_id": "\(ExecServer.printable(caller.requestID))", "peer_pid": "\(connection.peer.pid)",
      "peer_uid": "\(connection.peer.uid)",
    ]
    if let trace = caller.traceparent.flatMap({ TraceContext($0) }) { metadata["traceparent"] = "\(trace)" }
    if let job { metadata["job"] = "\(job)" }
    do {
      let answered = try await body()
      metadata["job"] = "\(answered.job)"
      metadata["outcome"] = "\(answered.outcome)"
      logger.info("audit", metadata: metadata)
      return answered.frames
    } catch {
      metadata["outcome"] = "\((error as? Problem)?.kind.rawValue ?? "error")"
      logger.info("audit", metadata: metadata)
      throw error
    }
  }

  /// What a caller calls itself, safe for a log line.
  static func printable(_ text: String) -> String {
    String(
      String.UnicodeScalarView(text.unicodeScalars.prefix(128).map { $0.value < 0x20 || $0.value == 0x7F ? "?" : $0 }))
  }

  // MARK: Events

  /// The snapshot, `done`, then changes until the peer leaves.
  private func streamEvents(_ connection: FrameConnection) async throws {
    let number = await supervisor.subscribe()
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          // Nothing more may come on this connection; its end is the listener's.
          if let frame = try await connection.next() { throw FrameError.unexpected(frame.header.type) }
        }
        group.addTask {
          let snapshot = await supervisor.takeChanges(number).map(reply)
          let end = SnapshotEnd(completeSince: await supervisor.completeSince)
          try await connection.send(snapshot + [try Frame(FrameHeader(.done), json: end)])
          while true {
            try await connection.send(try await supervisor.changes(number).map(reply))
          }
        }
        defer { group.cancelAll() }
        try await group.next()
      }
    } catch {
      await supervisor.unsubscribe(number)
      throw error
    }
    await supervisor.unsubscribe(number)
  }
}
