import NIOCore
import Synchronization

/// The open connections of a listener: how many there may be, and whom to tell when the gateway stops.
final class ConnectionRegistry: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
  }

  private let limit: Int
  private let metrics: GatewayMetrics?
  private let state = Mutex(State())

  /// - Parameter limit: `server.max_connections`.
  init(limit: Int, metrics: GatewayMetrics?) {
    self.limit = limit
    self.metrics = metrics
  }

  var count: Int { state.withLock { $0.channels.count } }

  /// Takes a connection in, until it closes. False when there is no room.
  func enter(_ channel: any Channel) -> Bool {
    let id = ObjectIdentifier(channel)
    let isIn = state.withLock { state in
      guard state.channels.count < limit else { return false }
      state.channels[id] = channel
      return true
    }
    guard isIn else { return false }
    metrics?.connectionOpened()
    channel.closeFuture.whenComplete { [weak self] _ in
      guard let self else { return }
      _ = state.withLock { $0.channels.removeValue(forKey: id) }
      metrics?.connectionClosed()
    }
    return true
  }

  /// Asks every connection to end when its work is done: HTTP/2 says GOAWAY, an idle HTTP/1.1 one closes.
  func quiesce() {
    for channel in state.withLock({ Array($0.channels.values) }) {
      channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
    }
  }

  /// Closes what is still open.
  func closeAll() {
    for channel in state.withLock({ Array($0.channels.values) }) { channel.close(promise: nil) }
  }
}
