import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job list`
public struct JobList: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists jobs, newest first.")

  @OptionGroup public var connection: ConnectionOptions
  @Option(help: ArgumentHelp("Only jobs in this state, RUNNING for instance.", valueName: "status")) public var status:
    String?
  @Option(name: [.customShort("n"), .long], help: ArgumentHelp("At most so many jobs.", valueName: "count"))
  public var limit = 100

  public init() {}

  /// The state asked for.
  /// - Throws: ``Failure`` with the states there are.
  public func wantedStatus() throws -> JobStatus? {
    guard let status else { return nil }
    guard let known = JobStatus(rawValue: status.uppercased()) else {
      throw Failure(
        "--status '\(status.prefix(64))' is not right",
        why: "the states are \(JobStatus.allCases.map(\.rawValue).joined(separator: ", "))", next: "choose one of them")
    }
    return known
  }

  public func validate() throws {
    guard (1...1_000_000).contains(limit) else { throw ValidationError("--limit must be 1 to 1000000") }
  }

  public func run() async throws {
    let status = try wantedStatus()
    let connection = try Connection(self.connection)
    var jobs: [JobRecord] = []
    var cursor: String?
    repeat {
      let page = try await connection.call("the jobs can't be listed") {
        try await $0.jobs(status: status, limit: min(1000, limit - jobs.count), cursor: cursor)
      }
      jobs += page.jobs
      cursor = page.nextCursor
    } while cursor != nil && jobs.count < limit
    let terminal = Terminal()
    if self.connection.json {
      try await terminal.print(JSONOutput.text(JobPage(jobs: jobs, nextCursor: cursor)))
      return
    }
    if jobs.isEmpty {
      try await terminal.note("there are no jobs\(status.map { " that are \($0.rawValue)" } ?? "")")
      return
    }
    for line in JobTable.lines(jobs, width: Terminal.width(), now: .now()) { try await terminal.print(line) }
    if cursor != nil { try await terminal.note("there are more; --limit shows them") }
  }
}
