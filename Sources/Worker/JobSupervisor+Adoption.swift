import FoundationEssentials
import Glibc
import JobletModel
import LinuxKernel
import Logging
import Sandbox

/// What one state directory holds, read back.
struct FoundJob: Sendable {
  var id: JobID
  var record: JobRecord
  var request: JobRequest
  var launch: LaunchNote?
  /// The first of its host IDs, if they are marked as taken for it and for nobody else: only then it may give them back.
  var firstID: UInt32?
  var files: JobFiles?
  var process: InitProcess?
  var facts: AdoptionFacts
  /// Nobody stores what it does.
  var isLive: Bool
  /// What its request's `Idempotency-Key` is remembered by; a file of it that is damaged is no reason to give up the job.
  var key: Result<KeyedRun?, KeyFileDamage>
  var metrics: Result<MetricSeries, MetricFileDamage>
}

/// A state directory that can't be read: nothing can be said of its job, and it must not run on unseen.
struct BrokenJob: Sendable {
  var id: JobID
  var error: String
  /// Nil if not even this can be read, or there was none.
  var launch: LaunchNote?
  /// As ``FoundJob/firstID``.
  var firstID: UInt32?
  /// What its request's `Idempotency-Key` is remembered by, if it was admitted and that can be read.
  var key: KeyedRun?
  /// The name of its cgroup, as far as anything tells it.
  var cgroup: String { launch?.cgroup ?? "\(id)" }

  init(_ id: JobID, _ error: any Error, root: String) {
    self.id = id
    self.error = "\(error)"
    let directory = JobStateDirectory(root: root, job: id)
    do { launch = try directory.loadLaunch() } catch { self.error += "; \(error)" }
    // Without a record it was never admitted: whoever asked for it got an error, and asks again for a job.
    guard directory.hasRecord else { return }
    do { key = try directory.loadKey() } catch { self.error += "; \(error)" }
  }
}

extension FoundJob {
  /// Reads a job's state directory. Blocks; never throws for a missing piece that a crash explains.
  static func read(_ id: JobID, root: String) throws -> FoundJob {
    let directory = JobStateDirectory(root: root, job: id)
    let record = try directory.loadRecord()
    let request = try directory.loadRequest()
    let launch = try directory.loadLaunch()
    var files: JobFiles?
    if access(directory.ring, F_OK) == 0 {
      do {
        files = try JobFiles(opening: directory)
      } catch {
        // Cut off while it was made: no joblet-init was ever given it. With a launch note, or an end, it was, and then it is damage.
        if launch != nil || record.status.isEnded { throw error }
      }
    }
    let process = try launch.flatMap { try findInit($0) }
    let ring = files?.ring
    let metrics: Result<MetricSeries, MetricFileDamage>
    do {
      metrics = .success(try directory.loadMetrics())
    } catch let damage as MetricFileDamage {
      metrics = .failure(damage)  // no reason to give up the job
    }
    let key = Result { () throws(KeyFileDamage) in try directory.loadKey() }
    return FoundJob(
      id: id, record: record, request: request, launch: launch, files: files, process: process,
      facts: AdoptionFacts(
        status: record.status, phase: ring.flatMap { RingPhase(rawValue: $0.load32(RingLayout.Field.phase)) },
        hasGo: ring.map { $0.load32(RingLayout.Field.go) != 0 } ?? false, isInitAlive: process != nil),
      isLive: directory.isLive, key: key, metrics: metrics)
  }

  /// The process that was written down, if it is still that one: a PID alone may have been given to another.
  static func findInit(_ note: LaunchNote) throws(Errno) -> InitProcess? {
    do {
      // The handle first, the check after: from the handle on, the PID can't change its meaning.
      let handle = try ProcessHandle.open(pid: note.pid)
      guard try handle.isAlive(), try handle.startTime() == note.startTime else { return nil }
      return InitProcess(handle)
    } catch {
      guard error.code == ESRCH || error.code == ENOENT else { throw error }
      return nil
    }
  }
}

extension JobSupervisor {
  /// Takes over what an earlier exec left, before anything else: running jobs keep their supervision, whatever the gate says.
  /// - Returns: how many jobs were found.
  package func adopt() async throws -> Int {
    let root = settings.stateRoot
    var (found, broken) = try await removing.run {
      var found: [FoundJob] = []
      var broken: [BrokenJob] = []
      for id in try JobStateDirectory.jobs(root: root) {
        do { found.append(try FoundJob.read(id, root: root)) } catch { broken.append(BrokenJob(id, error, root: root)) }
      }
      return (found, broken)
    }
    try await openKeys(found.compactMap(key), broken: broken.compactMap(\.key))
    // IDs first: no new namespace may get the range of a job that lives. Should two notes name the same one, it is the one's that
    // certainly lives, then the one's of which nobody knows.
    for index in found.indices where found[index].facts.isInitAlive { found[index].firstID = takeIDs(found[index]) }
    for index in broken.indices { broken[index].firstID = takeIDs(broken[index].id, broken[index].launch) }
    for index in found.indices where !found[index].facts.isInitAlive { found[index].firstID = takeIDs(found[index]) }
    // After the IDs are marked, and before any new sandbox is made.
    try await removeLeftovers(claimed: Set(found.compactMap { $0.launch?.cgroup } + broken.map(\.cgroup)))
    // Those that live first: their supervision must not wait behind a removal, which can be slow.
    for job in found where AdoptionDecision(job.facts) != .requeue { try await adopt(job) }
    for job in found where AdoptionDecision(job.facts) == .requeue { try await adopt(job) }
    try await endStrays(broken)
    return found.count
  }

