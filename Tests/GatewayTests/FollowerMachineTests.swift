import Gateway
import JobletModel
import JobletWire
import Testing

@Suite struct FollowerMachineTests {
  static func machine(
    follow: Bool = true, tail: Int? = nil, needsStore: Bool = false, isCounted: Bool = true
  ) -> FollowerMachine {
    FollowerMachine(.init(follow: follow, tail: tail, needsStore: needsStore, isCountedByRecord: isCounted))
  }

  static func record(_ status: JobStatus, lastSeq: UInt64? = nil) -> JobRecord {
    var record = RouteTests.record(1, status)
    record.lastSeq = lastSeq
    return record
  }

  @Test func pullsUntilTheEnd() {
    var machine = Self.machine()
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 5, seen: 5, hadRecords: true)
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 5, seen: 5, hadRecords: false)
    #expect(machine.action == .live(wait: true))
    let record = Self.record(.completed, lastSeq: 5)
    machine.live(OutputState(.ended, record: record), position: 5, seen: 5, hadRecords: false)
    #expect(machine.action == .end(JobEnd(record), lastSeq: 5))
  }

  @Test func readsHistoryWhereTheRingHasMovedOn() {
    var machine = Self.machine()
    machine.live(OutputState(.behind, oldest: 101, acknowledged: 150), position: 0, seen: 0, hadRecords: false)
    #expect(machine.action == .history(through: 100, throughSeq: 100, tail: nil))
    machine.historyRead()
    #expect(machine.action == .live(wait: true))
    // An answer that would lead nowhere is not followed in circles.
    machine.live(OutputState(.behind, oldest: 101, acknowledged: 150), position: 100, seen: 100, hadRecords: false)
    #expect(machine.action == .live(wait: true))
  }

  @Test func theRestOfAnEndedJobComesFromTheStoreBeforeItsEnd() {
    var machine = Self.machine()
    let record = Self.record(.failed, lastSeq: 9)
    machine.live(OutputState(.ended, record: record), position: 4, seen: 4, hadRecords: false)
    #expect(machine.action == .history(through: 9, throughSeq: 9, tail: nil))
    machine.historyRead()
    #expect(machine.action == .end(JobEnd(record), lastSeq: 9))
  }

  @Test func aJobExecForgotIsLookedUp() {
    var machine = Self.machine()
    machine.live(OutputState(.unknown), position: 0, seen: 0, hadRecords: false)
    // How it ended is asked first: only then is known how far the store must have come.
    #expect(machine.action == .lookUp)
    var gone = machine
    gone.lookedUp(nil, position: 0)
    #expect(gone.action == .finish)
    let record = Self.record(.stopped, lastSeq: 2)
    machine.lookedUp(record, position: 0)
    #expect(machine.action == .history(through: 2, throughSeq: 2, tail: nil))
    machine.historyRead()
    #expect(machine.action == .end(JobEnd(record), lastSeq: 2))
  }

  @Test func noOutcomeIsInvented() {
    var machine = Self.machine()
    var pauses = 0
    for _ in 0..<100 {
      switch machine.action {
      case .live: machine.live(OutputState(.unknown), position: 3, seen: 3, hadRecords: false)
      case .history: machine.historyRead()
      case .lookUp: machine.lookedUp(Self.record(.running), position: 3)
      case .pause:
        pauses += 1
        machine.paused()
      default: break
      }
    }
    #expect(machine.action == .finish)
    #expect(pauses == 10)
  }

  @Test func anAbsentExecIsWaitedForByWhoFollows() {
    var machine = Self.machine()
    machine.liveFailed()
    #expect(machine.action == .lookUp)
    machine.lookedUp(Self.record(.running), position: 0)
    #expect(machine.action == .history(through: nil, throughSeq: nil, tail: nil))
    machine.historyRead()
    // For as long as it takes: the job goes on meanwhile.
    for _ in 0..<50 {
      #expect(machine.action == .pause)
      machine.paused()
      #expect(machine.action == .live(wait: true))
      machine.liveFailed()
    }
    machine.paused()
    machine.live(OutputState(.more), position: 7, seen: 7, hadRecords: true)
    #expect(machine.action == .live(wait: true))
    var query = Self.machine(follow: false)
    query.liveFailed()
    query.lookedUp(Self.record(.running), position: 0)
    query.historyRead()
    #expect(query.action == .finish)
  }

  @Test func anAbsentPersistIsWaitedForOrTold() {
    let problem = Problem(.unavailable, "away")
    var machine = Self.machine()
    machine.live(OutputState(.behind, oldest: 9, acknowledged: 8), position: 0, seen: 0, hadRecords: false)
    machine.historyFailed(problem)
    #expect(machine.action == .pause)
    machine.paused()
    #expect(machine.action == .live(wait: true))
    var query = Self.machine(follow: false)
    query.live(OutputState(.behind, oldest: 9, acknowledged: 8), position: 0, seen: 0, hadRecords: false)
    query.historyFailed(problem)
    #expect(query.action == .fail(problem))
  }

  @Test func withoutFollowItStopsWhereItHasCaughtUp() {
    var machine = Self.machine(follow: false)
    #expect(machine.action == .live(wait: false))
    machine.live(OutputState(.more), position: 5, seen: 5, hadRecords: true)
    #expect(machine.action == .live(wait: false))
    machine.live(OutputState(.more), position: 5, seen: 5, hadRecords: false)
    #expect(machine.action == .finish)
  }

  @Test(
    arguments: [
      // tail, numbers in the ring, its oldest → where it starts, or what is asked of the store
      (3, [18, 19, 20], 16, 17, nil), (5, [16, 17, 18, 19, 20], 16, 15, nil), (0, [20], 16, 20, nil),
      (8, [16, 17, 18, 19, 20], 16, nil, 3), (2, [], 16, nil, 2), (9, [1, 2], nil, nil, nil),
    ] as [(Int, [UInt64], UInt64?, UInt64?, Int?)])
  func tailIsCountedOverRingAndStore(
    _ tail: Int, _ ring: [UInt64], _ oldest: UInt64?, _ start: UInt64?, _ stored: Int?
  ) {
    var machine = Self.machine(tail: tail)
    #expect(machine.action == .measure)
    let from = machine.measured(matches: ring, oldest: oldest, acknowledged: 15, isKnown: true)
    #expect(from == start)
    if let stored {
      #expect(machine.action == .history(through: 15, throughSeq: 15, tail: stored))
    } else {
      #expect(machine.action == .live(wait: true))
    }
  }

  @Test func aTailThatWasCountedOffIsLive() {
    var machine = Self.machine(tail: 3)
    machine.located()
    #expect(machine.action == .live(wait: true))
    // The ring begins behind the tail's first line: what is missing is stored, all of it wanted.
    machine.live(OutputState(.behind, oldest: 16, acknowledged: 20), position: 12, seen: 12, hadRecords: false)
    #expect(machine.action == .history(through: 15, throughSeq: 15, tail: nil))
    machine.historyFailed(Problem(.unavailable, "away"))
    machine.paused()
    #expect(machine.action == .live(wait: true))
  }

  @Test func aTailIsMeasuredAgainAfterAFailure() {
    var machine = Self.machine(tail: 3)
    machine.liveFailed()
    machine.lookedUp(Self.record(.running), position: 0)
    #expect(machine.action == .history(through: nil, throughSeq: nil, tail: 3))
    machine.historyFailed(Problem(.unavailable, "away"))
    machine.paused()
    #expect(machine.action == .measure)
    machine.liveFailed()
    #expect(machine.action == .pause)
  }

  @Test func whatOnlyTheStoreCanAnswerIsAskedAsFarAsTheRingGoes() {
    let record = Self.record(.completed, lastSeq: 30)
    var query = Self.machine(follow: false, tail: 5, needsStore: true)
    #expect(query.action == .survey)
    query.surveyed(last: 30, isKnown: true)
    #expect(query.action == .history(through: 30, throughSeq: 30, tail: 5))
    query.historyRead()
    #expect(query.action == .lookUp)
    var running = query
    running.lookedUp(Self.record(.running), position: 0)
    #expect(running.action == .finish)
    // Every line was answered for: the end is all that is left, and nothing is read a second time.
    query.lookedUp(record, position: 3)
    #expect(query.action == .end(JobEnd(record), lastSeq: nil))
    // A job that exec forgot is asked for as far as its record goes.
    var forgotten = Self.machine(follow: false, needsStore: true)
    forgotten.surveyed(last: 0, isKnown: false)
    forgotten.lookedUp(record, position: 0)
    #expect(forgotten.action == .history(through: 30, throughSeq: 30, tail: nil))
  }

  @Test func aFollowerWhoseLinesTheStoreChoosesIsWokenByTheRing() {
    var machine = Self.machine(needsStore: true)
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 4, seen: 9, hadRecords: true)
    #expect(machine.action == .history(through: 9, throughSeq: 9, tail: nil))
    machine.historyRead()
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 9, seen: 9, hadRecords: false)
    #expect(machine.action == .live(wait: true))
    let record = Self.record(.completed, lastSeq: 12)
    machine.live(OutputState(.ended, record: record), position: 9, seen: 9, hadRecords: false)
    #expect(machine.action == .history(through: 12, throughSeq: 12, tail: nil))
    machine.historyRead()
    #expect(machine.action == .end(JobEnd(record), lastSeq: 12))
  }

  @Test func samplesEndWhereExecSaysOrTheStoreDoes() {
    // The record counts lines, not samples.
    let record = Self.record(.completed, lastSeq: 900)
    var machine = Self.machine(isCounted: false)
    machine.live(OutputState(.ended, record: record), position: 3, seen: 3, hadRecords: false)
    #expect(machine.action == .end(JobEnd(record), lastSeq: nil))
    var stored = Self.machine(isCounted: false)
    stored.live(OutputState(.unknown), position: 0, seen: 0, hadRecords: false)
    stored.lookedUp(record, position: 0)
    #expect(stored.action == .history(through: nil, throughSeq: nil, tail: nil))
    stored.historyRead()
    #expect(stored.action == .end(JobEnd(record), lastSeq: nil))
  }

  @Test func aWrongQuestionIsNotAskedAgain() {
    let problem = Problem(.invalidField, "regex: no", field: "regex")
    var machine = Self.machine(needsStore: true)
    machine.live(OutputState(.more), position: 0, seen: 1, hadRecords: true)
    machine.historyFailed(problem)
    #expect(machine.action == .fail(problem))
  }

  @Test func aDeletedJobEndsAsItWasKnown() {
    let record = Self.record(.failed, lastSeq: 9)
    var machine = Self.machine()
    machine.deleted(record)
    #expect(machine.action == .end(JobEnd(record), lastSeq: 9))
    machine.deleted(Self.record(.running))
    #expect(machine.action == .finish)
    machine.deleted(nil)
    #expect(machine.action == .finish)
  }
}
