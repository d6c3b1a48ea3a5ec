import JobletModel
import NIOCore
import Synchronization

/// What clients may make the gateway hold in memory, in bytes.
public struct ClientBounds: Sendable {
  /// Of replies that stand still because their clients don't read, on all connections. Twice as much may be on its way.
  public var unsent = 64 << 20
  /// Of such replies on one connection.
  public var unsentPerConnection = 8 << 20
  /// Of request bodies that are not whole yet, on all connections.
  public var bodies = 64 << 20
  /// Of such bodies on one connection.
  public var bodiesPerConnection = 8 << 20
  /// A reply that leaves sooner does not stand still.
  public var patience: Duration = .seconds(1)

  public init() {}

  /// A loop's part of what is for all connections.
  fileprivate func divided(by loops: Int) -> ClientBounds {
    var part = self
    part.unsent /= max(loops, 1)
    part.bodies /= max(loops, 1)
    return part
  }
}

/// What clients make one event loop hold: replies they don't take, and bodies they have not finished. Every response has one
/// batch in flight and every body its limit; this bounds the sum, for a connection has a hundred streams and there are ten
/// thousand connections. It is used on its loop alone, so it needs no lock.
///
/// A reply is dropped only where a bound is passed, and then the one that has stood still for longest: whoever reads keeps
/// being served, and a follower comes again by `Last-Event-ID` and loses nothing. It has some time to leave, for that many
/// clients may be quick; but at twice the bound nobody waits for that time to be over.
final class LoopLedger {
  /// One connection's part: shared by its streams.
  final class Connection {
    fileprivate(set) var unsent = 0
    fileprivate(set) var bodies = 0
    /// True once a response has begun to leave.
    var wasServed = false
  }

  private struct Entry {
    let handler: ExchangeHandler
    let connection: Connection
    let bytes: Int
    let since: NIODeadline
  }

  private let bounds: ClientBounds
  private let loop: any EventLoop
  private let metrics: GatewayMetrics?
  private var stalled: [ObjectIdentifier: Entry] = [:]
  private var unsent = 0
  private var bodies = 0
  private var timer: Scheduled<Void>?
  private var isRelieving = false
  private let patience: TimeAmount

  fileprivate init(_ bounds: ClientBounds, _ loop: any EventLoop, metrics: GatewayMetrics?) {
    self.bounds = bounds
    patience = .nanoseconds(bounds.patience.nanoseconds)
    self.loop = loop
    self.metrics = metrics
  }

  // MARK: Replies

  /// A reply's batch did not leave at once.
  func waits(_ handler: ExchangeHandler, bytes: Int, of connection: Connection) {
    leaves(handler)
    stalled[ObjectIdentifier(handler)] = Entry(handler: handler, connection: connection, bytes: bytes, since: .now())
    unsent += bytes
    connection.unsent += bytes
    scheduleLook()
    scheduleRelief()
  }

  /// It has left, or nobody waits for it any more.
  func leaves(_ handler: ExchangeHandler) {
    guard let entry = stalled.removeValue(forKey: ObjectIdentifier(handler)) else { return }
    unsent -= entry.bytes
    entry.connection.unsent -= entry.bytes
  }

  private func scheduleLook() {
    guard timer == nil else { return }
    let bound = NIOLoopBound(self, eventLoop: loop)
    timer = loop.scheduleTask(in: patience) { bound.value.look() }
  }

  private func look() {
    timer = nil
    relieve(after: patience, times: 1)
    if !stalled.isEmpty { scheduleLook() }
  }

  /// At twice the bound nobody has all the time, but a moment: a line that a thousand followers get at once is soon with those who
  /// read.
  private func scheduleRelief() {
    guard unsent > 2 * bounds.unsent, !isRelieving else { return }
    isRelieving = true
    let moment = min(patience, .milliseconds(200))
    let bound = NIOLoopBound(self, eventLoop: loop)
    loop.scheduleTask(in: moment) {
      bound.value.isRelieving = false
      bound.value.relieve(after: moment, times: 2)
      bound.value.scheduleRelief()
    }
  }

  /// Drops replies that have stood still for so long, the longest first, until not more than so many times the bounds is held.
  private func relieve(after time: TimeAmount, times: Int) {
    let now = NIODeadline.now()
    let (most, mostOfOne) = (times * bounds.unsent, times * bounds.unsentPerConnection)
    guard unsent > most || stalled.values.contains(where: { $0.connection.unsent > mostOfOne }) else { return }
    let longest = stalled.values.filter { now - $0.since >= time }.sorted { $0.since < $1.since }
    for entry in longest where unsent > most || entry.connection.unsent > mostOfOne {
      leaves(entry.handler)
      metrics?.replyDropped()
      entry.handler.drop()
    }
  }

  // MARK: Bodies

  /// A body grew, or shrank when it was handed on.
  func body(_ change: Int, of connection: Connection) {
    bodies += change
    connection.bodies += change
  }

  /// True if no body of the connection may grow beyond what every stream has.
  func isFullOfBodies(_ connection: Connection) -> Bool {
    bodies > bounds.bodies || connection.bodies > bounds.bodiesPerConnection
  }
}

/// One ledger a loop, made when the loop gets its first connection.
final class LoopLedgers: Sendable {
  private let bounds: ClientBounds
  private let metrics: GatewayMetrics?
  private let byLoop = Mutex<[ObjectIdentifier: NIOLoopBound<LoopLedger>]>([:])

  init(_ bounds: ClientBounds, loops: Int, metrics: GatewayMetrics?) {
    self.bounds = bounds.divided(by: loops)
    self.metrics = metrics
  }

  /// To be called on the loop.
  func ledger(of loop: any EventLoop) -> LoopLedger {
    byLoop.withLock { byLoop in
      if let known = byLoop[ObjectIdentifier(loop)] { return known }
      let made = NIOLoopBound(LoopLedger(bounds, loop, metrics: metrics), eventLoop: loop)
      byLoop[ObjectIdentifier(loop)] = made
      return made
    }.value
  }
}
