import JobletModel
import JobletWire

/// Decides what a reader of a job's records does next: live output, history below it, waiting, the end. Pure: it is told
/// what happened and says what to do; ``Follower`` does it.
///
/// A follower is a cursor. It pulls from exec's ring; when the ring has moved on past it, it reads what is missing from
/// persist at its own `seq` and comes back. So it loses nothing and holds nothing, however slow its client is.
///
/// Where only the store can choose the records (a regular expression, the newest first, aggregates), exec is asked how far
/// they go and persist for all of them: its answer waits until it has come as far.
public struct FollowerMachine: Sendable {
  /// What is read, and how.
  public struct Task: Hashable, Sendable {
    public var follow: Bool
    /// The last so many only.
    public var tail: Int?
    public var needsStore: Bool
    /// True if a job's record names the last number of these records.
    public var isCountedByRecord: Bool

    public init(follow: Bool, tail: Int? = nil, needsStore: Bool = false, isCountedByRecord: Bool = true) {
      self.follow = follow
      self.tail = tail
      self.needsStore = needsStore
      self.isCountedByRecord = isCountedByRecord
    }
  }

  public enum Action: Hashable, Sendable {
    /// Find where the last `tail` records begin, without sending: by their number, or looking through the ring.
    case measure
    /// Find the last number, without sending.
    case survey
    /// Ask exec for records after the position; `wait` if it may hold the request until there are some.
    case live(wait: Bool)
    /// Read stored records after the position up to `through`; persist must have seen `throughSeq`.
    case history(through: UInt64?, throughSeq: UInt64?, tail: Int?)
    /// Ask how the job ended.
    case lookUp
    /// Wait a moment before the next try.
    case pause
    /// Send the terminal event and finish; what is not sent of the records up to `lastSeq` is lost.
    case end(JobEnd, lastSeq: UInt64?)
    /// Finish without one: there is more to come, and this reader did not ask to wait for it.
    case finish
    case fail(Problem)
  }

  /// What follows when history is read.
  private enum Then: Hashable {
    case live
    case lookUp
    /// The job runs on, as far as anybody knows.
    case idle
    case end(JobEnd, lastSeq: UInt64?)
  }

  private let task: Task
  private var then = Then.live
  private var isExecAway = false
  private var unresolved = 0
  /// True until it is known where the first wanted record is.
  private var isSearching: Bool
  /// True while what is stored has not been read since exec could last not say.
  private var isStoreUnread = false
  /// True if persist has answered all that was asked, so that a job's end is all that is left to be said.
  public private(set) var isAnswered = false
  public private(set) var action: Action

  /// How often a job that exec does not know and persist has not seen end is asked for again.
  static let maxUnresolved = 10

  public init(_ task: Task) {
    self.task = task
    isSearching = task.tail != nil || task.needsStore && !task.follow
    action = .live(wait: task.follow)
    if isSearching { action = search }
  }

  private var search: Action { task.needsStore ? .survey : .measure }
  private var live: Action { .live(wait: task.follow) }

  // MARK: What happened

  /// - Parameters:
  ///   - matches: numbers of the last wanted records in the ring, at most `tail`, ascending.
  ///   - oldest: the first `seq` the ring has, if it does not reach back to the position.
  /// - Returns: the position from which on records are wanted, if that is known now.
  public mutating func measured(
    matches: [UInt64], oldest: UInt64?, acknowledged: UInt64?, isKnown: Bool
  ) -> UInt64? {
    let tail = task.tail ?? 0
    guard isKnown else {
      askStore()
      return nil
    }
    if matches.count >= tail {
      isSearching = false
      action = live
      return matches.last.map { last in tail == 0 ? last : matches[matches.count - tail] - 1 } ?? oldest.map { $0 - 1 }
    }
    guard let oldest else {
      isSearching = false
      action = live  // the ring holds everything, and that is less than was asked for
      return nil
    }
    history(through: oldest - 1, throughSeq: acknowledged, tail: tail - matches.count, then: .live)
    return nil
  }

  /// The last number is known, and the last `tail` records could be counted off from it: the position is where they begin.
  public mutating func located() {
    isSearching = false
    action = live
  }

  /// It is known how far the records go.
  /// - Parameters:
  ///   - last: the last number it has, 0 for none.
  ///   - isKnown: false if exec does not know the job.
  public mutating func surveyed(last: UInt64, isKnown: Bool) {
    guard isKnown else { return askStore() }
    history(through: last, throughSeq: last, tail: task.tail, then: task.follow ? .live : .lookUp)
  }

