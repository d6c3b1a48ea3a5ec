import NIOCore
import NIOHTTP2

/// Ends HTTP/2 connections that the library's own manager would leave open: it asks a peer to go (GOAWAY) and waits for an
/// answer, so one that never answers would keep its place for ever.
///
/// - a peer that sends nothing at all, not even answers to PING, is gone or deaf, unless it still takes what is queued for it: a
///   PING's answer waits behind that, and on a slow line for minutes (``SendQueue``);
/// - a connection without a stream is closed when it is idle for too long, whatever bytes drip in: half a preface, a head that
///   never ends;
/// - one that broke the protocol or floods (RST_STREAM, CONTINUATION, control frames: RFC 9113, section 10.5) was told GOAWAY,
///   and is closed then.
final class HTTP2Guard: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  struct Limits: Sendable {
    /// Without a byte from the peer.
    var silence: TimeAmount
    /// Without a stream.
    var idle: TimeAmount

    /// How often to look: often enough for the shorter of the two.
    fileprivate var pause: TimeAmount { .nanoseconds(max(min(silence.nanoseconds, idle.nanoseconds) / 4, 1_000_000)) }
  }

  private let limits: Limits
  private var lastByte = NIODeadline.now()
  private var lastStream = NIODeadline.now()
  private var openStreams = 0
  private var timer: RepeatedTask?

  init(_ limits: Limits) { self.limits = limits }

  func handlerAdded(context: ChannelHandlerContext) {
    lastByte = .now()
    lastStream = .now()
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleRepeatedTask(initialDelay: limits.pause, delay: limits.pause) { _ in
      let (me, context) = bound.value
      me.look(context)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    timer?.cancel()
    timer = nil
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    lastByte = .now()
    context.fireChannelRead(data)
  }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    timer = nil
    context.fireChannelInactive()
  }

  private func look(_ context: ChannelHandlerContext) {
    let now = NIODeadline.now()
    if openStreams == 0, now - lastStream > limits.idle { return close(context) }
    guard now - lastByte > limits.silence else { return }
    guard let queue = SendQueue.of(context.channel) else { return close(context) }
    let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    let silence = limits.silence
    queue.whenComplete { queue in
      let (me, context) = bound.value
      if case .success(let queue) = queue, queue.isMoving(within: silence) { return }
      me.close(context)
    }
  }

  private func close(_ context: ChannelHandlerContext) {
    timer?.cancel()
    context.close(promise: nil)
  }

  /// Counts streams for the guard, and tells the library's manager of them.
  struct Streams: NIOHTTP2StreamDelegate {
    let watch: NIOLoopBound<HTTP2Guard>
    let manager: NIOHTTP2ServerConnectionManagementHandler.HTTP2StreamDelegate

    func streamCreated(_ id: HTTP2StreamID, channel: any Channel) {
      if channel.eventLoop.inEventLoop { watch.value.openStreams += 1 }
      manager.streamCreated(id, channel: channel)
    }

    func streamClosed(_ id: HTTP2StreamID, channel: any Channel) {
      if channel.eventLoop.inEventLoop {
        watch.value.openStreams -= 1
        watch.value.lastStream = .now()
      }
      manager.streamClosed(id, channel: channel)
    }
  }
}

/// Stands at the end of an HTTP/2 connection's pipeline: closes it after an error that concerns all of it.
final class HTTP2Errors: ChannelInboundHandler {
  typealias InboundIn = NIOAny

  private let metrics: GatewayMetrics
  private let log: LogLimit
  /// The goodbye of TLS takes a moment, and the flood goes on meanwhile.
  private var isClosing = false

  init(metrics: GatewayMetrics, log: LogLimit) {
    self.metrics = metrics
    self.log = log
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // Anything else was one stream's, which was reset, or the socket's, which is closed.
    guard !isClosing, let reason = HTTP2Errors.reason(error) else { return }
    isClosing = true
    metrics.connectionClosed(reason)
    log.info("closed the connection from \(remoteName(context.channel.remoteAddress)): \(error)")
    context.close(promise: nil)
  }

  /// For `joblet_api_closed_connections_total`; nil for errors of a stream.
  private static func reason(_ error: any Error) -> String? {
    switch error {
    case is NIOHTTP2Errors.ExcessiveRSTFrames, is NIOHTTP2Errors.ExcessiveControlFrames,
      is NIOHTTP2Errors.ExcessiveContinuationFrames, is NIOHTTP2Errors.ExcessiveEmptyDataFrames,
      is NIOHTTP2Errors.ExcessiveStreamErrors, is NIOHTTP2Errors.ExcessiveNumberOfGlitches,
      is NIOHTTP2Errors.ExcessiveOutboundFrameBuffering, is NIOHTTP2Errors.ExcessivelyLargeHeaderBlock:
      "flood"
    case is NIOHTTP2Errors.BadClientMagic, is NIOHTTP2Errors.MissingPreface, is NIOHTTP2Errors.UnableToParseFrame,
      is NIOHTTP2Errors.InvalidStreamIDForPeer, is NIOHTTP2Errors.StreamIDTooSmall,
      is NIOHTTP2Errors.MaxStreamsViolation, is NIOHTTP2Errors.ReceivedBadSettings, is NIOHTTP2Errors.InvalidSetting,
      is NIOHTTP2Errors.PriorityCycle, is NIOHTTP2Errors.CreatedStreamAfterGoaway:
      "protocol_error"
    default: nil
    }
  }
}
