import JobletConfig
import JobletModel
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
  let logger: Logger

  /// Begins to accept.
  /// - Returns: the listening channel; closing it ends the accepting and nothing else.
  func start() async throws -> any Channel {
    let me = self
    return try await ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 4096)
      .serverChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let cap = ConnectionCap(me.registry, metrics: me.tls == nil ? nil : me.metrics, logger: me.logger)
          try channel.pipeline.syncOperations.addHandler(cap)
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
      return try setUpHTTP1(channel, info)
    }
    try pipeline.addHandler(NIOSSLServerHandler(context: tls.context))
    try pipeline.addHandler(
      HandshakeGuard(limit: .nanoseconds(timeouts.handshake.nanoseconds), metrics: metrics, logger: logger))
    let me = self
    try pipeline.addHandler(
      ApplicationProtocolNegotiationHandler { result, channel in
        channel.eventLoop.makeCompletedFuture { try me.setUp(channel, negotiated: result) }
      })
  }

  private func setUp(_ channel: any Channel, negotiated: ALPNResult) throws {
    let certificate = try channel.pipeline.syncOperations.nioSSL_peerCertificate()
    var info = ConnectionInfo(
      version: .http1, peer: identity(certificate), remote: remoteName(channel.remoteAddress))
    guard case .negotiated("h2") = negotiated else { return try setUpHTTP1(channel, info) }
    info.version = .http2
    try setUpHTTP2(channel, info)
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

  private func exchanges(_ info: ConnectionInfo, _ loop: any EventLoop) -> ExchangeHandler {
    ExchangeHandler(
      info: info, responder: responder, executor: executors[loop],
      limits: .init(
        header: .nanoseconds(timeouts.header.nanoseconds), idle: .nanoseconds(timeouts.idle.nanoseconds)),
      drain: drain)
  }

  private func setUpHTTP1(_ channel: any Channel, _ info: ConnectionInfo) throws {
    let pipeline = channel.pipeline.syncOperations
    let exchanges = exchanges(info, channel.eventLoop)
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

  private func setUpHTTP2(_ channel: any Channel, _ info: ConnectionInfo) throws {
    let me = self
    let manager = NIOHTTP2ServerConnectionManagementHandler(
      eventLoop: channel.eventLoop,
      configuration: .init(
        maxIdleTime: .nanoseconds(timeouts.idle.nanoseconds), maxAge: nil,
        maxGraceTime: .nanoseconds(timeouts.drain.nanoseconds),
        keepalive: .init(pingInterval: .seconds(60), ackTimeout: .seconds(20))))
    _ = try channel.pipeline.syncOperations.configureHTTP2Pipeline(
      mode: .server, connectionConfiguration: .init(), streamConfiguration: .init(),
      streamDelegate: manager.http2StreamDelegate
    ) { stream in
      stream.eventLoop.makeCompletedFuture {
        try stream.pipeline.syncOperations.addHandler(HTTP2FramePayloadToHTTPServerCodec())
        try stream.pipeline.syncOperations.addHandler(me.exchanges(info, stream.eventLoop))
      }
    }
    try channel.pipeline.syncOperations.addHandler(manager)
  }
}
