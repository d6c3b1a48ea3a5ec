import FoundationEssentials
import JobletModel
import NIOCore

/// A frame with its payload.
public struct Frame: Sendable {
  public var header: FrameHeader
  public var payload: ByteBuffer

  public init(_ header: FrameHeader, payload: ByteBuffer = ByteBuffer()) {
    self.header = header
    self.payload = payload
    self.header.length = UInt32(payload.readableBytes)
  }

  /// A control frame: JSON of a type of the shared model.
  public init(_ header: FrameHeader, json value: some Encodable) throws {
    self.init(header, payload: ByteBuffer(bytes: try JSONEncoder().encode(value)))
  }

  /// The payload read as JSON.
  /// - Throws: ``FrameError/badPayload(_:_:)``, or a ``JobletModel/ValidationError`` of the type itself.
  public func decode<T: Decodable>(_ type: T.Type = T.self) throws -> T {
    do {
      return try JSONDecoder().decode(type, from: Data(payload.readableBytesView))
    } catch let error as ValidationError {
      throw error
    } catch {
      throw FrameError.badPayload(header.type, "\(error)")
    }
  }
}

/// Who is at the other end of a unix socket: SO_PEERCRED (unix(7)), taken by the kernel when it connected.
public struct PeerCredentials: Sendable, Hashable {
  public var pid: Int32
  public var uid: UInt32
  public var gid: UInt32
}

/// One connection that speaks frames. Sending waits until the bytes are with the kernel, so a slow peer slows its sender
/// and costs no memory; receiving reads from the socket only as frames are taken.
public struct FrameConnection: Sendable {
  let channel: any Channel
  let inbound: FrameInbox
  /// Who connected. Known on the accepting side only: the kernel has no answer before a client's socket is connected.
  public let peer: PeerCredentials

  /// Sends one frame.
  /// - Throws: when the peer is gone.
  public func send(_ frame: Frame) async throws {
    try await send([frame])
  }

  /// Sends frames with one write to the socket. In a cancelled task a peer that reads still gets them (it may be the answer
  /// it waits for while this side stops); one that does not keeps its sender no longer than a moment: then the connection is
  /// closed, because half a frame may have left.
  public func send(_ frames: [Frame]) async throws {
    let promise = channel.eventLoop.makePromise(of: Void.self)
    try await withTaskCancellationHandler {
      channel.writeAndFlush(FrameBatch(frames: frames), promise: promise)
      try await promise.futureResult.get()
    } onCancel: {
      let end = channel.eventLoop.scheduleTask(in: .seconds(1)) { channel.close(promise: nil) }
      promise.futureResult.whenComplete { _ in end.cancel() }
    }
  }

  /// The next frame, or nil when the peer closed the connection between two frames. One caller at a time.
  /// - Throws: ``FrameError`` for bytes that are no frame; the connection is closed then.
  public func next() async throws -> Frame? {
    try await inbound.next(on: channel)
  }

  /// The next frame, which must be there.
  /// - Throws: ``FrameError/truncated`` at the connection's end; the peer's ``JobletModel/Problem`` if it sent one.
  public func reply() async throws -> Frame {
    guard let frame = try await next() else { throw FrameError.truncated }
    if frame.header.type == .problem { throw try frame.decode(Problem.self) }
    return frame
  }

  /// Sends a request and takes one reply.
  public func request(_ frame: Frame) async throws -> Frame {
    try await send(frame)
    return try await reply()
  }

  /// False when the peer is known to be gone.
  public var isOpen: Bool { channel.isActive }

  public func close() async {
    // A connection that is closed already is what was asked for.
    do { try await channel.close() } catch {}
  }
}
