import CEvents
import FoundationEssentials
import JobletModel
import JobletWire
import Logging

/// What the link tells its owner, on the loop's thread.
package protocol PersistLinkOwner: AnyObject {
  /// persist has everything of the job.
  func linkSettled(_ job: JobID)
  /// joblet-init sleeps for want of space, and there is some now.
  func linkFreedSpace(_ job: JobID)
  /// The job's ring can't be believed.
  func linkFound(_ fault: RingFault, job: JobID)
  func linkChanged(isConnected: Bool)
  /// Whether persist can take on more jobs.
  func linkCondition(_ condition: StoreCondition)
  /// `ipc.max_reconnects` tries failed in a row.
  func linkGaveUp(_ reason: String)
}

/// exec's end of the write socket. Everything a job tells persist goes through here: no loss while persist is away, for the
/// rings keep what is not acknowledged and the jobs wait when they are full.
///
/// Confined to the loop's thread, as everything of supervision.
package final class PersistLink {
  package struct Settings: Sendable {
    package var socket: String
    package var reconnectDelay: Duration
    /// 0 for ever.
    package var maxReconnects: Int
    package var software: String

    package init(socket: String, reconnectDelay: Duration, maxReconnects: Int, software: String) {
      self.socket = socket
      self.reconnectDelay = reconnectDelay
      self.maxReconnects = maxReconnects
      self.software = software
    }
  }

  private let loop: LoopExecutor
  private let settings: Settings
  private let logger: Logger
  package weak var owner: (any PersistLinkOwner)?

  private var feeds: [JobID: JobFeed] = [:]
  /// Feeds with something to send, each once, in turn: no job starves another.
  private var queue: [JobFeed] = []
  private var socket: PersistSocket?
  private var token: UInt64 = 0
  private let batch = FrameBatch()
  private var isWaitingForRoom = false
  private var failures = 0
  private var retry: LoopTimer?
  /// True once persist said hello.
  package private(set) var isConnected = false

  /// How much of one job goes into a batch before the next one's turn.
  private static let turnBytes = 256 << 10
  /// How many batches go out before other descriptors get their turn.
  private static let turnBatches = 4

  package init(loop: LoopExecutor, settings: Settings, logger: Logger) {
    self.loop = loop
    self.settings = settings
    self.logger = logger
  }

  // MARK: Feeds

  package func add(_ feed: JobFeed) {
    feeds[feed.job] = feed
    wake(feed)
  }

  package func remove(_ job: JobID) {
    guard let feed = feeds.removeValue(forKey: job), feed.isQueued else { return }
    queue.removeAll { $0 === feed }
    feed.isQueued = false
  }

  /// The feed may have something new to send.
  package func wake(_ feed: JobFeed) {
    guard isConnected, !feed.isQueued, feed.hasWork, feeds[feed.job] === feed else { return }
    feed.isQueued = true
    queue.append(feed)
    if !isWaitingForRoom { pump() }
  }

  // MARK: Connection

  package func connect() {
    retry = nil
    do {
      let socket = try PersistSocket(path: settings.socket)
      token = try loop.watch(fd: socket.fd, events: ce_in) { [weak self] events in self?.ready(events) }
      self.socket = socket
      let hello = try JSONEncoder().encode(Hello(software: settings.software))
      batch.add(FrameHeader(.hello), payload: Array(hello))
      pump()
    } catch {
      lost("\(error)")
    }
  }

  private func lost(_ reason: String) {
    if let socket { loop.unwatch(fd: socket.fd, token: token) }
    let wasConnected = isConnected
    socket = nil
    isConnected = false
    isWaitingForRoom = false
    batch.clear()
    for feed in queue { feed.isQueued = false }
    queue.removeAll()
    for feed in feeds.values { feed.rewind() }
    if wasConnected {
      failures = 0
      owner?.linkChanged(isConnected: false)
    }
    if settings.maxReconnects > 0, failures >= settings.maxReconnects {
      owner?.linkGaveUp("persist could not be reached in \(failures) tries: \(reason)")
      return
    }
    let delay = PersistLink.delay(failures: failures, longest: settings.reconnectDelay)
    failures += 1
    // Once loudly; the tries that follow are of interest only to who looks closely.
    logger.log(
      level: failures == 1 ? .warning : .debug,
      "no connection to persist; rings keep the output meanwhile",
      metadata: ["reason": "\(reason)", "next_try_ms": "\(delay.milliseconds)"])
    retry = loop.schedule(after: delay) { [weak self] in self?.connect() }
  }

  /// The first try is at once, then 100 ms, twice as long each time, up to `longest`.
  package static func delay(failures: Int, longest: Duration) -> Duration {
    guard failures > 0 else { return .zero }
    return min(longest, .milliseconds(100 << min(failures - 1, 16)))
  }

  private func ready(_ events: UInt32) {
    guard let socket else { return }
    do {
      if events & ~ce_out != 0 {
        let isOpen = try socket.receive { header, payload in
          // Taking a frame may send, and sending may find the connection gone: what else came on it is nobody's then.
          if self.socket === socket { try take(header, payload) }
        }
        guard self.socket === socket else { return }
        guard isOpen else { return lost("persist closed it") }
      }
      if self.socket === socket, events & ce_out != 0 { pump() }
    } catch {
      if self.socket === socket { lost("\(error)") }
    }
  }

  // MARK: Receiving

  private func take(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) throws {
    switch header.type {
    case .hello:
      let hello = try decode(Hello.self, header, payload)
      guard hello.protocolVersion == Int(FrameHeader.version) else {
        throw FrameError.badPayload(.hello, "persist speaks protocol \(hello.protocolVersion)")
      }
      connected(to: hello.software)
    case .ack:
      guard isConnected, let kind = AckKind(rawValue: header.stream) else { throw FrameError.unexpected(.ack) }
      acknowledge(header.job, kind, header.seq)
    case .condition:
      guard isConnected else { throw FrameError.unexpected(.condition) }
      owner?.linkCondition(try decode(StoreCondition.self, header, payload))
    case .problem:
      throw try decode(Problem.self, header, payload)
    default:
      throw FrameError.unexpected(header.type)
    }
  }

  private func decode<T: Decodable>(
    _ type: T.Type, _ header: FrameHeader, _ payload: UnsafeRawBufferPointer
  ) throws -> T {
    do {
      return try JSONDecoder().decode(type, from: Data(payload))
    } catch {
      throw FrameError.badPayload(header.type, "\(error)")
    }
  }

  private func connected(to software: String) {
    logger.info("connected to persist", metadata: ["peer": "\(software)", "jobs": "\(feeds.count)"])
    failures = 0
    isConnected = true
    owner?.linkChanged(isConnected: true)
    // What the persist before said holds while none is there; this one says its own next.
    owner?.linkCondition(.good)
    for feed in feeds.values where feed.hasWork {
      feed.isQueued = true
      queue.append(feed)
    }
    pump()
  }

  private func acknowledge(_ job: JobID, _ kind: AckKind, _ seq: UInt64) {
    guard let feed = feeds[job] else { return }  // deleted meanwhile
    switch kind {
    case .log:
      do {
        if try feed.consumer?.acknowledge(seq) == true { owner?.linkFreedSpace(job) }
      } catch {
        owner?.linkFound(error, job: job)
      }
    case .record: feed.acknowledgeRecord(seq)
    case .end: feed.acknowledgeEnd()
    case .metric: feed.metrics.acknowledge(seq)
    case .delete: break
    }
    if feed.isSettled {
      owner?.linkSettled(job)
    } else {
      wake(feed)
    }
  }

  // MARK: Sending

  private func pump() {
    guard let socket else { return }
    do {
      for _ in 0..<PersistLink.turnBatches {
        fill()
        guard !batch.isEmpty else { return try waitForRoom(false) }
        guard try batch.flush(to: socket.fd) else { return try waitForRoom(true) }
      }
      try waitForRoom(!queue.isEmpty)
    } catch {
      lost("\(error)")
    }
  }

  private func waitForRoom(_ wait: Bool) throws {
    guard wait != isWaitingForRoom, let socket else { return }
    isWaitingForRoom = wait
    try loop.change(fd: socket.fd, token: token, events: wait ? ce_in | ce_out : ce_in)
  }

  private func fill() {
    guard batch.isEmpty, isConnected else { return }
    while !queue.isEmpty, !batch.isFull {
      let feed = queue.removeFirst()
      feed.isQueued = false
      do {
        try fill(from: feed)
      } catch {
        owner?.linkFound(error, job: feed.job)
        continue
      }
      if feed.hasWork {
        feed.isQueued = true
        queue.append(feed)
      }
    }
  }

  private func fill(from feed: JobFeed) throws(RingFault) {
    addRecordIfDue(feed)
    let limit = batch.bytes + PersistLink.turnBytes
    // Samples before lines: they are few, and lines may come without a pause.
    while !batch.isFull, batch.bytes < limit, let chunk = feed.metrics.nextToSend() {
      batch.add(
        FrameHeader(.metric, job: feed.job, seq: chunk.firstSeq, timestamp: chunk.time, count: chunk.count),
        payload: chunk.lines)
    }
    while !batch.isFull, batch.bytes < limit, let entry = try feed.consumer?.nextToSend(),
      let ring = feed.consumer?.ring
    {
      batch.add(FrameHeader(job: feed.job, chunk: entry.chunk, length: UInt32(entry.length)), entry: entry, of: ring)
    }
    if !batch.isFull, feed.isEndDue, let seq = feed.endSeq {
      batch.add(FrameHeader(.end, job: feed.job, seq: seq))
      feed.noteEndSent()
    }
    addRecordIfDue(feed)
  }

  private func addRecordIfDue(_ feed: JobFeed) {
    guard !batch.isFull, feed.isRecordDue else { return }
    batch.add(FrameHeader(.record, job: feed.job, seq: feed.recordVersion, timestamp: .now()), payload: feed.record)
    feed.noteRecordSent()
  }
}
