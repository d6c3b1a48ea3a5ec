import ArgumentParser
import Glibc
import JobletClient
import JobletModel

/// `rnx job delete-all`
public struct JobDeleteAll: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "delete-all", abstract: "Deletes every ended job, its record and its output.",
    discussion: """
      Jobs that have not ended stay. It takes the role admin, and asks before it begins; --yes answers beforehand, which is \
      needed where there is no terminal to ask at.

        rnx job delete-all --until 7d --yes
      """)

  @OptionGroup public var connection: ConnectionOptions
  @OptionGroup public var filter: JobFilter
  @Flag(name: .shortAndLong, help: "Do not ask.") public var yes = false

  public init() {}

  public func run() async throws {
    let request = try filter.request()
    if let status = request.statuses.first(where: { !$0.isEnded }) {
      throw Failure(
        "--status \(status.rawValue) is not right", why: "only jobs that have ended can be deleted",
        next: "choose of COMPLETED, FAILED, STOPPED and CANCELED, or stop the jobs first")
    }
    let connection = try Connection(self.connection)
    let terminal = Terminal()
    var progress = Progress(terminal)
    if !yes { try await ask(connection, request) }
    var count = 0
    while true {
      let answer = try await connection.call(
        count == 0 ? "the jobs can't be deleted" : "\(count) jobs are deleted, but not all"
      ) { try await $0.deleteAll(request) }
      count += answer.deleted
      guard answer.hasMore else { break }
      try await progress.show("\(count) jobs deleted …")
    }
    try await progress.clear()
    try await terminal.print(
      self.connection.json ? JSONOutput.text(["deleted": count]) : "\(Words.count(count, "job")) deleted")
  }

  private func ask(_ connection: Connection, _ request: JobListRequest) async throws {
    guard isatty(STDIN_FILENO) == 1, isatty(STDERR_FILENO) == 1 else {
      throw Failure(
        "the jobs are not deleted", why: "there is no terminal to ask at whether that is meant",
        next: "give --yes if it is")
    }
    let which = request == JobListRequest() ? "every ended job" : "every ended job like that"
    Terminal.writeNow(
      "Delete \(which) on \(connection.address), with its record and its output? [y/N] ", to: STDERR_FILENO)
    let answer = await Terminal.line()?.lowercased()
    guard answer == "y" || answer == "yes" else {
      throw Failure("the jobs are not deleted", why: "the answer was no", next: "")
    }
  }
}
