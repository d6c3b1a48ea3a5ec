import ArgumentParser
import DaemonKit
import JobletModel
import Persist

/// `joblet-persist sweep`.
struct Sweep: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Remove now what persist.retention does not keep, or show what would go.",
    discussion: """
      The daemon sweeps by itself every few minutes. This asks it for a sweep at once; where none runs, it takes the \
      daemon's place: it locks the write-ahead log, brings back what only that has, as a start does, and sweeps.
      Jobs go as a whole, the one that ended first before the others; a running job never goes. A job without a record \
      counts as running until nothing was written of it for a day.
      The bounds are the daemon's, but for those given here. 0 is no bound.

      \(CommandStatus.help) Jobs that could not be removed make it 1.
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Flag(help: "Remove nothing; show what would go and why.") var dryRun = false
  @Flag(help: "JSON lines: one for each job, then the totals.") var json = false
  @Option(help: "Jobs that ended more than so many days ago go (persist.retention.days).") var days: Int?
  @Option(help: "Jobs larger than this go, such as 500MiB (max_bytes_per_job).", transform: size)
  var maxBytesPerJob: Int64?
  @Option(help: "The oldest jobs go until all take no more than this (max_bytes).", transform: size)
  var maxBytes: Int64?

  func validate() throws {
    if let days, !(0...36_500).contains(days) {
      throw ValidationError("--days is \(days); allowed: 0 to 36500")
    }
  }

  func run() async throws {
    let command = SweepCommand(
      dryRun: dryRun, days: days, maxBytesPerJob: maxBytesPerJob, maxBytes: maxBytes, json: json)
    throw ExitCode(await StoreCommand.runWaiting("sweep", config: config) { try await command.run($0, $1) })
  }
}

private func size(_ text: String) throws -> Int64 {
  guard let value = ByteSizeText.parse(text) else {
    throw ValidationError("'\(text)' is not a size; allowed: \(ByteSizeText.allowed)")
  }
  return value
}
