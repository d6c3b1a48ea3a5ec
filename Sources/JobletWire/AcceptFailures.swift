import Logging
import NIOCore

/// Stands in a listening socket's pipeline, before NIO's `AcceptBackoffHandler`: a failed accept(2) (no descriptor left, no
/// memory, a connection that was gone already) pauses the accepting and never ends it. Whoever waits stays in the kernel's
/// queue. Said when it begins and when it is over, not once a try.
public final class AcceptFailures: ChannelInboundHandler {
  public typealias InboundIn = any Channel
  public typealias InboundOut = any Channel

  private let logger: Logger
  private var isFailing = false

  public init(logger: Logger) { self.logger = logger }

  public func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if !isFailing {
      isFailing = true
      let place = context.localAddress.map { "\($0)" } ?? "its socket"
      logger.error(
        "no connection can be accepted on \(place) for now: \(error). It is tried again every second; if files ran out, raise LimitNOFILE= of the service"
      )
    }
    // An IOError makes the backoff handler wait. Anything else concerned the one connection: let on, it would end them all.
    if error is IOError { context.fireErrorCaught(error) }
  }

  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    if isFailing {
      isFailing = false
      logger.notice("connections are accepted again")
    }
    context.fireChannelRead(data)
  }
}