  /// exec answered a request for live records.
  /// - Parameters:
  ///   - position: after the records it sent; where the store chooses them, before.
  ///   - seen: the last number it sent; the position before, if nothing came.
  public mutating func live(_ state: OutputState, position: UInt64, seen: UInt64, hadRecords: Bool) {
    isExecAway = false
    if task.needsStore, seen > position {
      unresolved = 0
      return history(through: seen, throughSeq: seen, tail: nil, then: .live)
    }
    switch state.state {
    case .more:
      unresolved = 0
      action = task.follow || hadRecords ? live : .finish
    case .behind:
      guard let oldest = state.oldest, oldest > position + 1 else {
        action = live
        return
      }
      history(through: oldest - 1, throughSeq: state.acknowledged.map { min($0, oldest - 1) }, tail: nil, then: .live)
    case .ended:
      guard let record = state.record else {
        action = .lookUp
        return
      }
      ended(record, position, isSaidByExec: true)
    case .unknown: askStore()
    }
  }

  /// exec could not be asked.
  public mutating func liveFailed() {
    if isExecAway {
      action = task.follow ? .pause : .finish
      return
    }
    // What is stored can be had meanwhile, and perhaps the job has ended.
    isExecAway = true
    askStore()
  }

  /// Every stored record that was asked for has been sent.
  public mutating func historyRead() {
    isSearching = false
    switch then {
    case .live: action = live
    case .lookUp:
      isAnswered = true
      action = .lookUp
    case .idle: idle()
    case .end(let end, let lastSeq): action = .end(end, lastSeq: lastSeq)
    }
  }

  /// persist could not be asked, or not to the end.
  public mutating func historyFailed(_ problem: Problem) { retryOrFail(problem) }

  /// The query was given up on purpose; it is to be asked again from the new position.
  public mutating func historyInterrupted(hadRecords: Bool) {
    guard case .history(let through, let throughSeq, _) = action, hadRecords else { return }
    // The tail's first record was sent, so all that follow it are wanted.
    isSearching = false
    action = .history(through: through, throughSeq: throughSeq, tail: nil)
  }

  /// The directory knows this of the job; nil if it is gone.
  public mutating func lookedUp(_ record: JobRecord?, position: UInt64) {
    guard let record else {
      action = .finish  // deleted: no event invents an outcome
      return
    }
    if record.status.isEnded {
      isStoreUnread = false
      if isAnswered {
        action = .end(JobEnd(record), lastSeq: nil)
      } else {
        ended(record, position, isSaidByExec: false)
      }
    } else if isStoreUnread {
      isStoreUnread = false
      history(through: nil, throughSeq: nil, tail: isSearching ? task.tail : nil, then: .idle)
    } else {
      idle()
    }
  }

  /// The job was deleted, and this is what was known of it last.
  public mutating func deleted(_ record: JobRecord?) {
    guard let record, record.status.isEnded else {
      action = .finish
      return
    }
    action = .end(JobEnd(record), lastSeq: task.isCountedByRecord ? record.lastSeq : nil)
  }

  public mutating func lookUpFailed(_ problem: Problem) { retryOrFail(problem) }

  public mutating func paused() { action = isSearching ? search : live }

  /// The client has all the records it asked for.
  public mutating func limitReached() { action = .finish }

  // MARK: Decisions

  /// exec can't say: how the job stands first, so that what is stored is then read as far as it must go.
  private mutating func askStore() {
    isStoreUnread = true
    action = .lookUp
  }

  private mutating func idle() {
    guard task.follow else {
      action = .finish
      return
    }
    unresolved += 1
    action = !isExecAway && unresolved > FollowerMachine.maxUnresolved ? .finish : .pause
  }

  private mutating func ended(_ record: JobRecord, _ position: UInt64, isSaidByExec: Bool) {
    let end = JobEnd(record)
    let tail = isSearching ? task.tail : nil
    guard task.isCountedByRecord else {
      if isSaidByExec {
        // exec says so behind the last sample only.
        action = .end(end, lastSeq: nil)
      } else {
        // An ended record is stored behind the last sample: who sees it sees them all.
        history(through: nil, throughSeq: nil, tail: tail, then: .end(end, lastSeq: nil))
      }
      return
    }
    if let last = record.lastSeq, last <= position {
      action = .end(end, lastSeq: last)
    } else {
      history(through: record.lastSeq, throughSeq: record.lastSeq, tail: tail, then: .end(end, lastSeq: record.lastSeq))
    }
  }

  private mutating func history(through: UInt64?, throughSeq: UInt64?, tail: Int?, then: Then) {
    self.then = then
    action = .history(through: through, throughSeq: throughSeq, tail: tail)
  }

  private mutating func retryOrFail(_ problem: Problem) {
    // What is wrong with a question stays wrong.
    action = task.follow && problem.kind != .invalidField ? .pause : .fail(problem)
  }
}
