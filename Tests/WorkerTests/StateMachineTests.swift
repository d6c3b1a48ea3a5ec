import Testing
import Worker

@Suite struct StateMachineTests {
  typealias Machine = JobStateMachine

  private func run(_ events: [Machine.Event]) -> (Machine, [Machine.Action]) {
    var machine = Machine()
    let actions = events.flatMap { machine.handle($0) }
    return (machine, actions)
  }

  static let stop = Machine.Event.stopRequested(grace: .seconds(5))
  static let started: [Machine.Event] = [.slotGranted, .launched, .ready]
  static let ending: [Machine.Action] = [.cancelTimers, .collect]
  static let over: [Machine.Action] = [.publishEnd, .releaseSlot, .tearDown]

  @Test func aJobsLife() {
    let (machine, actions) = run(Self.started + [.reported, .collected, .settled, .tornDown])
    #expect(actions == [.launch, .start] + Self.ending + Self.over + [.forget])
    #expect(machine.state == .gone)
  }

  @Test func itIsForgottenOnlyWhenItIsBothSettledAndTornDown() {
    for order: [Machine.Event] in [[.settled, .tornDown], [.tornDown, .settled]] {
      var (machine, _) = run(Self.started + [.reported, .collected])
      same(machine.handle(order[0]), [])
      same(machine.handle(order[0]), [])
      same(machine.handle(order[1]), [.forget])
      same(machine.handle(order[1]), [])
    }
  }

  @Test func aStopInTheQueueCancels() {
    let (machine, actions) = run([Self.stop, .settled])
    #expect(actions == [.cancelQueued, .forget])
    #expect(machine.isCanceled)
    #expect(machine.state == .gone)
  }

  /// A stop before the go never lets the command run, wherever it comes in between.
  @Test(
    arguments: [
      [.slotGranted, stop, .launched, .ready], [.slotGranted, .launched, stop, .ready],
    ] as [[JobStateMachine.Event]])
  func aStopBeforeTheGoCancels(events: [Machine.Event]) {
    let (machine, actions) = run(events + [.initLost, .collected])
    #expect(actions == [.launch, .killAll] + Self.ending + Self.over)
    #expect(machine.isCanceled)
  }

  @Test func aStartThatHangsEnds() {
    for events in [[.slotGranted, .launched], Self.started] as [[Machine.Event]] {
      var (machine, _) = run(events)
      same(machine.handle(.setupOverdue), [.killAll] + Self.ending)
      same(machine.handle(.setupOverdue), [])
    }
    var (machine, _) = run([])
    same(machine.handle(.setupOverdue), [])
  }

  @Test func aStopIsWrittenBeforeItIsSignalled() {
    var (machine, _) = run(Self.started)
    same(machine.handle(Self.stop), [.markStopIntent, .terminate, .cancelTimers, .startGrace(.seconds(5))])
    same(machine.handle(.graceElapsed), [.killPayload, .startReportTimer])
    same(machine.handle(.graceElapsed), [])
    same(machine.handle(Self.stop), [])
    same(machine.handle(.reportOverdue), [.killAll])
    same(machine.handle(.initLost), [.killAll] + Self.ending)
    #expect(!machine.isCanceled)
  }

  @Test func aSecondStopMayShortenTheGrace() {
    var (machine, _) = run(Self.started + [Self.stop])
    same(machine.handle(.stopRequested(grace: .zero)).last, .startGrace(.zero))
  }

  @Test(arguments: [[], started] as [[JobStateMachine.Event]])
  func aLyingRingEndsTheJob(before: [Machine.Event]) {
    var (machine, _) = run(before.isEmpty ? [.slotGranted, .launched] : before)
    same(machine.handle(.ringFault), [.killAll] + Self.ending)
  }

  @Test func aFailedLaunchIsAnEnd() {
    let (machine, actions) = run([.slotGranted, .launchFailed, .collected, .tornDown, .settled])
    #expect(actions == [.launch] + Self.ending + Self.over + [.forget])
    #expect(machine.state == .gone)
  }

  @Test func aSetupThatFailsNeedsNoGo() {
    let (_, actions) = run([.slotGranted, .launched, .reported, .collected])
    #expect(!actions.contains(.start))
    #expect(actions.contains(.publishEnd))
  }

  @Test func aPauseAndItsEnd() {
    var (machine, _) = run(Self.started)
    same(machine.handle(.resumeRequested), [])
    same(machine.handle(.pauseRequested), [.freeze])
    same(machine.handle(.pauseRequested), [])
    same(machine.handle(.frozen), [.publishFreezer])
    same(machine.handle(.pauseRequested), [])
    same(machine.freezer, .frozen)
    same(machine.handle(.resumeRequested), [.thaw])
    same(machine.handle(.resumeRequested), [])
    // Late news of the freeze before changes nothing.
    same(machine.handle(.frozen), [])
    same(machine.handle(.thawed), [.publishFreezer])
    same(machine.freezer, .thawed)
    same(machine.state, .running)
  }

