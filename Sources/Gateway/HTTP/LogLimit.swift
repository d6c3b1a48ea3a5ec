import Logging
import NIOCore
import Synchronization

/// Log lines about what anybody can cause without a certificate: a few at a time are news, ten thousand would push everything
/// else out of the journal. The counters in `/metrics` count them all.
final class LogLimit: Sendable {
  private struct State {
    var begun = NIODeadline.now()
    var written = 0
    var left = 0
  }

  private static let lines = 10
  private static let span = TimeAmount.seconds(10)

  private let logger: Logger
  private let state = Mutex(State())

  init(_ logger: Logger) { self.logger = logger }

  func info(_ line: @autoclosure () -> String) {
    let left: Int? = state.withLock { state in
      let now = NIODeadline.now()
      var left = 0
      if now - state.begun > LogLimit.span {
        left = state.left
        state = State(begun: now)
      }
      guard state.written < LogLimit.lines else {
        state.left += 1
        return nil
      }
      state.written += 1
      return left
    }
    guard let left else { return }
    logger.info("\(line())\(left == 0 ? "" : " (and \(left) more since the last such line)")")
  }
}
