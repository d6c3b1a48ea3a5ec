import NIOCore
import Synchronization

/// The open connections of a listener: how many there may be, and whom to tell when the gateway stops.
final class ConnectionRegistry: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
    var peers: [ObjectIdentifier: PeerIdentity] = [:]
    /// Connections whose client was not welcome any more when they were last looked at.
    var unwelcome: Set<ObjectIdentifier> = []
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
      state.withLock { state in
        state.channels[id] = nil
        state.peers[id] = nil
        state.unwelcome.remove(id)
      }
      metrics?.connectionClosed()
    }
    return true
  }

  /// Says who is at the other end, once that is known.
  func identify(_ channel: any Channel, _ peer: PeerIdentity) {
    let id = ObjectIdentifier(channel)
    state.withLock { state in
      if state.channels[id] != nil { state.peers[id] = peer }
    }
  }

  /// Closes the connections whose client was not welcome last time either: their requests are refused at once and their
  /// streams end with a word of why; what is left then is a client that does not read.
  /// - Returns: how many were closed.
  func closeUnwelcome(_ isWelcome: (PeerIdentity) -> Bool) -> Int {
    let peers = state.withLock { $0.peers }
    let unwelcome = Set(peers.filter { !isWelcome($0.value) }.keys)
    let closing = state.withLock { state in
      defer { state.unwelcome = unwelcome }
      return unwelcome.intersection(state.unwelcome).compactMap { state.channels[$0] }
    }
    for channel in closing { channel.close(promise: nil) }
    return closing.count
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
