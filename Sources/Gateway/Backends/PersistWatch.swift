import JobletModel
import JobletWire
import Logging
import Synchronization

/// Asks persist now and then whether it is there, for `/readyz` and for calls that must not begin without it.
final class PersistWatch: Sendable {
  private let persist: FramePool
  private let logger: Logger
  /// True at first: the readiness gate has just heard it.
  private let isUp = Mutex(true)

  init(_ persist: FramePool, logger: Logger) {
    self.persist = persist
    self.logger = logger
  }

  var isConnected: Bool { isUp.withLock { $0 } }

  /// Runs until cancelled.
  func run() async throws {
    while true {
      let isUp = await probe()
      let wasUp = self.isUp.withLock { state in
        defer { state = isUp }
        return state
      }
      if isUp != wasUp { logger.notice(isUp ? "joblet-persist answers" : "joblet-persist is away") }
      try await Task.sleep(for: .seconds(2))
    }
  }

  /// True if persist answers a ping in time.
  func probe() async -> Bool {
    do {
      let reply = try await persist.request(Frame(FrameHeader(.ping)), timeout: .seconds(5))
      let _: PingReply = try reply.decode()
      return true
    } catch {
      return false
    }
  }
}
