import HTTPTypes
import NIOCore
import Synchronization

/// A body that is sent as it is made: see ``Reply/Content/stream(_:)``.
final class ResponseStream: Sendable {
  private let writer: ResponseWriter
  private let head: HTTPResponse
  private let state: Mutex<State>
  let isHead: Bool

  private struct State {
    var isStarted = false
    var bytes = 0
    var gzip: GzipEncoder?
  }

  /// - Parameter packing: the body goes through gzip; every batch can be read when it arrives.
  init(_ writer: ResponseWriter, head: HTTPResponse, packing: Bool, isHead: Bool) {
    let gzip = packing ? GzipEncoder() : nil
    var head = head
    if gzip != nil { head.headerFields[.contentEncoding] = "gzip" }
    self.writer = writer
    self.head = head
    self.isHead = isHead
    state = Mutex(State(gzip: gzip))
  }

  var isStarted: Bool { state.withLock { $0.isStarted } }
  var bytesSent: Int { state.withLock { $0.bytes } }

  /// Sends the head now, before there is a body: so that the client knows it is being served.
  func start() async throws {
    guard !markStarted() else { return }
    try await writer.send(head: head)
  }

  /// Sends a batch and waits until it is out. The bytes are not held meanwhile.
  /// - Parameter onStall: called if that takes longer than a second: whoever holds something for a client that
  ///   doesn't read lets go of it here.
  func write(_ bytes: consuming ByteBuffer, onStall: (@Sendable () -> Void)? = nil) async throws {
    let stall = onStall.map { onStall in writer.loop.scheduleTask(in: .seconds(1)) { onStall() } }
    defer { stall?.cancel() }
    let bytes = await packed(bytes)
    let isFirst = !markStarted()
    let count = bytes.readableBytes
    try await writer.send(head: isFirst ? head : nil, body: consume bytes)
    state.withLock { $0.bytes += count }
  }

  func end() async throws {
    let isFirst = !markStarted()
    let trailer = state.withLock { state -> ByteBuffer? in
      guard let gzip = state.gzip, !isHead else { return nil }
      var trailer = ByteBuffer()
      gzip.add(trailer.readableBytesView, .end, to: &trailer)
      state.gzip = nil
      state.bytes += trailer.readableBytes
      return trailer
    }
    try await writer.send(head: isFirst ? head : nil, body: trailer, isEnd: true)
  }

  private func packed(_ plain: ByteBuffer) async -> ByteBuffer {
    guard state.withLock({ $0.gzip != nil }) else { return plain }
    var packed = ByteBuffer()
    var rest = plain.readableBytesView
    while rest.count > GzipEncoder.slice {
      state.withLock { [rest] state in state.gzip?.add(rest.prefix(GzipEncoder.slice), .more, to: &packed) }
      rest = rest.dropFirst(GzipEncoder.slice)
      await Task.yield()
    }
    state.withLock { [rest] state in state.gzip?.add(rest, .flush, to: &packed) }
    return packed
  }

  private func markStarted() -> Bool {
    state.withLock { state in
      defer { state.isStarted = true }
      return state.isStarted
    }
  }
}
