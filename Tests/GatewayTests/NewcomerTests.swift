import Gateway
import NIOCore
import NIOEmbedded
import Testing

/// When a connection hears that it is to end.
@Suite struct NewcomerTests {
  /// Stands where the HTTP handlers do.
  private final class Ear: ChannelInboundHandler {
    typealias InboundIn = NIOAny
    var heard = 0
    var wasServed = false

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if event is ChannelShouldQuiesceEvent { heard += 1 }
    }
  }

  private let loop = EmbeddedEventLoop()
  private let ear = Ear()

  private func channel() throws -> EmbeddedChannel {
    let channel = EmbeddedChannel(loop: loop)
    try channel.pipeline.syncOperations.addHandlers([NewcomerGuard(welcome: .seconds(1)) { ear.wasServed }, ear])
    return channel
  }

  private func ask(_ channel: EmbeddedChannel) {
    channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
  }

  @Test func `who has just come is asked to go a little later, once`() throws {
    let channel = try channel()
    loop.advanceTime(by: .milliseconds(400))
    ask(channel)
    ask(channel)
    loop.advanceTime(by: .milliseconds(599))
    #expect(ear.heard == 0)
    loop.advanceTime(by: .milliseconds(1))
    #expect(ear.heard == 1)
    loop.advanceTime(by: .seconds(10))
    #expect(ear.heard == 1)
    _ = try channel.finish()
  }

  @Test func `who has been there for a while is asked at once`() throws {
    let channel = try channel()
    loop.advanceTime(by: .seconds(1))
    ask(channel)
    #expect(ear.heard == 1)
    _ = try channel.finish()
  }

  @Test func `who has had an answer is asked at once`() throws {
    let channel = try channel()
    ear.wasServed = true
    ask(channel)
    #expect(ear.heard == 1)
    _ = try channel.finish()
  }

  @Test func `who has gone is asked nothing`() throws {
    let channel = try channel()
    ask(channel)
    _ = try channel.finish()
    loop.advanceTime(by: .seconds(10))
    #expect(ear.heard == 0)
  }
}
