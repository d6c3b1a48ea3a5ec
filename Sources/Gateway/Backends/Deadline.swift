import JobletModel
import JobletWire
import NIOCore
import NIOPosix
import Synchronization

/// Runs a conversation that must be done in time: when it is not, the connection is closed, which ends it.
///
/// The timer is the event loop's, which forgets it when it is cancelled. A cancelled `Task.sleep` stays in memory until its
/// time is up: a busy follower would leave behind a thousand of them a second.
/// - Throws: ``JobletWire/TimedOut``, or what `body` throws.
func withDeadline<Result: Sendable>(
  _ limit: Duration, _ connection: FrameConnection, _ body: () async throws -> Result
) async throws -> Result {
  let isLate = Flag()
  let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .nanoseconds(limit.nanoseconds)) {
    isLate.raise()
    Task { await connection.close() }
  }
  defer { timer.cancel() }
  do {
    return try await body()
  } catch {
    throw isLate.isRaised ? TimedOut() : error
  }
}

private final class Flag: Sendable {
  private let value = Atomic(false)
  func raise() { value.store(true, ordering: .relaxed) }
  var isRaised: Bool { value.load(ordering: .relaxed) }
}
