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
    try await connection.each(jobs, done: "deleted") { client, id in
      try await client.delete(id)
      return ["deleted": id]
    }
  }
}
