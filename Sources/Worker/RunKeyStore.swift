import JobletModel
import JobletWire
import LinuxKernel
import Logging

/// ``RunKeys`` and where they are written: what a request with an `Idempotency-Key` is looked up in.
///
/// A key is written with its job's state directory, before the job can start, and to ``RunKeyFile`` before that directory
/// goes. So at no moment is there a job whose key a restarted exec would not find; but where `/run` is full, a key may be in
/// memory alone until the file could be written anew.
package struct RunKeyStore: Sendable {
  private var keys: RunKeys
  package private(set) var hasher: RunHasher?
  private var file: RunKeyFile?
  /// The file lacks keys whose jobs have no state directory any more: it has to be written anew, whatever its length.
  package private(set) var isBehind = false
  private var isRewriting = false
  /// Kept while the file is being rewritten, and so perhaps not in what is written.
  private var keptMeanwhile: [KeyedRun] = []
  /// A failure is said once, and that it is over.
  private var hasToldOfFailure = false

  package init(_ keys: RunKeys = RunKeys()) { self.keys = keys }

  /// - Parameter runs: those whose jobs have a state directory.
  package mutating func open(_ content: RunKeyFile.Content, adding runs: [KeyedRun]) {
    hasher = content.hasher
    file = content.file
    let now = BootTime.now()
    for run in (content.runs + runs).sorted(by: { $0.at < $1.at }) { keys.add(run, at: now) }
  }

  /// See ``RunKeys/claim(_:at:lives:)``.
  package mutating func claim(_ asked: KeyedRequest, lives: (JobID) -> Bool) throws(Problem) -> JobID? {
    try keys.claim(asked, at: .now(), lives: lives)
  }

  package mutating func release(_ asked: KeyedRequest) { keys.release(asked) }

  /// A job was admitted.
  package mutating func add(_ run: KeyedRun) { keys.add(run, at: .now()) }

  /// A job's state directory is about to go. ``beginRewriting()`` says whether there is more to do.
  package mutating func keep(_ run: KeyedRun, logger: Logger) {
    guard keys.contains(run), file != nil else { return }
    if isRewriting { keptMeanwhile.append(run) }
    // Behind, it gets this one with all the others.
    guard !isBehind else { return }
    do { try file?.append(run) } catch {
      isBehind = true
      logger.error(
        "an Idempotency-Key could not be written down yet; after a restart of joblet-exec its request would start its job again",
        metadata: ["job": "\(run.job)", "error": "\(error)"])
    }
  }

  // MARK: Writing the file anew

  /// What is written, off the supervisor's loop.
  package struct Rewriting: Sendable {
    fileprivate var file: RunKeyFile
    fileprivate var keys: RunKeys

    /// Blocks.
    package func write() throws(Errno) -> RunKeyFile.Rewritten { try file.rewrite(keys.all) }
  }

  /// Nil if the file is good as it is, or this goes on already. Else ``endRewriting(_:logger:)`` follows.
  package mutating func beginRewriting() -> Rewriting? {
    guard let file, !isRewriting, isBehind || file.count > 2 * keys.count + 4096 else { return nil }
    isRewriting = true
    keptMeanwhile = []
    keys.expire(at: .now())
    return Rewriting(file: file, keys: keys)
  }

  /// - Returns: false if it failed, and is to be tried again later.
  package mutating func endRewriting(_ result: Result<RunKeyFile.Rewritten, any Error>, logger: Logger) -> Bool {
    isRewriting = false
    defer { keptMeanwhile = [] }
    do {
      try file?.adopt(try result.get(), adding: keptMeanwhile)
    } catch {
      if !hasToldOfFailure {
        logger.error(
          "the file of the Idempotency-Keys could not be written anew; trying again every 5 s",
          metadata: ["error": "\(error)", "lacks_keys": "\(isBehind)"])
      }
      hasToldOfFailure = true
      return false
    }
    if isBehind || hasToldOfFailure {
      logger.info("the file of the Idempotency-Keys is whole again", metadata: ["keys": "\(keys.count)"])
    }
    (isBehind, hasToldOfFailure) = (false, false)
    return true
  }
}

extension JobSupervisor {
  /// What became of a request to run a job.
  package enum RunAnswer: Sendable {
    case started(JobRecord)
    /// An earlier request with the same key started this job; its record, if exec still has it.
    case replayed(JobID, JobRecord?)
  }

  /// Admits a job, unless its request's key has started one already. What takes time, encoding and hashing some megabytes, is
  /// done before the loop is asked for anything, and for nothing that is refused anyway.
  package nonisolated func run(_ run: RunRequest, trace: StartTrace? = nil) async throws -> RunAnswer {
    guard let key = run.key else {
      return .started(try await self.run(run.request, caller: run.caller, trace: trace))
    }
    let asked: KeyedRequest
    do {
      try JobSupervisor.check(run.request, run.caller)
      asked = try await hasher().hashes(run, key: key)
    } catch {
      await noteRefused(error)
      throw error
    }
    return try await self.run(run, asked, trace)
  }

  private func run(_ run: RunRequest, _ asked: KeyedRequest, _ trace: StartTrace?) async throws -> RunAnswer {
    guard isOpen else { throw Problem(.unavailable, "joblet-exec is starting or stopping", retryAfter: 1) }
    if let job = try keys.claim(asked, lives: { jobs[$0] != nil }) {
      return .replayed(job, jobs[job]?.record ?? ended[job]?.record)
    }
    // Whatever comes of it, the key is free again or names the job by then.
    defer { keys.release(asked) }
    return .started(try await self.run(run.request, caller: run.caller, keyed: asked, trace: trace))
  }

  private func hasher() throws(Problem) -> RunHasher {
    guard let hasher = keys.hasher else { throw Problem(.unavailable, "joblet-exec is starting", retryAfter: 1) }
    return hasher
  }

  /// - Parameters:
  ///   - runs: of the jobs that are adopted.
  ///   - broken: of jobs whose state directories are removed.
  func openKeys(_ runs: [KeyedRun], broken: [KeyedRun]) async throws {
    let path = settings.keyFile
    let content = try await removing.run { try RunKeyFile.open(path) }
    if content.wasDamaged {
      logger.error(
        "the Idempotency-Keys of earlier jobs are forgotten: their file was damaged", metadata: ["file": "\(path)"])
    }
    keys.open(content, adding: runs + broken)
    for run in broken { keys.keep(run, logger: logger) }
    rewriteKeys()
  }

  /// Writes the file of the keys anew if it lacks some or is too long.
  func rewriteKeys() {
    guard let rewriting = keys.beginRewriting() else { return }
    removing.submit { [self] in
      let result = Result { try rewriting.write() }
      loop.post { self.assumeIsolated { $0.keysRewritten(result) } }
    }
  }

  private func keysRewritten(_ result: Result<RunKeyFile.Rewritten, any Error>) {
    guard !keys.endRewriting(result, logger: logger) else { return }
    loop.schedule(after: .seconds(5)) { [weak self] in
      self?.assumeIsolated { $0.rewriteKeys() }
    }
  }
}