  private func key(_ found: FoundJob) -> KeyedRun? {
    do { return try found.key.get() } catch {
      logger.error(
        "an adopted job's Idempotency-Key is forgotten: its file can't be read; the same request would start another job",
        metadata: ["job": "\(found.id)", "error": "\(error)"])
      return nil
    }
  }

  private func takeIDs(_ found: FoundJob) -> UInt32? { takeIDs(found.id, found.launch) }

  /// - Returns: the first of a job's host IDs, if the job is now the one that has them.
  private func takeIDs(_ id: JobID, _ note: LaunchNote?) -> UInt32? {
    guard let note else { return nil }
    if launcher.namespaces.adopt(note.firstID) { return note.firstID }
    logger.warning(
      "an adopted job's IDs are outside isolation.id_pool or in use twice",
      metadata: ["job": "\(id)", "first_id": "\(note.firstID)"])
    return nil
  }

  /// The sandboxes that waited for a job when the exec before ended: whether they are whole nobody knows, and new ones are cheap.
  private func removeLeftovers(claimed: Set<String>) async throws {
    let (root, teardown, namespaces, logger) = (settings.preparedRoot, teardown, launcher.namespaces, logger)
    try await removing.run {
      try SandboxStock.removeLeftovers(
        in: root, claimed: claimed, teardown: teardown, namespaces: namespaces, logger: logger)
    }
  }

  private func adopt(_ found: FoundJob) async throws {
    let decision = AdoptionDecision(found.facts)
    logger.info("adopting a job", metadata: ["job": "\(found.id)", "decision": "\(decision)"])
    let state: JobStateMachine.State =
      switch decision {
      case .drain: .draining
      case .requeue: .queued
      case .supervise, .collect, .lost: .running
      }
    let stopping = found.files.map { $0.ring.load32(RingLayout.Field.stopIntent) != 0 } ?? false
    let job = SupervisedJob(
      id: found.id, directory: JobStateDirectory(root: settings.stateRoot, job: found.id), request: found.request,
      timeout: found.request.timeout.flatMap { DurationText.parse($0) } ?? settings.defaultTimeout,
      record: found.record,
      machine: JobStateMachine(
        state: state, isStopping: stopping,
        freezer: decision == .supervise
          ? foundFreezer(found.launch?.cgroup ?? "\(found.id)", found.record.status) : .thawed), isLive: found.isLive)
    if case .success(let key) = found.key { job.key = key }
    if let cgroup = found.launch?.cgroup { job.cgroup = cgroup }
    if decision == .requeue {
      try await requeue(job, found)
      // Its cancellation was under way.
      if stopping { apply(.stopRequested(grace: .zero), to: job) }
      return
    }
    takeOver(found.metrics, job)
    jobs[job.id] = job
    job.firstID = found.firstID
    if decision != .drain { queue.adoptRunning(job.id) }
    // The crash may have come between the go and this.
    if found.facts.hasGo { removeSecret(job) }
    if let files = found.files {
      supervise(job, files: files, process: found.process)
      // The exec before may have died between a store into the ring (the go, room that persist's acknowledgement made) and the
      // wake-up for it: joblet-init would sleep for ever. One wake-up too many costs it a look.
      wakeInit(job)
    }
    if !job.isLive { link.add(job.feed) }
    publish(job)
    switch decision {
    case .drain:
      stopSampling(job)
      observe(job)
      job.feed.setEnd(after: job.record.lastSeq ?? job.lastSeq)
      link.wake(job.feed)
      tearDown(job)
      // What its followers had not read went with the exec that is gone.
      if job.isLive { letGo(job.id) }
    case .supervise:
      startSampling(job, after: spreadDelay(job))
      // The exec before watched it, and is gone: between the go and the command's exec the kernel may wait for ever.
      if (found.facts.phase ?? .new) < .running { watchSetup(job) }
      // The stop's grace began with the exec that is gone; how much of it is left nobody knows, so it begins anew.
      // Before the first look at the ring: that may find `ready`, and must not give the go to a job that is canceled.
      if stopping { apply(.stopRequested(grace: settings.stopGrace), to: job) }
      takeOverFreezer(job)
      observe(job)
    case .collect:
      observe(job)
      apply(.reported, to: job)
    case .lost:
      observe(job)
      apply(.initLost, to: job)
    case .requeue: break
    }
  }

