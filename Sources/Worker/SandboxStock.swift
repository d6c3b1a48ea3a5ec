import Glibc
import JobletModel
import LinuxKernel
import Logging
import Sandbox
import Synchronization

/// Where a launch gets its sandbox from.
package protocol SandboxSource: Sendable {
  /// One that nobody else has. Blocks if it has to be made first.
  func take() throws(SetupProblem) -> PreparedSandbox
  /// One that was taken and can't be used: it goes, with all it has.
  func discard(_ sandbox: PreparedSandbox)
}

/// Sandboxes made ahead of need (`isolation.prepared`), so that a job's start waits for nothing that could have been done before.
package final class SandboxStock: SandboxSource {
  private struct State: ~Copyable {
    var ready: [PreparedSandbox] = []
    var isFilling = false
    var isOpen = false
    /// Jobs that found neither a sandbox nor a range of IDs to make one with.
    var waiting = 0
    var lastTake = ContinuousClock.now
  }
  private let state = Mutex(State())
  private let size: Int
  private let maker: SandboxMaker
  private let teardown: JobTeardown
  private let filler: WorkQueue
  private let logger: Logger
  /// How long a job waits where all ranges of IDs are in use.
  private let patience: Duration
  /// The stock is filled while no job starts: what fills it would take its time from them.
  private let rest = Duration.milliseconds(3)

  /// - Parameter patience: how long a job waits for a range of IDs; nil: as long as a removal, which gives one back, may take.
  package init(
    maker: SandboxMaker, size: Int, teardown: JobTeardown, patience: Duration? = nil, filler: WorkQueue, logger: Logger
  ) {
    self.patience = patience ?? teardown.timeout
    self.maker = maker
    self.size = size
    self.teardown = teardown
    self.filler = filler
    self.logger = logger
  }

  /// How many wait for a job.
  package var count: Int { state.withLock { $0.ready.count } }

  /// Begins to fill it. Not before what an earlier exec left is removed: its ID ranges would be taken twice.
  package func open() {
    state.withLock { $0.isOpen = true }
    fill()
  }

  /// Removes all of it. Blocks.
  package func close() {
    let rest = state.withLock { state in
      state.isOpen = false
      defer { state.ready.removeAll() }
      return state.ready
    }
    for sandbox in rest { remove(sandbox) }
  }

  package func take() throws(SetupProblem) -> PreparedSandbox {
    defer { fill() }
    state.withLock { $0.lastTake = .now }
    if let sandbox = try takeNow() { return sandbox }
    // The last range may be the filler's at this moment, or come back from a job that has ended: whichever it is, the sandbox or
    // the range, the next look finds it.
    let deadline = ContinuousClock.now + patience
    state.withLock { $0.waiting += 1 }
    defer { state.withLock { $0.waiting -= 1 } }
    repeat {
      usleep(2000)
      if let sandbox = try takeNow() { return sandbox }
    } while ContinuousClock.now < deadline
    throw SetupProblem(
      step: "user namespace", message: "every ID range of isolation.id_pool is in use; make the pool larger")
  }

  /// One of the stock, or a new one; nil if there is no range of IDs to make one with.
  private func takeNow() throws(SetupProblem) -> PreparedSandbox? {
    while let sandbox = state.withLock({ $0.ready.isEmpty ? nil : $0.ready.removeFirst() }) {
      if isUsable(sandbox) { return sandbox }
      discard(sandbox)
    }
    return try maker.make()
  }

  /// Ready, or about to be. One whose joblet-init died, or could not do its part, is thrown away, and the reason is told: a job
  /// that finds none left makes its own, and fails with that reason if it is still there.
  private func isUsable(_ sandbox: PreparedSandbox) -> Bool {
    do {
      switch try sandbox.phase() {
      case .new, .ready: return true
      case .ended:
        let ring = sandbox.files.ring
        let problem = SetupProblem(
          SetupFailure(
            setupStep: ring.load32(RingLayout.Field.setupStep),
            setupErrno: Int32(bitPattern: ring.load32(RingLayout.Field.setupErrno))),
          plans: [maker.plan.plan], command: "")
        logger.error("a prepared sandbox failed", metadata: ["step": "\(problem.step)", "error": "\(problem.message)"])
      case .running, nil:
        logger.warning("a prepared sandbox's joblet-init is gone", metadata: ["sandbox": "\(sandbox.name)"])
      }
    } catch {
      logger.error("a prepared sandbox can't be looked at", metadata: ["error": "\(error)"])
    }
    return false
  }

  package func discard(_ sandbox: PreparedSandbox) { filler.submit { [self] in remove(sandbox) } }

  private func remove(_ sandbox: PreparedSandbox) {
    do {
      try teardown.remove(sandbox.name, cgroup: "\(sandbox.name)", process: sandbox.process)
      sandbox.directory.remove()
      maker.namespaces.giveBack(sandbox.firstID)
    } catch {
      logger.error(
        "a sandbox could not be removed; the next start of joblet-exec tries again",
        metadata: ["sandbox": "\(sandbox.name)", "error": "\(error)"])
    }
  }

  private func fill() {
    let start = state.withLock { state in
      guard state.isOpen, !state.isFilling, state.ready.count < size else { return false }
      state.isFilling = true
      return true
    }
    if start { filler.submit { [self] in fillNow() } }
  }

  private func fillNow() {
    while wantsMore() {
      waitForQuiet()
      guard makeOne() else { return state.withLock { $0.isFilling = false } }
    }
  }

  /// Not while a job waits: it makes its own of the next range, and one that is made for it here would only reach it later. That
  /// the filling ends is noted with the same look, so the job that waited starts it again.
  private func wantsMore() -> Bool {
    state.withLock { state in
      state.isFilling = state.isOpen && state.waiting == 0 && state.ready.count < size
      return state.isFilling
    }
  }

  /// - Returns: false if there is no use in trying for another; the next job that takes one tries again.
  private func makeOne() -> Bool {
    do {
      guard let sandbox = try maker.make() else { return false }
      let isKept = state.withLock { state in
        guard state.isOpen else { return false }
        state.ready.append(sandbox)
        return true
      }
      if !isKept { remove(sandbox) }
      return isKept
    } catch {
      // The next job tells its owner.
      logger.error(
        "a sandbox could not be prepared", metadata: ["step": "\(error.step)", "error": "\(error.message)"])
      return false
    }
  }

  /// Until no job has taken one for a moment, unless half of the stock is gone or a job waits: what gives ranges back may be
  /// waiting for this thread.
  private func waitForQuiet() {
    while true {
      let pause = state.withLock { state -> Duration in
        state.waiting > 0 || state.ready.count * 2 < size ? .zero : rest - (ContinuousClock.now - state.lastTake)
      }
      guard pause > .zero else { return }
      usleep(UInt32(pause / .microseconds(1)) + 1)
    }
  }

  /// Removes the sandboxes of an exec that is gone. Blocks.
  /// - Parameters:
  ///   - root: where they have their state directories.
  ///   - claimed: cgroups of jobs. A crash in the middle of a claim leaves a directory of the sandbox's name beside the job's, and
  ///     what it names must live.
  package static func removeLeftovers(
    in root: String, claimed: Set<String>, teardown: JobTeardown, namespaces: NamespaceStock, logger: Logger
  ) throws(Errno) {
    for name in try JobStateDirectory.jobs(root: root) {
      let directory = JobStateDirectory(root: root, job: name)
      do {
        if !claimed.contains("\(name)") { try teardown.remove(name, cgroup: "\(name)", process: nil) }
        directory.remove()
      } catch {
        logger.error(
          "a sandbox of an earlier joblet-exec could not be removed",
          metadata: ["sandbox": "\(name)", "error": "\(error)"])
        // Somebody may still have its IDs.
        do { if let note = try directory.loadLaunch() { _ = namespaces.adopt(note.firstID) } } catch { continue }
      }
    }
  }
}
