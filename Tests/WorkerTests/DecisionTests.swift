import Cgroups
import JobletModel
import Testing
import Worker

@Suite struct OutcomeTests {
  private func facts(
    _ end: InitEnd?, timedOut: Bool = false, stopReached: Bool = false, _ change: (inout EndFacts) -> Void = { _ in }
  ) -> EndFacts {
    var facts = EndFacts()
    facts.report = end.map {
      EndReport(end: $0, timedOut: timedOut, stopReached: stopReached, startedAt: nil, endedAt: nil)
    }
    change(&facts)
    return facts
  }

  private func outcome(_ facts: EndFacts) -> [String] {
    let outcome = JobOutcome(facts)
    return [
      outcome.status.rawValue, outcome.reason?.rawValue ?? "-", outcome.exitCode.map(String.init) ?? "-",
      outcome.signal.map(String.init) ?? "-",
    ]
  }

  @Test func everyEndIsToldAsItWas() {
    #expect(outcome(facts(.exited(0))) == ["COMPLETED", "-", "0", "-"])
    #expect(outcome(facts(.exited(3))) == ["FAILED", "exit_code", "3", "-"])
    #expect(outcome(facts(.signaled(11))) == ["FAILED", "signal", "-", "11"])
    let own = MemoryEvents(limitReached: 1, kills: 1)
    #expect(outcome(facts(.signaled(9)) { $0.memoryEvents = own }) == ["FAILED", "oom_killed", "-", "9"])
    for events in [
      MemoryEvents(limitReached: 0, kills: 0), MemoryEvents(limitReached: 1, kills: 0),
      // The node's memory ended, not the job's.
      MemoryEvents(limitReached: 0, kills: 1),
    ] {
      #expect(outcome(facts(.signaled(9)) { $0.memoryEvents = events }) == ["FAILED", "signal", "-", "9"])
    }
    // A command that survived the kill of one of its children and said it was well is believed.
    #expect(outcome(facts(.exited(0)) { $0.memoryEvents = own }) == ["COMPLETED", "-", "0", "-"])
    #expect(outcome(facts(.signaled(15), timedOut: true)) == ["FAILED", "timeout", "-", "15"])
    #expect(outcome(facts(.exited(0), timedOut: true)) == ["FAILED", "timeout", "0", "-"])
    #expect(outcome(facts(.signaled(9), timedOut: true) { $0.stopIntent = true }) == ["FAILED", "timeout", "-", "9"])
    #expect(outcome(facts(.signaled(15)) { $0.stopIntent = true }) == ["STOPPED", "-", "-", "15"])
    #expect(
      outcome(facts(.signaled(9), timedOut: true) { $0.report?.violation = .init(call: nil, architecture: 0) })
        == ["FAILED", "seccomp_violation", "-", "9"])
    #expect(outcome(facts(.exited(0), stopReached: true) { $0.stopIntent = true }) == ["STOPPED", "-", "0", "-"])
    #expect(outcome(facts(.exited(3), stopReached: true) { $0.stopIntent = true }) == ["STOPPED", "-", "3", "-"])
    #expect(outcome(facts(.signaled(11), stopReached: true) { $0.stopIntent = true }) == ["STOPPED", "-", "-", "11"])
    // A stop that came after the command's own end, while its output was on the way, ended nothing.
    #expect(outcome(facts(.exited(0)) { $0.stopIntent = true }) == ["COMPLETED", "-", "0", "-"])
    #expect(outcome(facts(.exited(3)) { $0.stopIntent = true }) == ["FAILED", "exit_code", "3", "-"])
    #expect(outcome(facts(.signaled(11)) { $0.stopIntent = true }) == ["FAILED", "signal", "-", "11"])
    // Killed when its grace was over, before joblet-init could pass SIGTERM on.
    #expect(outcome(facts(.signaled(9)) { $0.stopIntent = true }) == ["STOPPED", "-", "-", "9"])
    #expect(outcome(facts(nil)) == ["FAILED", "init_lost", "-", "-"])
    #expect(outcome(facts(nil) { $0.stopIntent = true }) == ["STOPPED", "-", "-", "-"])
    #expect(outcome(facts(nil) { $0.isCanceled = true }) == ["CANCELED", "-", "-", "-"])
    #expect(outcome(facts(.exited(0)) { $0.fault = "x" }) == ["FAILED", "init_lost", "-", "-"])
  }

  @Test func theMessageSaysWhatTheKernelKnows() {
    func message(_ change: (inout EndFacts) -> Void) -> String? {
      JobOutcome(facts(.signaled(9)) { change(&$0) }).message
    }
    let own = MemoryEvents(limitReached: 3, kills: 2)
    #expect(
      message {
        $0.memoryEvents = own
        $0.memoryLimitMB = 48
        $0.memoryPeakBytes = 48 << 20 - 1
      } == "the kernel killed it for reaching its memory limit of 48 MiB (signal 9, at most 48.0 MiB used)")
    // A kernel before 5.19 has no memory.peak.
    #expect(
      message {
        $0.memoryEvents = own
        $0.memoryLimitMB = 48
      } == "the kernel killed it for reaching its memory limit of 48 MiB (signal 9)")
    #expect(
      message { $0.memoryEvents = MemoryEvents(limitReached: 0, kills: 1) }?.contains("not for a limit of its own")
        == true)
  }

  @Test func aSetupFailureNamesItsStep() {
    let failed = facts(.setup(step: 1, error: 2)) {
      $0.setup = SetupProblem(step: "exec", message: "no such file or directory: foo (ENOENT)", exitCode: 127)
    }
    #expect(outcome(failed) == ["FAILED", "setup_failed", "127", "-"])
    #expect(JobOutcome(failed).message == "exec: no such file or directory: foo (ENOENT)")
  }
}

