import ArgumentParser
import JobletModel

/// `rnx job delete`
public struct JobDelete: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Deletes ended jobs, their records and their output.")

  @OptionGroup public var connection: ConnectionOptions
  @Argument(help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job"), completion: .jobs)
  public var jobs: [String]

  public init() {}

  public func run() async throws {
    try await connection.each(jobs, done: "deleted", conflict: JobDelete.stopFirst) { client, id in
      try await client.delete(id)
      return ["deleted": id]
    }
  }

  /// The only state in the way of a delete is that the job has not ended.
  package static func stopFirst(_ id: JobID) -> String { "stop it with 'rnx job stop \(id)', then delete it" }
}
