import ArgumentParser
import JobletModel

/// `rnx job delete`
public struct JobDelete: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Deletes ended jobs, their records and their output.")

  @OptionGroup public var connection: ConnectionOptions
  @Argument(help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job")) public var jobs:
    [String]

  public init() {}

  public func run() async throws {
    let connection = try Connection(self.connection)
    let terminal = Terminal()
    for job in jobs {
      let id = try await connection.resolve(job)
      try await connection.call("the job \(id) can't be deleted") { try await $0.delete(id) }
      try await terminal.print(self.connection.json ? JSONOutput.text(["deleted": id]) : "\(id)")
    }
  }
}
