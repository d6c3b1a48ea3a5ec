import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job list`
public struct JobList: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists jobs, newest first.")

  @OptionGroup public var connection: ConnectionOptions
  @Option(
    help: ArgumentHelp(
      "Only jobs in this state: RUNNING for instance, or FAILED,STOPPED for any of these.", valueName: "status"))
  public var status: [String] = []
  @Option(help: ArgumentHelp("Only jobs posted since then: \(TimeText.allowed).", valueName: "time"))
  public var since: String?
  @Option(help: ArgumentHelp("Only jobs posted until then.", valueName: "time"))
  public var until: String?
  @Option(help: ArgumentHelp("Only jobs with this in ID, name, owner, labels or command line.", valueName: "text"))
  public var search: String?
  @Option(
    name: [.customShort("n"), .long], help: ArgumentHelp("At most so many jobs; 100 if not said.", valueName: "count"))
  public var limit: Int?
  @Flag(help: "All jobs there are.") public var all = false

  public init() {}

  /// What the node is asked for.
  /// - Throws: ``Failure`` naming the option that is wrong and what is allowed.
  public func request() throws -> JobListRequest {
    let statuses = try status.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }.map { name in
      guard let known = JobStatus(rawValue: name.uppercased()) else {
        throw Failure(
          "--status '\(name.prefix(64))' is not right",
          why: "the states are \(JobStatus.allCases.map(\.rawValue).joined(separator: ", "))",
          next: "choose one of them")
      }
      return known
    }
    // The node reads them, by its own clock; what it would refuse is told here, where the option's name is known.
    if let since { _ = try TimeOption.parse(since, option: "--since") }
    if let until { _ = try TimeOption.parse(until, option: "--until") }
    if let search, !RecordQuery.textRange.contains(search.utf8.count) {
      throw Failure(
        "--search has \(search.utf8.count) bytes", why: "allowed are 1 to \(RecordQuery.textRange.upperBound)",
        next: "give a shorter text, or leave it out")
    }
    return JobListRequest(statuses: statuses, since: since, until: until, text: search)
  }

  public func validate() throws {
    if let limit, !(1...1_000_000).contains(limit) { throw ValidationError("--limit must be 1 to 1000000") }
    if limit != nil, all { throw ValidationError("--limit and --all exclude each other") }
  }

  public func run() async throws {
    let request = try request()
    let limit = all ? .max : limit ?? 100
    let connection = try Connection(self.connection)
    var jobs: [JobRecord] = []
    var cursor: String?
    repeat {
      let size = min(1000, limit - jobs.count)
      let page = try await connection.call("the jobs can't be listed") {
        try await $0.jobs(request, limit: size, cursor: cursor)
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
      try await terminal.note(request == JobListRequest() ? "there are no jobs" : "there are no jobs like that")
      return
    }
    for line in JobTable.lines(jobs, width: Terminal.width(), now: .now()) { try await terminal.print(line) }
    if cursor != nil { try await terminal.note("there are more; --limit or --all shows them") }
  }
}
