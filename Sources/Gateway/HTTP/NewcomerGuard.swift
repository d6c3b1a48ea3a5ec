import NIOCore

/// Lets a client that has just come make its first request before it is asked to go.
///
/// Such a client has its request on the way, or is about to send it. RFC 9113, section 6.8 lets it come again elsewhere when
/// GOAWAY is faster, and RFC 9112, section 9.3.1 when the connection closes; curl 7.88 gives up. So the request to end waits
/// until the connection is old enough to have had one. Open streams are told by other ways, and that at once.
package final class NewcomerGuard: ChannelInboundHandler {
  package typealias InboundIn = NIOAny

  private let welcome: TimeAmount
  private let wasServed: () -> Bool
  private var begun = NIODeadline.uptimeNanoseconds(0)
  private var farewell: Scheduled<Void>?

  /// - Parameters:
  ///   - welcome: the age, counted from the end of the handshake, below which nobody is asked to go; zero or more.
  ///   - wasServed: true once the connection had an answer: then it has nothing to wait for. Asked on the connection's loop.
  package init(welcome: TimeAmount, wasServed: @escaping () -> Bool) {
    self.welcome = welcome
    self.wasServed = wasServed
  }

  package func handlerAdded(context: ChannelHandlerContext) { begun = context.eventLoop.now }

  package func handlerRemoved(context: ChannelHandlerContext) { cancel() }

  package func channelInactive(context: ChannelHandlerContext) {
    cancel()
    context.fireChannelInactive()
  }

  package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    let end = begun + welcome
    guard event is ChannelShouldQuiesceEvent, context.eventLoop.now < end, !wasServed() else {
      return context.fireUserInboundEventTriggered(event)
    }
    guard farewell == nil else { return }  // asked twice
    let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
    farewell = context.eventLoop.scheduleTask(deadline: end) {
      bound.value.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }
  }

  private func cancel() {
    farewell?.cancel()
    farewell = nil
  }
}
