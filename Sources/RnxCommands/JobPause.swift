import ArgumentParser
import JobletModel

/// `rnx job pause`
public struct JobPause: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Freezes running jobs where they stand.",
    discussion: """
      Returns when every process stands still. A paused job keeps its memory, and its time-out goes on; 'rnx job resume' lets \
      it go on, 'rnx job stop' ends it.
      """)

  @OptionGroup public var connection: ConnectionOptions
  @Argument(help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job"), completion: .jobs)
  public var jobs: [String]

  public init() {}

  public func run() async throws {
    try await connection.each(jobs, done: "paused") { try await $0.pause($1) }
  }
}

/// `rnx job resume`
public struct JobResume: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Lets paused jobs go on.",
    discussion: "A job that is not paused just goes on.")

  @OptionGroup public var connection: ConnectionOptions
  @Argument(help: ArgumentHelp("Their IDs, or as much of them as is unique.", valueName: "job"), completion: .jobs)
  public var jobs: [String]

  public init() {}

  public func run() async throws {
    try await connection.each(jobs, done: "resumed") { try await $0.resume($1) }
  }
}
