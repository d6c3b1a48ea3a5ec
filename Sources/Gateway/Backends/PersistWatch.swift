import JobletModel
import JobletWire
import Logging
import Synchronization

/// Asks persist now and then whether it is there and takes more jobs, for `/readyz` and for calls that must not begin
/// without it.
final class PersistWatch: Sendable {
  private struct State {
    /// True at first: the readiness gate has just heard it.
    var isUp = true
    var condition = StoreCondition.good
    var reply: PingReply?
  }

  private let persist: FramePool
  private let logger: Logger
  private let state = Mutex(State())

  init(_ persist: FramePool, logger: Logger) {
    self.persist = persist
    self.logger = logger
  }

  var isConnected: Bool { state.withLock { $0.isUp } }

  /// What it answered last; nil while it is away.
  var lastReply: PingReply? { state.withLock { $0.reply } }

  /// Why persist takes no more jobs; nil while it does, or is away.
  var refusal: String? {
    let state = state.withLock { $0 }
    guard state.isUp, !state.condition.acceptsJobs else { return nil }
    return "joblet-persist takes no new jobs: \(state.condition.reason ?? "it does not say why")"
  }

  /// Runs until cancelled.
  func run() async throws {
    while true {
      let reply = await ask()
      let (before, now) = state.withLock { state in
        let before = state
        state.isUp = reply != nil
        state.reply = reply
        if let reply { state.condition = reply.condition }
        return (before, state)
      }
      if now.isUp != before.isUp { logger.notice(now.isUp ? "joblet-persist answers" : "joblet-persist is away") }
      if now.condition != before.condition {
        logger.notice("\(refusal ?? "joblet-persist takes new jobs")")
      }
      try await Task.sleep(for: .seconds(2))
    }
  }

  /// True if persist answers a ping in time.
  func probe() async -> Bool { await ask() != nil }

  /// Its answer to a ping; nil if it gives none in time.
  private func ask() async -> PingReply? {
    do {
      return try await persist.request(Frame(FrameHeader(.ping)), timeout: .seconds(5)).decode()
    } catch {
      return nil
    }
  }

  /// persist's own metrics as Prometheus text; nil if it gives none soon. A scrape has little time, and must tell of the
  /// gateway whatever persist does.
  func statistics() async -> String? {
    guard isConnected else { return nil }
    do {
      let reply = try await persist.request(Frame(FrameHeader(.statistics)), timeout: .seconds(2))
      return String(buffer: reply.payload)
    } catch {
      return nil
    }
  }
}
