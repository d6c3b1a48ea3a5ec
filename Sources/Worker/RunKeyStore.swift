import JobletModel
import JobletWire
import LinuxKernel
import Logging

/// ``RunKeys`` and where they are written: what a request with an `Idempotency-Key` is looked up in.
///
/// A key is written with its job's state directory, before the job can start, and to ``RunKeyFile`` before that directory
/// goes. So at no moment is there a job whose key a restarted exec would not find.
package struct RunKeyStore: Sendable {
  private var keys = RunKeys()
  private var hasher: RunHasher?
  private var file: RunKeyFile?

  package init() {}

  /// - Parameter runs: those whose jobs have a state directory.
  package mutating func open(_ content: RunKeyFile.Content, adding runs: [KeyedRun]) {
    hasher = content.hasher
    file = content.file
    let now = Timestamp.now()
    for run in (content.runs + runs).sorted(by: { $0.at < $1.at }) { keys.add(run, at: now) }
  }

  /// See ``RunKeys/claim(_:at:)``.
  package mutating func claim(_ run: RunRequest, key: String) throws -> (asked: KeyedRequest, startedAlready: JobID?) {
    guard let hasher else { throw Problem(.unavailable, "joblet-exec is starting", retryAfter: 1) }
    let asked = try hasher.hashes(run, key: key)
    return (asked, try keys.claim(asked, at: .now()))
  }

  package mutating func release(_ asked: KeyedRequest) { keys.release(asked) }

  /// A job was admitted.
  package mutating func add(_ run: KeyedRun) { keys.add(run, at: .now()) }

  /// A job's state directory is about to go.
  package mutating func keep(_ run: KeyedRun, logger: Logger) {
    guard keys.contains(run), file != nil else { return }
    do {
      try file?.append(run)
      guard let written = file?.count, written > 2 * keys.count + 4096 else { return }
      keys.expire(at: .now())
      try file?.replace(with: keys.all)
    } catch {
      logger.error(
        "an Idempotency-Key could not be written down; after a restart of joblet-exec it would start its job once more",
        metadata: ["job": "\(run.job)", "error": "\(error)"])
    }
  }
}

extension JobSupervisor {
  /// What became of a request to run a job.
  package enum RunAnswer: Sendable {
    case started(JobRecord)
    /// An earlier request with the same key started this job; its record, if exec still has it.
    case replayed(JobID, JobRecord?)
  }

  /// Admits a job, unless its request's key has started one already.
  package func run(_ run: RunRequest, trace: StartTrace? = nil) async throws -> RunAnswer {
    guard let key = run.key else {
      return .started(try await self.run(run.request, caller: run.caller, trace: trace))
    }
    guard isOpen else { throw Problem(.unavailable, "joblet-exec is starting or stopping", retryAfter: 1) }
    let (asked, job) = try keys.claim(run, key: key)
    if let job { return .replayed(job, jobs[job]?.record ?? ended[job]?.record) }
    // Whatever comes of it, the key is free again or names the job by then.
    defer { keys.release(asked) }
    return .started(try await self.run(run.request, caller: run.caller, keyed: asked, trace: trace))
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
  }
}