  /// SIGTERM waits for the thaw.
  @Test(arguments: [[.pauseRequested], [.pauseRequested, .frozen]] as [[JobStateMachine.Event]])
  func aStopThaws(events: [Machine.Event]) {
    var (machine, _) = run(Self.started + events)
    same(
      machine.handle(Self.stop), [.markStopIntent, .terminate, .thaw, .cancelTimers, .startGrace(.seconds(5))])
    same(machine.handle(.pauseRequested), [])
    same(machine.handle(.frozen), [])
    same(machine.handle(.thawed), [.publishFreezer])
  }

  @Test func whatCanNotBeFrozenGoesOn() {
    var (machine, _) = run(Self.started + [.pauseRequested])
    same(machine.handle(.freezeFailed), [.thaw])
    same(machine.handle(.thawed), [.publishFreezer])
    same(machine.handle(.pauseRequested), [.freeze])
  }

  @Test func onlyARunningJobIsPaused() {
    for events: [Machine.Event] in [[], [.slotGranted], [.slotGranted, .launched], Self.started + [.reported]] {
      var (machine, _) = run(events)
      same(machine.handle(.pauseRequested), [])
      same(machine.handle(.resumeRequested), [])
    }
  }

  /// A job whose processes wait for a disk that its own limit slows down is killed from here too, but joblet-init, which may
  /// have output to deliver, is not.
  @Test func anOverdueTimeoutIsSeenTo() {
    var (machine, _) = run(Self.started)
    same(machine.handle(.timeoutOverdue), [.killPayload])
    same(machine.handle(.reported), Self.ending)
    var (early, _) = run([.slotGranted, .launched])
    same(early.handle(.timeoutOverdue), [])
  }

  /// Every order of six events of a running job, from every state of its freezer: what the kernel was asked for last is what
  /// the machine says, and nothing that is being stopped stands still.
  @Test(arguments: JobStateMachine.Freezer.allCases)
  func theFreezerIsWhatItIsSaidToBe(first: Machine.Freezer) {
    let events: [Machine.Event] = [
      .pauseRequested, .resumeRequested, .frozen, .freezeFailed, .thawed, Self.stop, .graceElapsed, .timeoutOverdue,
    ]
    for number in 0..<(events.count * events.count * events.count * events.count * events.count * events.count) {
      var machine = Machine(state: .running, freezer: first)
      var isAsked = first == .freezing || first == .frozen
      var rest = number
      for _ in 0..<6 {
        for action in machine.handle(events[rest % events.count]) {
          if action == .freeze { isAsked = true }
          if action == .thaw { isAsked = false }
        }
        rest /= events.count
      }
      let isFrozen = machine.freezer == .freezing || machine.freezer == .frozen
      guard isFrozen == isAsked, !(machine.isStopping && isAsked) else {
        Issue.record("order \(number) from \(first): \(machine.freezer), asked for: \(isAsked)")
        return
      }
    }
  }

  static let allEvents: [Machine.Event] = [
    .slotGranted, .launched, .launchFailed, .ready, .reported, .initLost, .ringFault, stop, .graceElapsed,
    .reportOverdue, .collected, .settled, .tornDown,
  ]

  /// Every order of five events, from every state: no end is published twice, no slot given back twice, nothing started
  /// after a stop, nothing launched twice.
  @Test(arguments: JobStateMachine.State.allCases)
  func noOrderOfEventsDoesAnythingTwice(state: Machine.State) {
    let events = Self.allEvents
    let count = events.count
    for number in 0..<(count * count * count * count * count) {
      var machine = Machine(state: state)
      var rest = number
      var launches = 0
      var starts = 0
      var ends = 0
      var releases = 0
      var stopped = false
      for _ in 0..<5 {
        let event = events[rest % count]
        rest /= count
        if event == Self.stop, machine.state != .collecting, machine.state != .draining { stopped = true }
        for action in machine.handle(event) {
          switch action {
          case .launch: launches += 1
          case .start:
            starts += 1
            if stopped { Issue.record("started after a stop: \(number)") }
          case .publishEnd, .cancelQueued: ends += 1
          case .releaseSlot: releases += 1
          default: break
          }
        }
      }
      if launches > 1 || starts > 1 || ends > 1 || releases > 1 {
        Issue.record("order \(number) from \(state): \(launches) \(starts) \(ends) \(releases)")
        return
      }
    }
  }
}
