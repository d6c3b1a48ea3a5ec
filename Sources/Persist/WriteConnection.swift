import CGNU
import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LogStore
import Logging
import Synchronization

/// One connection of a writer (exec): a thread of its own reads into one buffer, and frames are used where they lie.
///
/// What the peer sends is bounded by that buffer: it grows only as far as one frame needs, as its bytes come, and the
/// thread reads on only when a batch is taken in.
final class WriteConnection: FrameSender {
  private let descriptor: CInt
  private let intake: Intake
  private let maxPayload: Int
  private let peer: String
  private let logger: Logger

  private static let bufferSize = 1 << 20
  /// Milliseconds after which an idle connection looks whether there is something to tell its peer.
  private static let tellInterval: CInt = 1000

  /// - Parameter descriptor: a connected blocking socket, which the connection closes.
  init(_ descriptor: CInt, intake: Intake, maxPayload: Int, peer: String, logger: Logger) {
    self.descriptor = descriptor
    self.intake = intake
    self.maxPayload = maxPayload
    self.peer = peer
    self.logger = logger
  }

  deinit { close(descriptor) }

  /// No more is read from the peer; what has come is still taken in. From any thread.
  func stop() { shutdown(descriptor, CInt(SHUT_RD)) }

  /// Tells the peer why it is not served. It may be gone already, and waiting for it is not worth a thread.
  func refuse(_ problem: Problem) {
    do {
      let frame = try WriteConnection.frame(.problem, problem)
      _ = frame.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL) | CInt(MSG_DONTWAIT))
      }
    } catch {
      logger.error("can't tell \(peer) why it is refused: \(error)")
    }
  }

  func askAgain(for job: JobID) {
    logger.notice("job \(job) can be stored again: \(peer) is asked to send what was not acknowledged")
    stop()
  }

  /// The connection's life.
  func run() {
    intake.statistics.connections.wrappingAdd(1, ordering: .relaxed)
    defer { intake.statistics.connections.wrappingSubtract(1, ordering: .relaxed) }
    do {
      try serve()
      logger.info("the write connection of \(peer) is closed")
    } catch PersistError.stopping {
      // Nothing more to say.
    } catch {
      logger.error("closed the write connection of \(peer): \(error)")
    }
    shutdown(descriptor, CInt(SHUT_RDWR))
  }

  private func serve() throws {
    var buffer = ReceiveBuffer(capacity: WriteConnection.bufferSize)
    var acks = PendingAcks()
    var hasHello = false
    // The version of the condition that the peer was told of last.
    var told: UInt64 = 0
    while true {
      // Once the bytes were looked at, those that make no whole frame yet stay in the buffer.
      let consumed: Int
      do {
        consumed = try take(buffer.bytes, &hasHello, &acks)
      } catch {
        // What is safe is told before the connection goes, if the peer is still there to hear it; the reason why it goes
        // is the error that counts.
        do { try flush(&acks, patience: 1000) } catch {}
        throw error
      }
      buffer.consume(consumed)
      if hasHello { try tellCondition(&told, &acks) }
      try buffer.makeRoom(maxFrame: FrameHeader.byteCount + maxPayload)
      try flush(&acks, patience: 0)
      guard let count = try receive(buffer.free, sending: &acks) else { continue }
      if count == 0 {
        guard buffer.bytes.isEmpty else { throw FrameError.truncated }
        return
      }
      buffer.fill(count)
    }
  }

  /// Handles all whole frames. Answers how many bytes they took.
  private func take(_ bytes: UnsafeRawBufferPointer, _ hasHello: inout Bool, _ acks: inout PendingAcks) throws -> Int {
    var frames: [ReceivedFrame] = []
    var position = 0
    var fault: (any Error)?
    do {
      while let frame = try next(UnsafeRawBufferPointer(rebasing: bytes[position...])) {
        position += frame.bytes.count
        if !hasHello {
          try greet(frame)
          hasHello = true
        } else if frame.header.type == .delete {
          try finish(frames, &acks)
          frames = []
          try delete(frame.header.job)
          acks.add([Ack(kind: .delete, job: frame.header.job, seq: 0)])
        } else {
          frames.append(try checked(frame))
        }
      }
    } catch {
      fault = error  // what came whole before it is taken in first
    }
    try finish(frames, &acks)
    if let fault { throw fault }
    return position
  }

  private func next(_ bytes: UnsafeRawBufferPointer) throws -> ReceivedFrame? {
    guard let header = try FrameHeader.decode(bytes, maxPayload: maxPayload) else { return nil }
    let length = FrameHeader.byteCount + Int(header.length)
    guard bytes.count >= length else { return nil }
    return ReceivedFrame(header: header, bytes: UnsafeRawBufferPointer(rebasing: bytes[..<length]))
  }

  private func greet(_ frame: ReceivedFrame) throws {
    guard frame.header.type == .hello else { throw FrameError.unexpected(frame.header.type) }
    let hello = try frame.decode(Hello.self)
    guard hello.protocolVersion == Int(FrameHeader.version) else {
      throw PersistError.protocolViolation(
        "it speaks protocol version \(hello.protocolVersion); this side speaks \(FrameHeader.version)")
    }
    logger.info("a writer connected: \(hello.software) (\(peer))")
    let answer = Hello(software: "joblet-persist \(jobletVersion) pid \(getpid())")
    try send(try WriteConnection.frame(.hello, answer))
  }

  /// Looks at what a frame says of itself before anyone relies on it.
  private func checked(_ frame: ReceivedFrame) throws -> ReceivedFrame {
    guard frame.header.job != .none else {
      throw PersistError.protocolViolation("a frame of type '\(frame.header.type)' names no job")
    }
    var frame = frame
    switch frame.header.type {
    case .log, .metric: frame.chunk = try StoredChunkInfo(checking: frame)
    case .end: break
    case .record:
      let record = try frame.decode(JobRecord.self)
      guard record.id == frame.header.job, record.version == frame.header.seq else {
        throw FrameError.badPayload(.record, "its job or version is not the header's")
      }
      frame.record = ReceivedFrame.Record(record)
    default: throw FrameError.unexpected(frame.header.type)
    }
    return frame
  }

  private func finish(_ frames: [ReceivedFrame], _ pending: inout PendingAcks) throws {
    guard !frames.isEmpty else { return }
    let (acks, fault) = try intake.accept(frames, from: self)
    pending.add(acks)
    if let fault { throw fault }
  }

  private func delete(_ job: JobID) throws {
    do {
      try intake.remove(job)
    } catch let problem as Problem where problem.kind == .notFound {
      // It is gone: what was asked for.
    }
  }

  /// Sends acknowledgements as far as the peer takes them. A peer that does not read them must not stop the reading of
  /// what it sends, or both would wait for each other.
  /// - Parameter patience: milliseconds to wait for a peer whose buffer is full.
  private func flush(_ acks: inout PendingAcks, patience: CInt) throws {
    while !acks.isEmpty {
      let count = acks.withBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL) | CInt(MSG_DONTWAIT))
      }
      if count >= 0 {
        acks.consume(count)
      } else if errno == EAGAIN {
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard patience > 0, poll(&wait, 1, patience) > 0 else { return }
      } else if errno != EINTR {
        throw PersistError.system(call: "send", path: peer, errno: errno)
      }
    }
  }

  private func send(_ bytes: [UInt8]) throws {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress.map { $0 + done }, bytes.count - done, CInt(MSG_NOSIGNAL))
      }
      if count >= 0 {
        done += count
      } else if errno != EINTR {
        throw PersistError.system(call: "send", path: peer, errno: errno)
      }
    }
  }

  /// Waits for bytes, sending what acknowledgements are left as the peer takes them.
  /// - Returns: nil now and then when nothing comes, so that the peer can be told what it did not ask for.
  private func receive(_ free: UnsafeMutableRawBufferPointer, sending acks: inout PendingAcks) throws -> Int? {
    while true {
      let count = recv(descriptor, free.baseAddress, free.count, CInt(MSG_DONTWAIT))
      if count >= 0 { return count }
      switch errno {
      case ECONNRESET: return 0
      case EINTR: continue
      case EAGAIN: break
      default: throw PersistError.system(call: "recv", path: peer, errno: errno)
      }
      var wait = pollfd(fd: descriptor, events: Int16(acks.isEmpty ? POLLIN : POLLIN | POLLOUT), revents: 0)
      let ready = poll(&wait, 1, WriteConnection.tellInterval)
      if ready == 0 { return nil }
      if ready > 0, wait.revents & Int16(POLLOUT) != 0 { try flush(&acks, patience: 0) }
    }
  }

  /// Puts the store's condition behind the acknowledgements if the peer does not know it yet.
  private func tellCondition(_ told: inout UInt64, _ acks: inout PendingAcks) throws {
    let version = intake.board.version
    guard version != told else { return }
    // Read after its version: should it change between the two, it is told once more.
    acks.set(condition: try WriteConnection.frame(.condition, intake.board.condition))
    told = version
  }

  private static func frame(_ type: FrameType, _ value: some Encodable) throws -> [UInt8] {
    let payload = try JSONEncoder().encode(value)
    var bytes = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes { FrameHeader(type, length: UInt32(payload.count)).encode(into: $0) }
    return bytes + payload
  }
}

