import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job wait`
public struct JobWait: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "wait", abstract: "Waits for jobs to end, and exits as they did.",
    discussion: """
      Prints a line for each job as it ends, with --json its record. rnx exits as the jobs did: with 0 if all of them did, else \
      as the first of them in the order given that did not; with 124 when --timeout is over first.

        rnx job wait 019a1234 && rnx job log 019a1234
      """)

  @OptionGroup public var connection: ConnectionOptions
  @Option(help: ArgumentHelp("Give up after so long: \(DurationText.allowed).", valueName: "time"))
  public var timeout: String?
  @Argument(
    help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job"), completion: .jobs)
  public var jobs: [String]

  public init() {}

  public func validate() throws {
    if let timeout, DurationText.parse(timeout) == nil {
      throw ValidationError(
        "--timeout '\(timeout.prefix(64))' is not a length of time; allowed is \(DurationText.allowed)")
    }
    if jobs.count > JobWait.mostJobs {
      throw ValidationError("\(jobs.count) jobs; at most \(JobWait.mostJobs) at once")
    }
  }

  /// What the node follows in one stream.
  static let mostJobs = 100

  public func run() async throws {
    let connection = try Connection(self.connection)
    var ids: [JobID] = []
    for job in jobs {
      let id = try await connection.resolve(job)
      if !ids.contains(id) { ids.append(id) }
    }
    let all = ids
    let printer = WaitPrinter(terminal: Terminal(), json: self.connection.json)
    let ended = try await JobWait.within(timeout.flatMap { DurationText.parse($0) }) {
      try await connection.call("the jobs can't be waited for") { client in
        try await JobWait.wait(for: all, client) { try await printer.print($0) }
      }
    }
    guard let ended else {
      try await Terminal().warn("gave up waiting; the jobs go on")
      throw ExitCode(ExitCodes.timedOut)
    }
    throw ExitCode(ids.lazy.compactMap { ended[$0] }.map { ExitCodes.code(for: JobEnd($0)) }.first { $0 != 0 } ?? 0)
  }

  /// The jobs' last records, each told of as soon as it is known.
  package static func wait(
    for ids: [JobID], _ client: JobletClient, tell: (JobRecord) async throws -> Void
  ) async throws -> [JobID: JobRecord] {
    var waiting = WaitList(ids)
    // One that ended long ago is in no stream of changes.
    for id in ids { if let ended = waiting.take(try await client.job(id)) { try await tell(ended) } }
    guard !waiting.isDone else { return waiting.ended }
    var request = JobChangesRequest()
    request.jobs = waiting.left
    // Its beginning has what changed since the look above.
    request.wantsSnapshot = true
    for try await batch in client.events(request) {
      for event in batch {
        switch event {
        case .event(.job(let record)): if let ended = waiting.take(record) { try await tell(ended) }
        case .event(.deleted(let id)) where waiting.left.contains(id): throw deleted(id)
        // Changes may be missing after a gap; and a node that has just started finds its jobs anew: one that ended or was
        // deleted while it was away is in no snapshot, and no change of it follows.
        case .event(.gap), .event(.synced):
          for id in waiting.left {
            if let ended = waiting.take(try await look(at: id, client)) { try await tell(ended) }
          }
        case .event, .reconnecting: break
        }
      }
      if waiting.isDone { break }
    }
    return waiting.ended
  }

  /// The record of a job that was there before.
  private static func look(at id: JobID, _ client: JobletClient) async throws -> JobRecord {
    do {
      return try await client.job(id)
    } catch JobletError.refused(let refusal) where refusal.kind == .notFound {
      throw deleted(id)
    }
  }

  private static func deleted(_ id: JobID) -> Failure {
    Failure("the job \(id) can't be waited for", why: "it was deleted", next: "'rnx job list' shows the jobs there are")
  }

  /// What the work gives, nil if the time is over first.
  private static func within<T: Sendable>(
    _ limit: Duration?, _ work: @escaping @Sendable () async throws -> T
  ) async throws -> T? {
    guard let limit else { return try await work() }
    return try await withThrowingTaskGroup(of: T?.self) { group in
      group.addTask { try await work() }
      group.addTask {
        try await Task.sleep(for: limit)
        return nil
      }
      defer { group.cancelAll() }
      return try await group.next() ?? nil
    }
  }
}

/// Which of some jobs have not ended yet. Pure.
package struct WaitList {
  package private(set) var left: [JobID]
  package private(set) var ended: [JobID: JobRecord] = [:]

  package init(_ ids: [JobID]) { left = ids }

  package var isDone: Bool { left.isEmpty }

  /// Takes note of a record; returns it if it is the end of a job that was waited for.
  package mutating func take(_ record: JobRecord) -> JobRecord? {
    guard record.status.isEnded, let index = left.firstIndex(of: record.id) else { return nil }
    left.remove(at: index)
    ended[record.id] = record
    return record
  }
}

private struct WaitPrinter: Sendable {
  var terminal: Terminal
  var json: Bool

  func print(_ record: JobRecord) async throws {
    let line = json ? try JSONOutput.text(record) : "\(record.id) \(JobSheet.status(record, now: .now()))"
    try await terminal.print(line)
  }
}