  private func takeOver(_ metrics: Result<MetricSeries, MetricFileDamage>, _ job: SupervisedJob) {
    switch metrics {
    case .success(let series): job.feed.metrics = series
    case .failure(let damage):
      // A number must never be given twice, and which one is next nobody knows.
      stopSampling(job)
      job.hasLostCount = true
      logger.error("a job has no samples any more", metadata: ["job": "\(job.id)", "error": "\(damage)"])
    }
  }

  /// Its command certainly did not run: what its launch left goes, and it starts afresh when there is a slot.
  private func requeue(_ job: SupervisedJob, _ found: FoundJob) async throws {
    let (id, directory, teardown, isStoring) = (job.id, job.directory, teardown, settings.isStoring)
    let cgroup = job.cgroup
    do {
      try await removing.run {
        try teardown.remove(id, cgroup: cgroup, process: nil)
        try directory.removeLaunchNote()
        directory.removeLaunch()
        if isStoring { try directory.makeStored() }
      }
      // Nothing of it is lost yet, so it can still be stored whole.
      if isStoring { job.isLive = false }
    } catch {
      // What is in the way stays in the way. The job ends here, rather than keeping exec from every other one; its teardown
      // tries again.
      job.facts.setup = SetupProblem(step: "restart", message: "\(error)")
      job.machine = JobStateMachine(state: .preparing)
      job.firstID = found.firstID
      jobs[id] = job
      if !job.isLive { link.add(job.feed) }
      queue.adoptRunning(id)
      apply(.launchFailed, to: job)
      return
    }
    // The next launch takes a range of its own.
    if let firstID = found.firstID { launcher.namespaces.giveBack(firstID) }
    job.cgroup = "\(id)"
    jobs[id] = job
    if !job.isLive { link.add(job.feed) }
    queue.adoptWaiting(id)
    if job.record.status == .queued {
      publish(job)
    } else {
      change(job) {
        $0.status = .queued
        // It may say `started`, and was not.
        $0.startedAt = nil
      }
    }
  }

  /// Ends what no adopted job accounts for: jobs whose state can't be read, and cgroups that a crash between two steps of a removal
  /// left. Returns when nothing of it lives any more, or will not in time; what it leaves is removed after that, in the background.
  /// Before the IDs are opened: whose IDs a stray process has may be written nowhere.
  private func endStrays(_ broken: [BrokenJob]) async throws {
    let known = Set(jobs.values.map(\.cgroup))
    let strays = try launcher.cgroups.jobNames().filter { JobID($0) != nil && !known.contains($0) }
    // Not behind a removal, which can be slow.
    let left = try await ending.run { [teardown] in teardown.end(cgroups: strays) }
    for (name, error) in left {
      logger.error(
        "a stray cgroup could not be ended; the next start of joblet-exec tries again",
        metadata: ["cgroup": "\(name)", "error": "\(error)"])
    }
    for job in broken {
      logger.error(
        "a job's state can't be read; the job is removed", metadata: ["job": "\(job.id)", "error": "\(job.error)"])
      // Without its note any cgroup that lives on could be its own, and its workspace be in use.
      if job.launch != nil || left.isEmpty { remove(job) }
    }
    // One remover for each: a broken job's is with the job.
    let others = Set(strays).subtracting(broken.map(\.cgroup)).subtracting(left.keys)
    removing.submit { [teardown, logger] in
      for name in others {
        guard let id = JobID(name) else { continue }
        do { try teardown.remove(id, cgroup: name, process: nil) } catch {
          logger.error("a stray cgroup could not be removed", metadata: ["cgroup": "\(name)", "error": "\(error)"])
        }
      }
    }
  }

  /// Its cgroup first, and nothing else while a process is in it. Then its workspace; then its note, and its IDs after that.
  private func remove(_ job: BrokenJob) {
    let directory = JobStateDirectory(root: settings.stateRoot, job: job.id)
    removing.submit { [self] in
      do {
        try teardown.remove(job.id, cgroup: job.cgroup, process: nil)
        try directory.removeLaunchNote()
        directory.remove()
        if let firstID = job.firstID { launcher.namespaces.giveBack(firstID) }
      } catch {
        logger.error(
          "what a broken job left could not be removed yet; trying again in 5 s",
          metadata: ["job": "\(job.id)", "error": "\(error)"])
        loop.post { self.assumeIsolated { $0.removeLater(job) } }
      }
    }
  }

  private func removeLater(_ job: BrokenJob) {
    loop.schedule(after: .seconds(5)) { [weak self] in
      self?.assumeIsolated { $0.remove(job) }
    }
  }
}
