import NIOCore
import NIOHTTP1

/// Stands before the HTTP/1.1 decoder: tells the exchange handler that bytes of a request came.
final class HTTP1ByteWatch: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let exchanges: ExchangeHandler

  init(_ exchanges: ExchangeHandler) { self.exchanges = exchanges }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    exchanges.bytesArrived()
    context.fireChannelRead(data)
  }
}

/// Stands behind the decoder and keeps what the shared HTTP types have no place for: the version, and whether the connection
/// is to stay open.
final class HTTP1Facts: ChannelDuplexHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = HTTPServerResponsePart
  typealias OutboundOut = HTTPServerResponsePart

  private let exchanges: ExchangeHandler
  private var version = HTTPVersion.http1_1
  private var isRefused = false

  init(_ exchanges: ExchangeHandler) { self.exchanges = exchanges }

  private static func isOld(_ version: HTTPVersion) -> Bool { (version.major, version.minor) < (1, 1) }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isRefused else { return }
    if case .head(let head) = unwrapInboundIn(data) {
      // RFC 9112, section 3.2. Two names of hosts are how a proxy and a server come to see two requests in one.
      let hosts = head.headers[canonicalForm: "host"].count
      guard hosts == 1 || hosts == 0 && HTTP1Facts.isOld(head.version) else {
        isRefused = true
        return context.fireErrorCaught(HTTPParserError.invalidHeaderToken)
      }
      version = head.version
      // An HTTP/1.0 client knows no chunks: the body's end is the connection's.
      exchanges.isKeepAlive = head.isKeepAlive && !HTTP1Facts.isOld(head.version)
    }
    context.fireChannelRead(data)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard HTTP1Facts.isOld(version), case .head(var head) = unwrapOutboundIn(data) else {
      return context.write(data, promise: promise)
    }
    head.version = version
    context.write(wrapOutboundOut(.head(head)), promise: promise)
  }
}
