import NIOCore
import Synchronization

/// The open connections of a listener: how many there may be, and whom to tell when the gateway stops.
final class ConnectionRegistry: Sendable {
  private struct State {
    var channels: [ObjectIdentifier: any Channel] = [:]
    var peers: [ObjectIdentifier: PeerIdentity] = [:]
    /// Connections whose handshake is under way, oldest first; one that is done stays until it is passed over.
    var shaking: CircularBuffer<ObjectIdentifier> = []
    var isShaking: Set<ObjectIdentifier> = []
    /// Connections whose client was not welcome any more when they were last looked at.
    var unwelcome: Set<ObjectIdentifier> = []
  }

  private let limit: Int
  /// Handshakes at one time; nil where there are none. Each costs some 40 KiB, and anybody can begin one.
  private let handshakes: Int?
  private let metrics: GatewayMetrics?
  private let state = Mutex(State())

  /// As many clients may come back at once after a restart.
  static let handshakes = 2048

  /// - Parameter limit: `server.max_connections`.
  init(limit: Int, handshakes: Int? = nil, metrics: GatewayMetrics?) {
    self.limit = limit
    self.handshakes = handshakes
    self.metrics = metrics
  }

  var count: Int { state.withLock { $0.channels.count } }

  /// Takes a connection in, until it closes. False when there is no room. Where too many handshakes are under way, the
  /// one that has taken longest makes room: a client with a certificate is done within milliseconds, and who only wants to
  /// keep others out is not.
  func enter(_ channel: any Channel) -> Bool {
    let id = ObjectIdentifier(channel)
    let (isIn, slowest) = state.withLock { state -> (Bool, (any Channel)?) in
      let slowest = makeRoom(&state)
      guard state.channels.count < limit || slowest != nil else { return (false, nil) }
      state.channels[id] = channel
      if handshakes != nil {
        state.shaking.append(id)
        state.isShaking.insert(id)
      }
      return (true, slowest)
    }
    if let slowest {
      metrics?.connectionRefused("too_many_handshakes")
      slowest.close(promise: nil)
    }
    guard isIn else { return false }
    metrics?.connectionOpened()
    channel.closeFuture.whenComplete { [weak self] _ in
      guard let self else { return }
      state.withLock { state in
        state.channels[id] = nil
        state.isShaking.remove(id)
        state.peers[id] = nil
        state.unwelcome.remove(id)
      }
      metrics?.connectionClosed()
    }
    return true
  }

  /// Picks the oldest unfinished handshake if there are too many.
  private func makeRoom(_ state: inout State) -> (any Channel)? {
    guard let handshakes else { return nil }
    while let first = state.shaking.first, !state.isShaking.contains(first) { state.shaking.removeFirst() }
    guard state.isShaking.count >= handshakes, let oldest = state.shaking.popFirst() else { return nil }
    state.isShaking.remove(oldest)
    return state.channels[oldest]
  }

  /// The connection's handshake is done.
  func handshakeDone(_ channel: any Channel) {
    let id = ObjectIdentifier(channel)
    state.withLock { state in
      state.isShaking.remove(id)
      while let first = state.shaking.first, !state.isShaking.contains(first) { state.shaking.removeFirst() }
    }
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
