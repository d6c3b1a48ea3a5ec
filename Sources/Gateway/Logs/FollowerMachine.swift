import JobletModel
import JobletWire

/// Decides what a reader of a job's log does next: live output, history below it, waiting, the end. Pure: it is told what
/// happened and says what to do; ``LogFollower`` does it.
///
/// A follower is a cursor. It pulls from exec's ring; when the ring has moved on past it, it reads what is missing from
/// persist at its own `seq` and comes back. So it loses nothing and holds nothing, however slow its client is.
public struct FollowerMachine: Sendable {
  public enum Action: Hashable, Sendable {
    /// Look through the ring, without sending, for where the last `tail` lines begin.
    case measure
    /// Ask exec for lines after the position; `wait` if it may hold the request until there are some.
    case live(wait: Bool)
    /// Read stored lines after the position up to `through`; persist must have seen `throughSeq`.
    case history(through: UInt64?, throughSeq: UInt64?, tail: Int?)
    /// Ask how the job ended.
    case lookUp
    /// Wait a moment before the next try.
    case pause
    /// Send the terminal event and finish; what is not sent of the lines up to `lastSeq` is lost.
    case end(JobEnd, lastSeq: UInt64?)
    /// Finish without one: there is more to come, and this reader did not ask to wait for it.
    case finish
    case fail(Problem)
  }

  private enum Then: Hashable {
    case live
    case lookUp
    case end(JobEnd, lastSeq: UInt64?)
  }

  private let follow: Bool
  private let tail: Int?
  private var then = Then.live
  private var isExecAway = false
  private var unresolved = 0
  /// True until it is known where the last `tail` lines begin.
  private var isMeasuring: Bool
  public private(set) var action: Action

  /// How often a job that exec does not know and persist has not seen end is asked for again.
  static let maxUnresolved = 10

  public init(_ parameters: LogParameters) {
    follow = parameters.follow
    tail = parameters.tail
    isMeasuring = parameters.tail != nil
    action = parameters.tail == nil ? .live(wait: parameters.follow) : .measure
  }

  // MARK: What happened

  /// - Parameters:
  ///   - matches: numbers of the last wanted lines in the ring, at most `tail`, ascending.
  ///   - oldest: the first `seq` the ring has, if it does not reach back to the position.
  /// - Returns: the position from which on lines are wanted, if that is known now.
  public mutating func measured(
    matches: [UInt64], oldest: UInt64?, acknowledged: UInt64?, isKnown: Bool
  ) -> UInt64? {
    let tail = tail ?? 0
    guard isKnown else {
      history(through: nil, throughSeq: nil, tail: tail, then: .lookUp)
      return nil
    }
    if matches.count >= tail {
      isMeasuring = false
      action = .live(wait: follow)
      return matches.last.map { last in tail == 0 ? last : matches[matches.count - tail] - 1 } ?? oldest.map { $0 - 1 }
    }
    guard let oldest else {
      isMeasuring = false
      action = .live(wait: follow)  // the ring holds everything, and that is less than was asked for
      return nil
    }
    history(through: oldest - 1, throughSeq: acknowledged, tail: tail - matches.count, then: .live)
    return nil
  }

  /// exec answered a request for live lines.
  /// - Parameters:
  ///   - position: after the lines it sent.
  ///   - hadLines: whether it sent any.
  public mutating func live(_ state: OutputState, position: UInt64, hadLines: Bool) {
    isExecAway = false
    switch state.state {
    case .more:
      unresolved = 0
      action = follow || hadLines ? .live(wait: follow) : .finish
    case .behind:
      guard let oldest = state.oldest, oldest > position + 1 else {
        action = .live(wait: follow)
        return
      }
      history(through: oldest - 1, throughSeq: state.acknowledged.map { min($0, oldest - 1) }, tail: nil, then: .live)
    case .ended:
      guard let record = state.record else {
        action = .lookUp
        return
      }
      ended(record, position)
    case .unknown:
      history(through: nil, throughSeq: nil, tail: nil, then: .lookUp)
    }
  }

  /// exec could not be asked.
  public mutating func liveFailed() {
    if isExecAway {
      action = follow ? .pause : .finish
      return
    }
    // What is stored can be had meanwhile, and perhaps the job has ended.
    isExecAway = true
    history(through: nil, throughSeq: nil, tail: action == .measure ? tail : nil, then: .lookUp)
  }

  /// Every stored line that was asked for has been sent.
  public mutating func historyRead() {
    isMeasuring = false
    switch then {
    case .live: action = .live(wait: follow)
    case .lookUp: action = .lookUp
    case .end(let end, let lastSeq): action = .end(end, lastSeq: lastSeq)
    }
  }

  /// persist could not be asked, or not to the end.
  public mutating func historyFailed(_ problem: Problem) {
    retryOrFail(problem)
  }

  /// The query was given up on purpose; it is to be asked again from the new position.
  public mutating func historyInterrupted(hadLines: Bool) {
    guard case .history(let through, let throughSeq, _) = action, hadLines else { return }
    // The tail's first line was sent, so all that follow it are wanted.
    isMeasuring = false
    action = .history(through: through, throughSeq: throughSeq, tail: nil)
  }

  /// The directory knows this of the job; nil if it is gone.
  public mutating func lookedUp(_ record: JobRecord?, position: UInt64) {
    guard let record else {
      action = .finish  // deleted: no event invents an outcome
      return
    }
    if record.status.isEnded {
      // While exec is away its ring may hold lines that persist has not got: what is not stored yet is not lost.
      ended(record, position, isRead: !isExecAway)
    } else if !follow {
      action = .finish
    } else {
      unresolved += 1
      action = !isExecAway && unresolved > FollowerMachine.maxUnresolved ? .finish : .pause
    }
  }

  public mutating func lookUpFailed(_ problem: Problem) { retryOrFail(problem) }

  public mutating func paused() { action = isMeasuring ? .measure : .live(wait: follow) }

  /// The client has all the lines it asked for.
  public mutating func limitReached() { action = .finish }

  // MARK: Decisions

  /// - Parameter isRead: true if history has been read to its end already.
  private mutating func ended(_ record: JobRecord, _ position: UInt64, isRead: Bool = false) {
    let end = JobEnd(record)
    guard let last = record.lastSeq, last > position, !isRead else {
      action = .end(end, lastSeq: record.lastSeq)
      return
    }
    history(through: last, throughSeq: last, tail: nil, then: .end(end, lastSeq: last))
  }

  private mutating func history(through: UInt64?, throughSeq: UInt64?, tail: Int?, then: Then) {
    self.then = then
    action = .history(through: through, throughSeq: throughSeq, tail: tail)
  }

  private mutating func retryOrFail(_ problem: Problem) {
    action = follow ? .pause : .fail(problem)
  }
}
