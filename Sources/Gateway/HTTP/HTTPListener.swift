import JobletConfig
import JobletModel
import JobletWire
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOHTTPTypesHTTP1
import NIOHTTPTypesHTTP2
import NIOPosix
import NIOSSL
import NIOTLS

/// A listening socket, inherited or our own, and the pipelines of its connections.
struct HTTPListener: Sendable {
  let descriptor: CInt
  /// Nil for plain HTTP/1.1.
  let tls: CurrentTLS?
  let responder: any RequestResponder
  let registry: ConnectionRegistry
  let metrics: GatewayMetrics
  let timeouts: Configuration.Server.Timeouts
  let drain: DrainSignal
  let group: any EventLoopGroup
  let executors: LoopExecutors
  let ledgers: LoopLedgers
  let logger: Logger
  /// For what anybody can cause as often as they like.
  let refusals: LogLimit

  /// Begins to accept.
  /// - Returns: the listening channel; closing it ends the accepting and nothing else.
  func start() async throws -> any Channel {
    let me = self
    return try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 4096)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let cap = ConnectionCap(me.registry, metrics: me.tls == nil ? nil : me.metrics, logger: me.logger)
          try channel.pipeline.syncOperations.addHandlers([
            AcceptFailures(logger: me.logger), AcceptBackoffHandler(shouldForwardIOErrorCaught: false), cap,
          ])
        }
      }
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try me.setUp(channel) }
      }
      .childChannelOption(.socketOption(.so_keepalive), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      .withBoundSocket(descriptor)
      .get()
  }

  private func setUp(_ channel: any Channel) throws {
    let pipeline = channel.pipeline.syncOperations
    guard let tls else {
      let info = ConnectionInfo(version: .http1, peer: nil, remote: remoteName(channel.remoteAddress))
      return try setUpHTTP1(channel, info, LoopLedger.Connection())
    }
    // As it comes, a connection keeps room for the largest batch it ever encrypted; at least it has room for a whole record
    // (32 KiB), of which an answer uses a small part.
    var buffers = NIOSSLServerHandler.Configuration()
    buffers.maximumPreservedOutboundBufferCapacity = 8 << 10
    try pipeline.addHandler(NIOSSLServerHandler(context: tls.context, configuration: buffers))
    try pipeline.addHandler(
      HandshakeGuard(limit: .nanoseconds(timeouts.handshake.nanoseconds), metrics: metrics, log: refusals))
    let me = self
    try pipeline.addHandler(
      ApplicationProtocolNegotiationHandler { result, channel in
        channel.eventLoop.makeCompletedFuture { try me.setUp(channel, negotiated: result) }
      })
  }

  private func setUp(_ channel: any Channel, negotiated: ALPNResult) throws {
    registry.handshakeDone(channel)
    let certificate = try channel.pipeline.syncOperations.nioSSL_peerCertificate()
    var info = ConnectionInfo(
      version: .http1, peer: identity(certificate), remote: remoteName(channel.remoteAddress), tls: tls)
    if case .success(let identity) = info.peer {
      registry.identify(channel, identity)
      // It is told in the answer to its first request, as one without a role is; the journal says it now.
      do { _ = try info.identity() } catch {
        metrics.connectionRefused("certificate")
        refusals.info("a connection from \(info.remote) gets no answers: \(error.detail)")
      }
    }
    // A part of the time to drain in, so that who comes last is asked to go in time, too.
    let welcome = min(TimeAmount.seconds(1), .nanoseconds(timeouts.drain.nanoseconds / 2))
    let share = LoopLedger.Connection()
    try channel.pipeline.syncOperations.addHandler(NewcomerGuard(welcome: welcome) { share.wasServed })
    if case .negotiated("h2") = negotiated {
      info.version = .http2
      try setUpHTTP2(channel, info, share)
    } else {
      try setUpHTTP1(channel, info, share)
    }
    // It came in while others were told to go, and heard nothing of it.
    if drain.isRaised { channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent()) }
  }

  /// The role is read once a connection; a certificate without one is refused in every reply, where its owner can read why.
  private func identity(_ certificate: NIOSSLCertificate?) -> Result<PeerIdentity, Problem> {
    do {
      guard let certificate else { throw Problem(.unauthenticated, "the connection has no client certificate") }
      return .success(try PeerIdentity(der: try certificate.toDERBytes()))
    } catch let problem as Problem {
      return .failure(problem)
    } catch {
      return .failure(Problem(.unauthenticated, "the client certificate can't be read: \(error)"))
    }
  }

  private func exchanges(
    _ info: ConnectionInfo, _ loop: any EventLoop, _ share: LoopLedger.Connection
  ) -> ExchangeHandler {
    ExchangeHandler(
      info: info, responder: responder, executor: executors[loop],
      limits: .init(
        header: .nanoseconds(timeouts.header.nanoseconds), idle: .nanoseconds(timeouts.idle.nanoseconds)),
      drain: drain, ledger: ledgers.ledger(of: loop), share: share)
  }

  private func setUpHTTP1(_ channel: any Channel, _ info: ConnectionInfo, _ share: LoopLedger.Connection) throws {
    let pipeline = channel.pipeline.syncOperations
    let exchanges = exchanges(info, channel.eventLoop, share)
    try pipeline.addHandler(HTTP1ByteWatch(exchanges))
    // Pipelining assistance keeps requests in order: the next one is handed on when the last one's response has ended.
    // The decoder's own bound on a head is 2 MiB: too much for whoever can open connections to the health listener.
    var head = NIOHTTPDecoderLimitConfiguration()
    head.maxHeaderFieldSize = 16 << 10
    head.maxHeaderListSize = 32 << 10
    head.maxHeaderFieldCount = 100
    try pipeline.configureHTTPServerPipeline(
      withPipeliningAssistance: true, withErrorHandling: false, withEncoderConfiguration: .init(),
      withDecoderLimitConfiguration: head)
    try pipeline.addHandler(HTTP1Facts(exchanges))
    try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: tls != nil))
    try pipeline.addHandler(exchanges)
  }

  /// What one connection may have of everything; floods beyond it end it with ENHANCE_YOUR_CALM.
  private static let connectionSettings = {
    var settings = NIOHTTP2Handler.ConnectionConfiguration()
    settings.initialSettings = [
      HTTP2Setting(parameter: .maxConcurrentStreams, value: 100),
      HTTP2Setting(parameter: .maxHeaderListSize, value: 32 << 10),
    ]
    settings.maximumBufferedControlFrames = 1000
    return settings
  }()

  private static let streamSettings = {
    var settings = NIOHTTP2Handler.StreamConfiguration()
    // A proxy's one connection carries many clients, and each that leaves early is an RST_STREAM; a flood has thousands a second.
    settings.streamResetFrameRateLimit.maximumCount = 1000
    return settings
  }()

  private static let pingInterval = TimeAmount.seconds(60)
  private static let pingTimeout = TimeAmount.seconds(20)
  /// The library asks a peer to go whose answer is late, be it on its way through a slow line; the guard looks closer.
  private static let libraryTimeout = TimeAmount.hours(24)
  /// A peer that was asked to go has so long to answer, or as long as it may be idle.
  private static let grace = TimeAmount.seconds(10)

  private func setUpHTTP2(_ channel: any Channel, _ info: ConnectionInfo, _ share: LoopLedger.Connection) throws {
    let me = self
    let idle = TimeAmount.nanoseconds(timeouts.idle.nanoseconds)
    let manager = NIOHTTP2ServerConnectionManagementHandler(
      eventLoop: channel.eventLoop,
      configuration: .init(
        maxIdleTime: idle, maxAge: nil, maxGraceTime: .nanoseconds(timeouts.drain.nanoseconds),
        keepalive: .init(pingInterval: HTTPListener.pingInterval, ackTimeout: HTTPListener.libraryTimeout)))
    let watch = HTTP2Guard(
      .init(
        silence: HTTPListener.pingInterval + HTTPListener.pingTimeout + HTTPListener.grace,
        idle: idle + min(idle, HTTPListener.grace)))
    let pipeline = channel.pipeline.syncOperations
    try pipeline.addHandler(watch)
    let share = NIOLoopBound(share, eventLoop: channel.eventLoop)
    _ = try pipeline.configureHTTP2Pipeline(
      mode: .server, connectionConfiguration: HTTPListener.connectionSettings,
      streamConfiguration: HTTPListener.streamSettings,
      streamDelegate: HTTP2Guard.Streams(
        watch: NIOLoopBound(watch, eventLoop: channel.eventLoop), manager: manager.http2StreamDelegate)
    ) { stream in
      stream.eventLoop.makeCompletedFuture {
        try stream.pipeline.syncOperations.addHandlers([
          EndStreamMerger(), HTTP2FramePayloadToHTTPServerCodec(),
          me.exchanges(info, stream.eventLoop, share.value),
        ])
      }
    }
    try pipeline.addHandler(manager)
    try pipeline.addHandler(HTTP2Errors(metrics: metrics, log: refusals))
    // The connection became active before it was known to speak HTTP/2; the manager's clocks start with that event.
    manager.channelActive(context: try pipeline.context(handler: manager))
  }
}