@Suite struct AdoptionTests {
  static let cases: [(JobStatus, RingPhase?, Bool, Bool, AdoptionDecision)] = [
    (.queued, nil, false, false, .requeue),
    (.initializing, nil, false, false, .requeue),
    (.initializing, .new, false, false, .requeue),
    (.initializing, .new, false, true, .requeue),
    (.initializing, .ready, false, true, .requeue),
    (.initializing, .ready, false, false, .requeue),
    (.initializing, .ready, true, false, .lost),
    (.initializing, .running, false, false, .lost),
    (.initializing, .ended, false, true, .collect),
    (.running, .running, true, true, .supervise),
    (.running, .running, true, false, .lost),
    (.running, .ended, true, true, .collect),
    (.running, .ended, true, false, .collect),
    (.running, nil, true, false, .lost),
    (.completed, .ended, true, true, .drain),
    (.failed, nil, false, false, .drain),
    (.canceled, nil, false, false, .drain),
  ]

  @Test(arguments: cases.indices)
  func whatIsFoundDecides(index: Int) {
    let (status, phase, hasGo, isAlive, decision) = AdoptionTests.cases[index]
    #expect(
      AdoptionDecision(AdoptionFacts(status: status, phase: phase, hasGo: hasGo, isInitAlive: isAlive)) == decision)
  }

  /// A command never runs twice: what may have run is never queued again.
  @Test func whatMayHaveRunIsNeverStartedAgain() {
    for status in JobStatus.allCases where status != .queued {
      for phase in [nil, RingPhase.new, .ready, .running, .ended] {
        for isAlive in [true, false] {
          let facts = AdoptionFacts(status: status, phase: phase, hasGo: true, isInitAlive: isAlive)
          #expect(AdoptionDecision(facts) != .requeue)
        }
      }
    }
  }
}

@Suite struct IDRangePoolTests {
  @Test func noRangeIsGivenTwice() {
    var pool = IDRangePool(first: 1_000_000, count: 4 * 65_536 + 100)
    let taken = (0..<4).compactMap { _ in pool.take() }
    #expect(Set(taken) == [1_000_000, 1_065_536, 1_131_072, 1_196_608])
    same(pool.take(), nil)
    pool.giveBack(1_065_536)
    same(pool.take(), 1_065_536)
    #expect(pool.free == 0)
  }