extension ReceivedFrame {
  /// The payload read as JSON.
  func decode<Value: Decodable>(_ type: Value.Type) throws(FrameError) -> Value {
    do {
      return try JSONDecoder().decode(type, from: Data(payload))
    } catch {
      throw .badPayload(header.type, "\(error)")
    }
  }
}

/// The memory a connection reads into.
struct ReceiveBuffer: ~Copyable {
  private var memory: UnsafeMutableRawBufferPointer
  private var start = 0
  private var end = 0
  private let usual: Int

  init(capacity: Int) {
    usual = capacity
    memory = .allocate(byteCount: capacity, alignment: 16)
  }

  deinit { memory.deallocate() }

  /// What came and was not consumed.
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[start..<end]) }
  /// Where more goes.
  var free: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(rebasing: memory[end...]) }

  mutating func consume(_ count: Int) { start += count }
  mutating func fill(_ count: Int) { end += count }

  /// Sees to it that ``free`` is not empty: moves what is left to the front; grows only when a frame fills all of it, and
  /// shrinks again behind it.
  mutating func makeRoom(maxFrame: Int) throws {
    let left = end - start
    if left == 0, memory.count > usual {
      memory.deallocate()
      memory = .allocate(byteCount: usual, alignment: 16)
    } else if left == memory.count {
      let larger = UnsafeMutableRawBufferPointer.allocate(
        byteCount: min(memory.count * 2, max(maxFrame, memory.count + 1)), alignment: 16)
      larger.copyMemory(from: bytes)
      memory.deallocate()
      memory = larger
    } else if left > 0, let base = memory.baseAddress {
      memmove(base, base + start, left)
    }
    (start, end) = (0, left)
  }
}
