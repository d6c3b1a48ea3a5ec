import JobletModel
import Logging
import NIOCore
import NIOSSL
import NIOTLS

/// Watches a connection until its TLS handshake is done: closes it when that takes too long, and says why when it fails.
/// Without it a client that connects and says nothing keeps its place for ever.
final class HandshakeGuard: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = NIOAny

  private let limit: TimeAmount
  private let metrics: GatewayMetrics
  private let log: LogLimit
  private var timer: Scheduled<Void>?
  private var isDone = false

  init(limit: TimeAmount, metrics: GatewayMetrics, log: LogLimit) {
    self.limit = limit
    self.metrics = metrics
    self.log = log
  }

  func handlerAdded(context: ChannelHandlerContext) {
    let channel = context.channel
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: limit) {
      bound.value.refuse("handshake_timeout", "the TLS handshake was not done in time", channel.remoteAddress)
      channel.close(promise: nil)
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted = event as? TLSUserEvent {
      isDone = true
      timer?.cancel()
    }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isDone else { return context.fireErrorCaught(error) }
    refuse("handshake_failed", "the TLS handshake failed: \(error)", context.channel.remoteAddress)
    context.close(promise: nil)
  }

  private func refuse(_ reason: String, _ why: String, _ from: SocketAddress?) {
    guard !isDone else { return }
    isDone = true
    timer?.cancel()
    metrics.connectionRefused(reason)
    log.info("refused a connection from \(remoteName(from)): \(why)")
  }
}

/// Stands in the listening socket's pipeline: no more connections than `server.max_connections`.
final class ConnectionCap: ChannelInboundHandler {
  typealias InboundIn = any Channel
  typealias InboundOut = any Channel

  private let registry: ConnectionRegistry
  private let metrics: GatewayMetrics?
  private let logger: Logger
  private var lastWarning: NIODeadline?

  init(_ registry: ConnectionRegistry, metrics: GatewayMetrics?, logger: Logger) {
    self.registry = registry
    self.metrics = metrics
    self.logger = logger
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let channel = unwrapInboundIn(data)
    if registry.enter(channel) { return context.fireChannelRead(data) }
    // Closed before TLS: a handshake for the sake of a polite answer is what a flood wants.
    metrics?.connectionRefused("too_many_connections")
    let now = NIODeadline.now()
    if lastWarning.map({ now - $0 > .seconds(10) }) ?? true {
      lastWarning = now
      logger.warning("refused a connection: \(registry.count) are open, which is server.max_connections")
    }
    channel.close(promise: nil)
  }
}

/// `192.0.2.1:4711`, for logs.
func remoteName(_ address: SocketAddress?) -> String {
  guard let address else { return "unknown" }
  guard let ip = address.ipAddress, let port = address.port else { return address.pathname ?? "unknown" }
  return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
}
