import JobletModel
import JobletWire
import Logging

/// Keeps the live view fed: one long subscription to exec's events, renewed for as long as the gateway runs.
struct LiveViewFeed: Sendable {
  let exec: FramePool
  let view: LiveView
  let logger: Logger

  private static let pauses: [Duration] = [.milliseconds(100), .milliseconds(250), .milliseconds(500), .seconds(1)]

  /// Runs until cancelled.
  func run() async throws {
    var failures = 0
    while true {
      do {
        try await follow { failures = 0 }
        // A cancelled wait for the next event closes the connection: that is this side's end, not exec's.
        try Task.checkCancellation()
        logger.warning("joblet-exec closed the events connection; connecting again")
      } catch let error as CancellationError {
        throw error
      } catch {
        try Task.checkCancellation()
        if failures == 0 { logger.warning("joblet-exec is away: \(error)") }
      }
      view.connectionLost()
      // Connections to an exec that is gone would fail the next callers.
      exec.flush()
      try await Task.sleep(for: LiveViewFeed.pauses[min(failures, LiveViewFeed.pauses.count - 1)])
      failures += 1
    }
  }

  private func follow(_ onConnected: () -> Void) async throws {
    let connection = try await exec.connect()
    do {
      view.beginSnapshot()
      try await connection.send(Frame(FrameHeader(.events)))
      while let frame = try await connection.next() {
        switch frame.header.type {
        case .record: view.apply(try frame.decode())
        case .done:
          // An empty one says nothing of what has ended before.
          if frame.payload.readableBytes > 0 {
            view.endSnapshot(completeSince: try frame.decode(SnapshotEnd.self).completeSince)
          } else {
            view.endSnapshot()
          }
          logger.info("connected to joblet-exec; it knows \(view.count) jobs")
          onConnected()
        case .problem: throw try frame.decode(Problem.self)
        default: throw FrameError.unexpected(frame.header.type)
        }
      }
      await connection.close()
    } catch {
      await connection.close()
      throw error
    }
  }
}