  @Test func aRangeRestsBeforeItIsUsedAgain() {
    var pool = IDRangePool(first: 0, count: 3 * 65_536)
    let first = pool.take()
    pool.giveBack(first ?? 0)
    different(pool.take(), first)
  }

  @Test func onlyItsOwnFreeRangesAreAdopted() {
    var pool = IDRangePool(first: 65_536, count: 2 * 65_536)
    holds(pool.adopt(131_072))
    holds(!pool.adopt(131_072))
    holds(!pool.adopt(0))
    holds(!pool.adopt(65_537))
    holds(!pool.adopt(196_608))
    same(pool.take(), 65_536)
    same(pool.take(), nil)
  }

  @Test func theLastIDIsNeverGiven() {
    var pool = IDRangePool(first: .max - 65_536, count: .max)
    same(pool.take(), .max - 65_536)
    same(pool.take(), nil)
  }
}

@Suite struct AdmissionQueueTests {
  private let jobs = (0..<10).map { JobID(high: 1, low: $0) }

  @Test func jobsWaitInOrderAndTheQueueHasAnEnd() {
    var queue = AdmissionQueue(maxRunning: 2, maxQueue: 3)
    same(jobs[0..<6].map { queue.admit($0) }, [.start, .start, .wait, .wait, .wait, .refuse])
    same(queue.next(), nil)
    queue.remove(jobs[0])
    // A newcomer does not overtake those who wait.
    same(queue.admit(jobs[6]), .refuse)
    queue.remove(jobs[3])
    same(queue.next(), jobs[2])
    same(queue.next(), nil)
    queue.remove(jobs[1])
    same(queue.next(), jobs[4])
    #expect(queue.runningCount == 2)
    #expect(queue.waitingCount == 0)
  }

  @Test func withoutABoundEveryJobStarts() {
    var queue = AdmissionQueue(maxRunning: 0, maxQueue: 0)
    same(jobs.map { queue.admit($0) }, Array(repeating: .start, count: 10))
  }

  @Test func adoptedJobsCountWhateverTheBoundSays() {
    var queue = AdmissionQueue(maxRunning: 1, maxQueue: 1)
    queue.adoptRunning(jobs[0])
    queue.adoptRunning(jobs[1])
    queue.adoptWaiting(jobs[2])
    queue.remove(jobs[0])
    same(queue.next(), nil)
    queue.remove(jobs[1])
    same(queue.next(), jobs[2])
  }

  @Test func aLongQueueKeepsItsOrder() {
    var queue = AdmissionQueue(maxRunning: 1, maxQueue: 5000)
    let many = (0..<4000).map { JobID(high: 2, low: $0) }
    for job in many { _ = queue.admit(job) }
    var order: [JobID] = [many[0]]
    while let last = order.last {
      queue.remove(last)
      guard let next = queue.next() else { break }
      order.append(next)
    }
    #expect(order == many)
  }
}

@Suite struct TimerQueueTests {
  @Test func timersFireInOrderOfTheirDeadlines() {
    var queue = TimerQueue()
    let start = ContinuousClock.now
    var fired: [Int] = []
    for delay in [5, 1, 3, 2, 4] { _ = queue.add(deadline: start + .seconds(delay)) { fired.append(delay) } }
    let cancelled = queue.add(deadline: start + .seconds(2)) { fired.append(99) }
    queue.cancel(cancelled)
    #expect(queue.timeoutMilliseconds(at: start) == 1000)
    for handler in queue.due(at: start + .seconds(3)) { handler() }
    #expect(fired == [1, 2, 3])
    for handler in queue.due(at: start + .seconds(9)) { handler() }
    #expect(fired == [1, 2, 3, 4, 5])
    #expect(queue.timeoutMilliseconds(at: start) == -1)
  }

  @Test func aSleepIsRoundedUpSoThatItIsNeverTooShort() {
    var queue = TimerQueue()
    let start = ContinuousClock.now
    _ = queue.add(deadline: start + .microseconds(1)) {}
    #expect(queue.timeoutMilliseconds(at: start) == 1)
    #expect(queue.timeoutMilliseconds(at: start + .seconds(1)) == 0)
  }
}
