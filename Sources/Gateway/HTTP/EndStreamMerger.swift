import NIOCore
import NIOHTTP2

/// Puts END_STREAM on the last frame that says something, instead of on an empty DATA frame after it.
///
/// The codec above writes head, body and end as three frames. An empty last frame costs a TLS record, and it makes clients that
/// count a body's bytes (curl 7.88) finish before the stream does: they then reset a stream that is over, once a request, and
/// after some hundred of those a server must take them for a rapid-reset attack. So the last frame is held until the next part
/// or the flush; when the end follows at once, they leave as one (RFC 9113, section 8.1).
final class EndStreamMerger: ChannelOutboundHandler {
  typealias OutboundIn = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private var held: (frame: HTTP2Frame.FramePayload, promise: EventLoopPromise<Void>?)?

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    let frame = unwrapOutboundIn(data)
    if let last = held, frame.isBareEnd, let merged = last.frame.ended {
      held = nil
      if let first = last.promise { promise?.futureResult.cascade(to: first) }
      context.write(wrapOutboundOut(merged), promise: promise ?? last.promise)
      return
    }
    release(context)
    if frame.ended == nil {
      context.write(data, promise: promise)
    } else {
      held = (frame, promise)
    }
  }

  func flush(context: ChannelHandlerContext) {
    release(context)
    context.flush()
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    release(context)
    context.close(mode: mode, promise: promise)
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    held?.promise?.fail(ChannelError.ioOnClosedChannel)
    held = nil
  }

  private func release(_ context: ChannelHandlerContext) {
    guard let last = held else { return }
    held = nil
    context.write(wrapOutboundOut(last.frame), promise: last.promise)
  }
}

extension HTTP2Frame.FramePayload {
  /// An empty DATA frame that ends the stream.
  fileprivate var isBareEnd: Bool {
    if case .data(let data) = self { data.endStream && data.data.readableBytes == 0 } else { false }
  }

  /// The frame with END_STREAM; nil for one that has it or can't have it.
  fileprivate var ended: HTTP2Frame.FramePayload? {
    switch self {
    case .data(var data) where !data.endStream:
      data.endStream = true
      return .data(data)
    case .headers(var headers) where !headers.endStream:
      headers.endStream = true
      return .headers(headers)
    default: return nil
    }
  }
}
