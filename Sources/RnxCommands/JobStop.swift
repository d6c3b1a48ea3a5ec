import ArgumentParser
import JobletModel

/// `rnx job stop`
public struct JobStop: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "stop", abstract: "Stops jobs: SIGTERM, then, after a grace, SIGKILL.",
    discussion: "Returns when the node has taken the request; 'rnx job log --follow' waits for the end.")

  @OptionGroup public var connection: ConnectionOptions
  @Option(
    help: ArgumentHelp(
      "The pause before SIGKILL: \(DurationText.allowed). The node's own without it.", valueName: "time"))
  public var grace: String?
  @Argument(help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job"), completion: .jobs)
  public var jobs: [String]

  public init() {}

  public func validate() throws {
    if let grace, DurationText.parse(grace) == nil {
      throw ValidationError("--grace '\(grace.prefix(64))' is not a length of time; allowed is \(DurationText.allowed)")
    }
  }

  public func run() async throws {
    try await connection.each(jobs, done: "stopped") { try await $0.stop($1, grace: grace) }
  }
}
