import HTTPTypes
import NIOCore
import Synchronization

/// A body that is sent as it is made: see ``Reply/Content/stream(_:)``.
final class ResponseStream: Sendable {
  private let writer: ResponseWriter
  private let head: HTTPResponse
  private let state = Mutex(State())
  let isHead: Bool

  private struct State {
    var isStarted = false
    var bytes = 0
  }

  init(_ writer: ResponseWriter, head: HTTPResponse, isHead: Bool) {
    self.writer = writer
    self.head = head
    self.isHead = isHead
  }

  var isStarted: Bool { state.withLock { $0.isStarted } }
  var bytesSent: Int { state.withLock { $0.bytes } }

  /// Sends the head now, before there is a body: so that the client knows it is being served.
  func start() async throws {
    guard !markStarted() else { return }
    try await writer.send(head: head)
  }

  /// Sends a batch and waits until it is out.
  /// - Parameter onStall: called if that takes longer than a second: whoever holds something for a client that
  ///   doesn't read lets go of it here.
  func write(_ bytes: ByteBuffer, onStall: (@Sendable () -> Void)? = nil) async throws {
    let stall = onStall.map { onStall in writer.loop.scheduleTask(in: .seconds(1)) { onStall() } }
    defer { stall?.cancel() }
    let isFirst = !markStarted()
    try await writer.send(head: isFirst ? head : nil, body: bytes)
    state.withLock { $0.bytes += bytes.readableBytes }
  }

  func end() async throws {
    let isFirst = !markStarted()
    try await writer.send(head: isFirst ? head : nil, isEnd: true)
  }

  private func markStarted() -> Bool {
    state.withLock { state in
      defer { state.isStarted = true }
      return state.isStarted
    }
  }
}
