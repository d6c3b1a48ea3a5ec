import JobletModel
import NIOCore

/// Frames written together, with one promise for the last of their bytes.
struct FrameBatch: Sendable {
  var frames: [Frame]
}

/// Turns a channel's bytes into frames and back. It reads from the socket only while somebody waits for a frame, so a peer
/// that sends faster than it is listened to waits in the kernel, not in memory.
final class FrameHandler: ChannelDuplexHandler {
  typealias InboundIn = ByteBuffer
  typealias OutboundIn = FrameBatch
  typealias OutboundOut = ByteBuffer

  private let maxPayload: Int
  private var context: ChannelHandlerContext?
  private var buffer = ByteBuffer()
  private var ready = CircularBuffer<Frame>()
  private var waiting: EventLoopPromise<Frame?>?
  private var end: End?

  private enum End {
    case closed
    case failed(any Error)
  }

  init(maxPayload: Int) { self.maxPayload = maxPayload }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.closed)
    self.context = nil
  }

  /// Hands the next frame to `promise`, now or when it comes.
  func take(_ promise: EventLoopPromise<Frame?>) {
    precondition(waiting == nil, "one caller at a time takes frames from a connection")
    if let frame = ready.popFirst() {
      promise.succeed(frame)
    } else if let end {
      switch end {
      case .closed: promise.succeed(nil)
      case .failed(let error): promise.fail(error)
      }
    } else {
      waiting = promise
      context?.read()
    }
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    if buffer.readableBytes == 0 {
      buffer = bytes
    } else {
      buffer.discardReadBytes()
      buffer.writeBuffer(&bytes)
    }
    do {
      while let frame = try nextFrame() { ready.append(frame) }
      // An idle connection keeps no memory that was read into; a thousand would.
      if buffer.readableBytes == 0 { buffer = ByteBuffer() }
    } catch {
      finish(.failed(error))
      context.close(promise: nil)
    }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    guard let promise = waiting else { return }
    if let frame = ready.popFirst() {
      waiting = nil
      promise.succeed(frame)
    } else if end == nil {
      context.read()
    }
  }

  private func nextFrame() throws(FrameError) -> Frame? {
    let header: FrameHeader?
    do {
      header = try buffer.withUnsafeReadableBytes { try FrameHeader.decode($0, maxPayload: maxPayload) }
    } catch let error as FrameError {
      throw error
    } catch {
      throw .truncated  // decode throws nothing else
    }
    guard let header, buffer.readableBytes >= FrameHeader.byteCount + Int(header.length) else { return nil }
    buffer.moveReaderIndex(forwardBy: FrameHeader.byteCount)
    guard let payload = buffer.readSlice(length: Int(header.length)) else { return nil }
    return Frame(header, payload: payload)
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(buffer.readableBytes == 0 ? .closed : .failed(FrameError.truncated))
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(.failed(error))
    context.close(promise: nil)
  }

  private func finish(_ end: End) {
    guard self.end == nil else { return }
    self.end = end
    guard let promise = waiting else { return }
    waiting = nil
    take(promise)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let frames = unwrapOutboundIn(data).frames
    guard !frames.isEmpty else {
      promise?.succeed()
      return
    }
    for (index, frame) in frames.enumerated() {
      let isLast = index == frames.count - 1
      var head = context.channel.allocator.buffer(capacity: FrameHeader.byteCount)
      head.writeWithUnsafeMutableBytes(minimumWritableBytes: FrameHeader.byteCount) {
        frame.header.encode(into: $0)
        return FrameHeader.byteCount
      }
      if frame.payload.readableBytes == 0 {
        context.write(wrapOutboundOut(head), promise: isLast ? promise : nil)
      } else {
        context.write(wrapOutboundOut(head), promise: nil)
        context.write(wrapOutboundOut(frame.payload), promise: isLast ? promise : nil)
      }
    }
  }
}

/// The way from a task to a connection's ``FrameHandler``.
struct FrameInbox: Sendable {
  let handler: NIOLoopBound<FrameHandler>

  func next(on channel: any Channel) async throws -> Frame? {
    try await withTaskCancellationHandler {
      let promise = channel.eventLoop.makePromise(of: Frame?.self)
      channel.eventLoop.execute { handler.value.take(promise) }
      return try await promise.futureResult.get()
    } onCancel: {
      channel.close(promise: nil)
    }
  }
}

extension FrameConnection {
  /// Makes a channel speak frames.
  static func wrap(_ channel: any Channel, maxPayload: Int) -> EventLoopFuture<FrameConnection> {
    channel.eventLoop.makeCompletedFuture {
      let handler = FrameHandler(maxPayload: maxPayload)
      try channel.pipeline.syncOperations.addHandler(handler)
      return FrameInbox(handler: NIOLoopBound(handler, eventLoop: channel.eventLoop))
    }.flatMap { inbox in
      channel.peerCredentials.map { FrameConnection(channel: channel, inbound: inbox, peer: $0) }
    }
  }
}

extension Channel {
  /// SO_PEERCRED of a unix socket. `struct ucred` (three 32-bit integers, unix(7)) is hidden from Swift, so it is mirrored
  /// by ``PeerCredentials``, which has the same layout.
  fileprivate var peerCredentials: EventLoopFuture<PeerCredentials> {
    guard let provider = self as? any SocketOptionProvider else {
      return eventLoop.makeFailedFuture(FrameError.truncated)
    }
    return provider.unsafeGetSocketOption(level: .socket, name: .init(rawValue: 17))  // SO_PEERCRED
  }
}
