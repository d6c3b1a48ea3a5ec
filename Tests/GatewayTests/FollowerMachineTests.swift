import Gateway
import JobletModel
import JobletWire
import Testing

@Suite struct FollowerMachineTests {
  static func parameters(follow: Bool = true, tail: Int? = nil) -> LogParameters {
    var parameters = LogParameters()
    parameters.follow = follow
    parameters.tail = tail
    return parameters
  }

  static func record(_ status: JobStatus, lastSeq: UInt64? = nil) -> JobRecord {
    var record = RouteTests.record(1, status)
    record.lastSeq = lastSeq
    return record
  }

  @Test func pullsUntilTheEnd() {
    var machine = FollowerMachine(Self.parameters())
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 5, hadLines: true)
    #expect(machine.action == .live(wait: true))
    machine.live(OutputState(.more), position: 5, hadLines: false)
    #expect(machine.action == .live(wait: true))
    let record = Self.record(.completed, lastSeq: 5)
    machine.live(OutputState(.ended, record: record), position: 5, hadLines: false)
    #expect(machine.action == .end(JobEnd(record), lastSeq: 5))
  }

  @Test func readsHistoryWhereTheRingHasMovedOn() {
    var machine = FollowerMachine(Self.parameters())
    machine.live(OutputState(.behind, oldest: 101, acknowledged: 150), position: 0, hadLines: false)
    #expect(machine.action == .history(through: 100, throughSeq: 100, tail: nil))
    machine.historyRead()
    #expect(machine.action == .live(wait: true))
    // An answer that would lead nowhere is not followed in circles.
    machine.live(OutputState(.behind, oldest: 101, acknowledged: 150), position: 100, hadLines: false)
    #expect(machine.action == .live(wait: true))
  }

  @Test func theRestOfAnEndedJobComesFromTheStoreBeforeItsEnd() {
    var machine = FollowerMachine(Self.parameters())
    let record = Self.record(.failed, lastSeq: 9)
    machine.live(OutputState(.ended, record: record), position: 4, hadLines: false)
    #expect(machine.action == .history(through: 9, throughSeq: 9, tail: nil))
    machine.historyRead()
    #expect(machine.action == .end(JobEnd(record), lastSeq: 9))
  }

  @Test func aJobExecForgotIsLookedUp() {
    var machine = FollowerMachine(Self.parameters())
    machine.live(OutputState(.unknown), position: 0, hadLines: false)
    #expect(machine.action == .history(through: nil, throughSeq: nil, tail: nil))
    machine.historyRead()
    #expect(machine.action == .lookUp)
    var gone = machine
    gone.lookedUp(nil, position: 0)
    #expect(gone.action == .finish)
    let record = Self.record(.stopped, lastSeq: 2)
    machine.lookedUp(record, position: 2)
    #expect(machine.action == .end(JobEnd(record), lastSeq: 2))
  }

  @Test func noOutcomeIsInvented() {
    var machine = FollowerMachine(Self.parameters())
    var pauses = 0
    for _ in 0..<100 {
      switch machine.action {
      case .live: machine.live(OutputState(.unknown), position: 3, hadLines: false)
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
    var machine = FollowerMachine(Self.parameters())
    machine.liveFailed()
    #expect(machine.action == .history(through: nil, throughSeq: nil, tail: nil))
    machine.historyRead()
    machine.lookedUp(Self.record(.running), position: 0)
    // For as long as it takes: the job goes on meanwhile.
    for _ in 0..<50 {
      #expect(machine.action == .pause)
      machine.paused()
      #expect(machine.action == .live(wait: true))
      machine.liveFailed()
    }
    machine.paused()
    machine.live(OutputState(.more), position: 7, hadLines: true)
    #expect(machine.action == .live(wait: true))
    var query = FollowerMachine(Self.parameters(follow: false))
    query.liveFailed()
    query.historyRead()
    query.lookedUp(Self.record(.running), position: 0)
    #expect(query.action == .finish)
  }

  @Test func anAbsentPersistIsWaitedForOrTold() {
    let problem = Problem(.unavailable, "away")
    var machine = FollowerMachine(Self.parameters())
    machine.live(OutputState(.behind, oldest: 9, acknowledged: 8), position: 0, hadLines: false)
    machine.historyFailed(problem)
    #expect(machine.action == .pause)
    machine.paused()
    #expect(machine.action == .live(wait: true))
    var query = FollowerMachine(Self.parameters(follow: false))
    query.live(OutputState(.behind, oldest: 9, acknowledged: 8), position: 0, hadLines: false)
    query.historyFailed(problem)
    #expect(query.action == .fail(problem))
  }

  @Test func withoutFollowItStopsWhereItHasCaughtUp() {
    var machine = FollowerMachine(Self.parameters(follow: false))
    #expect(machine.action == .live(wait: false))
    machine.live(OutputState(.more), position: 5, hadLines: true)
    #expect(machine.action == .live(wait: false))
    machine.live(OutputState(.more), position: 5, hadLines: false)
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
    var machine = FollowerMachine(Self.parameters(tail: tail))
    #expect(machine.action == .measure)
    let from = machine.measured(matches: ring, oldest: oldest, acknowledged: 15, isKnown: true)
    #expect(from == start)
    if let stored {
      #expect(machine.action == .history(through: 15, throughSeq: 15, tail: stored))
    } else {
      #expect(machine.action == .live(wait: true))
    }
  }

  @Test func aTailIsMeasuredAgainAfterAFailure() {
    var machine = FollowerMachine(Self.parameters(tail: 3))
    machine.liveFailed()
    #expect(machine.action == .history(through: nil, throughSeq: nil, tail: 3))
    machine.historyFailed(Problem(.unavailable, "away"))
    machine.paused()
    #expect(machine.action == .measure)
    machine.liveFailed()
    #expect(machine.action == .pause)
  }
}
