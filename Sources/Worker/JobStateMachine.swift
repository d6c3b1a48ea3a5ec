/// A job's life as a pure machine: events in, actions out. It decides; ``JobSupervisor`` acts.
///
/// ```
/// queued ─▶ preparing ─▶ initializing ─▶ running ─▶ collecting ─▶ draining ─▶ gone
///    └──────────┴─────────────┴── stop: canceled ───────▲
/// ```
///
/// While it runs, its freezer has a life of its own: thawed ─▶ freezing ─▶ frozen ─▶ thawing ─▶ thawed. A stop thaws, for
/// SIGTERM waits for the thaw; a kill needs none.
package struct JobStateMachine: Sendable {
  package enum State: String, Sendable, CaseIterable {
    /// Waits for a slot.
    case queued
    /// Its intent is written; the launcher makes cgroup, plan and process.
    case preparing
    /// joblet-init lives and applies the plan.
    case initializing
    /// joblet-init has the go.
    case running
    /// The payload is gone (or never was); why is being read from the kernel.
    case collecting
    /// Its end is known; persist acknowledges what is left, and what it used is removed.
    case draining
    case gone
  }

  package enum Freezer: String, Sendable, CaseIterable {
    case thawed
    /// Asked for; not every process stands still yet.
    case freezing
    case frozen
    case thawing
  }

  package enum Event: Hashable, Sendable {
    case slotGranted
    case launched
    case launchFailed
    /// joblet-init: everything is prepared.
    case ready
    /// joblet-init: both pipes are at EOF, the status was reaped.
    case reported
    /// The sandbox did not get ready in time, or the command did not come to its exec.
    case setupOverdue
    /// joblet-init died without a report.
    case initLost
    /// The ring can't be believed.
    case ringFault
    case stopRequested(grace: Duration)
    case graceElapsed
    /// joblet-init's own time-out and its grace are well over.
    case timeoutOverdue
    case pauseRequested
    case resumeRequested
    /// The kernel: every process stands still.
    case frozen
    /// They don't, and won't in time.
    case freezeFailed
    case thawed
    /// joblet-init did not report in time after its payload was killed.
    case reportOverdue
    /// What the kernel knew is read; the end is decided.
    case collected
    /// persist has acknowledged everything.
    case settled
    /// Process, cgroup, workspace and IDs are given back.
    case tornDown
  }

  package enum Action: Hashable, Sendable {
    case launch
    /// Let the payload run: the go, and only then tell of `started`. The record with it is in the state directory since the
    /// launch, so what tells a later exec whether the command ran is the go in the ring, whatever the record says.
    case start
    /// Write the intent into the ring before any signal goes out, so that a restarted exec knows why the job ends.
    case markStopIntent
    /// SIGTERM to every process of the payload.
    case terminate
    case startGrace(Duration)
    case freeze
    case thaw
    /// The record says how the freezer is.
    case publishFreezer
    case killPayload
    case startReportTimer
    case cancelTimers
    /// Kill the whole cgroup, joblet-init too.
    case killAll
    case collect
    /// Ended without ever having had a process.
    case cancelQueued
    case publishEnd
    case releaseSlot
    case tearDown
    case forget
  }

  package private(set) var state: State
  /// A client asked for a stop.
  package private(set) var isStopping: Bool
  package private(set) var isKilled = false
  package private(set) var freezer: Freezer
  /// Of the stops asked for so far.
  private var shortestGrace: Duration?
  private var isSettled = false
  private var isTornDown = false

  package init(state: State = .queued, isStopping: Bool = false, freezer: Freezer = .thawed) {
    self.state = state
    self.freezer = freezer
    self.isStopping = isStopping
  }

  /// True if the stop came before the command could run: the job is canceled, not stopped.
  package private(set) var isCanceled = false

  package mutating func handle(_ event: Event) -> [Action] {
    switch (state, event) {
    case (.queued, .slotGranted):
      state = .preparing
      return [.launch]
    case (.queued, .stopRequested):
      isCanceled = true
      isStopping = true
      state = .draining
      isTornDown = true  // there is nothing to tear down
      return [.cancelQueued]

    case (.preparing, .launched):
      state = .initializing
      return isStopping ? cancel() : []
    case (.preparing, .launchFailed):
      return collect([])
    case (.preparing, .stopRequested):
      // The launcher can't be interrupted; what it made is killed as soon as it is there.
      isStopping = true
      return []

    case (.initializing, .ready):
      state = .running
      return [.start]
    case (.initializing, .stopRequested):
      isStopping = true
      return cancel()

    case (.running, .stopRequested(let grace)):
      guard !isKilled else { return [] }
      isStopping = true
      if let shortestGrace {
        // A second stop may shorten the grace, never lengthen it: who asks every few seconds would keep the job alive. The
        // timers that run already stay; the first to fire ends it.
        guard grace < shortestGrace else { return [] }
        self.shortestGrace = grace
        return [.startGrace(grace)]
      }
      shortestGrace = grace
      return [.markStopIntent, .terminate] + thaw() + [.cancelTimers, .startGrace(grace)]
    case (.running, .graceElapsed):
      guard isStopping, !isKilled else { return [] }
      isKilled = true
      return [.killPayload, .startReportTimer]
    case (.running, .timeoutOverdue):
      // joblet-init has killed the payload by now. What is left of it waits in the kernel, for a disk that is throttled by
      // the job's own limit: killing it from here lifts that.
      return isKilled ? [] : [.killPayload]

    case (.running, .pauseRequested):
      guard !isStopping, !isKilled, freezer == .thawed || freezer == .thawing else { return [] }
      freezer = .freezing
      return [.freeze]
    case (.running, .frozen):
      guard freezer == .freezing else { return [] }
      freezer = .frozen
      return [.publishFreezer]
    case (.running, .freezeFailed):
      guard freezer == .freezing else { return [] }
      return thaw()
    case (.running, .resumeRequested):
      return thaw()
    case (.running, .thawed):
      guard freezer == .thawing else { return [] }
      freezer = .thawed
      return [.publishFreezer]

    case (.running, .reportOverdue):
      return isKilled ? [.killAll] : []

    case (.initializing, .reported), (.running, .reported):
      return collect([])
    case (.preparing, .initLost), (.initializing, .initLost), (.running, .initLost),
      (.initializing, .setupOverdue), (.running, .setupOverdue), (.preparing, .ringFault), (.initializing, .ringFault),
      (.running, .ringFault):
      return collect([.killAll])

    case (.collecting, .collected):
      state = .draining
      return [.publishEnd, .releaseSlot, .tearDown]

    case (.draining, .settled):
      isSettled = true
      return forgetIfDone()
    case (.draining, .tornDown):
      isTornDown = true
      return forgetIfDone()

    default:
      // Everything else is late or early news of something already decided.
      return []
    }
  }

  private mutating func thaw() -> [Action] {
    guard freezer == .freezing || freezer == .frozen else { return [] }
    freezer = .thawing
    return [.thaw]
  }

  private mutating func cancel() -> [Action] {
    isCanceled = true
    return collect([.killAll])
  }

  private mutating func collect(_ first: [Action]) -> [Action] {
    state = .collecting
    return first + [.cancelTimers, .collect]
  }

  private mutating func forgetIfDone() -> [Action] {
    guard isSettled, isTornDown else { return [] }
    state = .gone
    return [.forget]
  }
}
