import Glibc

/// What Ctrl-C and SIGTERM do to a verb that follows a job. Pure.
///
/// The first may begin something, the stop of the job for instance, after which the following goes on; one more ends the
/// process, as does the first where there is nothing to begin. But what was begun and announced is done first: two signals on
/// each other's heels, as timeout(1) sends them, must not leave the job running.
package struct InterruptMachine: Sendable {
  package enum Step: Hashable, Sendable {
    case begin
    /// The process ends when what was begun is done, or when patience is.
    case wait
    case end(farewell: String, code: Int32)
    case nothing
  }

  private enum Phase {
    case idle
    case begun
    /// The process is to end, with this code, as soon as what was begun is done.
    case ending(Int32)
    case done
  }

  private var farewell: String
  private let overdue: String?
  private var phase: Phase = .idle
  package private(set) var isTerminated = false

  /// - Parameters:
  ///   - farewell: said at the end where nothing was begun.
  ///   - overdue: said at an end that could not wait longer for what was begun; nil if there is nothing to begin.
  package init(farewell: String, overdue: String?) {
    self.farewell = farewell
    self.overdue = overdue
  }

  /// A signal came.
  package mutating func take(_ signal: Int32) -> Step {
    if signal == SIGTERM { isTerminated = true }
    let code = isTerminated ? ExitCodes.terminated : ExitCodes.interrupted
    switch phase {
    case .idle where overdue != nil:
      phase = .begun
      return .begin
    case .begun:
      phase = .ending(code)
      return .wait
    case .ending:
      phase = .ending(code)
      return .nothing
    case .idle, .done: return .end(farewell: farewell, code: code)
    }
  }

  /// What was begun is done.
  /// - Parameter farewell: what is true from now on.
  package mutating func done(_ farewell: String) -> Step {
    self.farewell = farewell
    if case .ending(let code) = phase { return .end(farewell: farewell, code: code) }
    phase = .done
    return .nothing
  }

  /// Patience is over.
  package mutating func giveUp() -> Step {
    guard case .ending(let code) = phase else { return .nothing }
    return .end(farewell: overdue ?? farewell, code: code)
  }
}
