import JobletModel
import NIOCore
import NIOPosix
import Synchronization

/// Questions that many have at the same time, asked once: the first who comes asks, and those who come meanwhile get the same
/// answer.
///
/// So a thousand followers of one job that have come equally far cost exec one request and the gateway one connection to it.
package final class SharedQuestions<Question: Hashable & Sendable, Answer: Sendable>: Sendable {
  private enum Outcome: Sendable {
    case answer(Answer)
    case timeIsUp
    /// Nobody asks any more.
    case askerLeft
  }

  private struct State {
    /// Who waits for the answer to a question that somebody asks now.
    var asked: [Question: [UInt64: EventLoopPromise<Outcome>]] = [:]
    var lastNumber: UInt64 = 0
  }

  private let state = Mutex(State())

  package init() {}

  /// How many wait for the answer to another's question.
  package var waiting: Int { state.withLock { $0.asked.values.reduce(0) { $0 + $1.count } } }

  /// - Parameters:
  ///   - limit: whoever waits for another's answer waits no longer.
  ///   - ask: asks. That it fails is everybody's answer, unless it is the asker who left: then another asks.
  /// - Returns: nil if the time is up.
  package func answer(
    to question: Question, within limit: Duration, _ ask: () async throws -> Answer
  ) async throws -> Answer? {
    let deadline = ContinuousClock.now + limit
    while let place = join(question) {
      defer { leave(question, place.number) }
      switch try await SharedQuestions.outcome(of: place.promise, until: deadline) {
      case .answer(let answer): return answer
      case .timeIsUp: return nil
      case .askerLeft: continue
      }
    }
    do {
      let answer = try await ask()
      complete(question, .success(.answer(answer)))
      return answer
    } catch {
      let isMine = error is CancellationError || Task.isCancelled
      complete(question, isMine ? .success(.askerLeft) : .failure(error))
      throw error
    }
  }

  /// Nil if nobody asks it: then the caller does, and must complete it.
  private func join(_ question: Question) -> (number: UInt64, promise: EventLoopPromise<Outcome>)? {
    state.withLock { state in
      guard state.asked[question] != nil else {
        state.asked[question] = [:]
        return nil
      }
      state.lastNumber += 1
      let promise = MultiThreadedEventLoopGroup.singleton.any().makePromise(of: Outcome.self)
      state.asked[question]?[state.lastNumber] = promise
      return (state.lastNumber, promise)
    }
  }

  /// Waits no longer; after an answer there is nobody to be found.
  private func leave(_ question: Question, _ number: UInt64) {
    state.withLock { _ = $0.asked[question]?.removeValue(forKey: number) }
  }

  private func complete(_ question: Question, _ outcome: Result<Outcome, any Error>) {
    let promises = state.withLock { $0.asked.removeValue(forKey: question) } ?? [:]
    for promise in promises.values { promise.completeWith(outcome) }
  }

  /// The timer is an event loop's, see ``withDeadline(_:_:_:)``. What a promise is completed with after the first time is not
  /// heeded.
  private static func outcome(
    of promise: EventLoopPromise<Outcome>, until deadline: ContinuousClock.Instant
  ) async throws -> Outcome {
    let rest = max(deadline - .now, .zero)
    let timer = promise.futureResult.eventLoop.scheduleTask(in: .nanoseconds(rest.nanoseconds)) {
      promise.succeed(.timeIsUp)
    }
    defer { timer.cancel() }
    return try await withTaskCancellationHandler {
      try await promise.futureResult.get()
    } onCancel: {
      promise.fail(CancellationError())
    }
  }
}
