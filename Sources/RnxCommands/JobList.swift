import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job list`
public struct JobList: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(commandName: "list", abstract: "Lists jobs, newest first.")

  @OptionGroup public var connection: ConnectionOptions
  @OptionGroup public var filter: JobFilter
  @Option(
    name: [.customShort("n"), .long], help: ArgumentHelp("At most so many jobs; 100 if not said.", valueName: "count"))
  public var limit: Int?
  @Flag(help: "All jobs there are.") public var all = false
  @Flag(name: .shortAndLong, help: "Print IDs only.") public var quiet = false

  public init() {}

  public func validate() throws {
    if let limit, !(1...1_000_000).contains(limit) { throw ValidationError("--limit must be 1 to 1000000") }
    if quiet, connection.json { throw ValidationError("--quiet and --json exclude each other") }
    if limit != nil, all { throw ValidationError("--limit and --all exclude each other") }
  }

  public func run() async throws {
    let request = try filter.request()
    let limit = all ? .max : limit ?? 100
    let connection = try Connection(self.connection)
    let terminal = Terminal()
    var progress = Progress(terminal)
    var jobs: [JobRecord] = []
    var cursor: String?
    repeat {
      let size = min(1000, limit - jobs.count)
      let page = try await connection.call("the jobs can't be listed") {
        try await $0.jobs(request, limit: size, cursor: cursor)
      }
      jobs += page.jobs
      cursor = page.nextCursor
      if cursor != nil, jobs.count < limit { try await progress.show("\(jobs.count) jobs …") }
    } while cursor != nil && jobs.count < limit
    try await progress.clear()
    if quiet {
      for job in jobs { try await terminal.print(job.id.description) }
      return
    }
    if self.connection.json {
      try await terminal.print(JSONOutput.text(JobPage(jobs: jobs, nextCursor: cursor)))
      return
    }
    if jobs.isEmpty {
      try await terminal.note(request == JobListRequest() ? "there are no jobs" : "there are no jobs like that")
      return
    }
    for line in JobTable.lines(jobs, width: Terminal.width(), now: .now(), style: .stdout()) {
      try await terminal.print(line)
    }
    if cursor != nil { try await terminal.note("there are more; --limit or --all shows them") }
  }
}
