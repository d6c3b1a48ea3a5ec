import Glibc
import JobletWire
import Logging
import NIOCore
import NIOEmbedded
import Synchronization
import Testing

@Suite struct AcceptTests {
  /// Keeps what is logged.
  private final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }

    struct Handler: LogHandler {
      let lines: Lines
      var metadata: Logger.Metadata = [:]
      var logLevel = Logger.Level.trace
      subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
      }

      func log(event: LogEvent) { lines.lines.withLock { $0.append("\(event.level): \(event.message)") } }
    }

    var logger: Logger { Logger(label: "test") { _ in Handler(lines: self) } }
  }

  /// Counts what gets past.
  private final class Tail: ChannelInboundHandler {
    typealias InboundIn = any Channel
    var errors = 0
    var connections = 0
    func errorCaught(context: ChannelHandlerContext, error: any Error) { errors += 1 }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) { connections += 1 }
  }

  private struct Odd: Error {}

  @Test func `a failed accept is said once, pauses, and ends nothing`() throws {
    let lines = Lines()
    let tail = Tail()
    let server = EmbeddedChannel(handlers: [AcceptFailures(logger: lines.logger), tail])
    for _ in 0..<100 { server.pipeline.fireErrorCaught(IOError(errnoCode: EMFILE, reason: "accept")) }
    // The backoff handler behind must see it; what is no IOError would end the accepting and goes no further.
    server.pipeline.fireErrorCaught(Odd())
    #expect(tail.errors == 100)
    #expect(lines.all.count == 1)
    #expect(lines.all.first?.hasPrefix("error: ") == true && lines.all.first?.contains("LimitNOFILE") == true)
    let connection: any Channel = EmbeddedChannel()
    server.pipeline.fireChannelRead(connection)
    #expect(tail.connections == 1)
    #expect(lines.all.count == 2)
    server.pipeline.fireErrorCaught(IOError(errnoCode: ENFILE, reason: "accept"))
    #expect(lines.all.count == 3, "another episode is said again")
  }

  @Test func `a time limit ends what takes too long, and nothing else`() async throws {
    #expect(try await withTimeout(.seconds(60)) { 7 } == 7)
    await #expect(throws: TimedOut.self) {
      try await withTimeout(.milliseconds(10)) { try await Task.sleep(for: .seconds(60)) }
    }
    await #expect(throws: Odd.self) { try await withTimeout(.seconds(60)) { throw Odd() } }
    let task = Task { try await withTimeout(.seconds(60)) { try await Task.sleep(for: .seconds(60)) } }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }
}
