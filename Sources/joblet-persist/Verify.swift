import ArgumentParser
import DaemonKit
import JobletModel
import Persist

/// `joblet-persist verify`.
struct Verify: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check what is stored: every member's checksum, the order of lines, and that none is missing.",
    discussion: """
      It reads everything and changes nothing; the daemon may run. A member that is only just being written is told of \
      and is no fault. Lines that persist's journal reported as lost are missing here too.

      \(CommandStatus.help)
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Argument(help: "The job's ID.", transform: parseJob) var job: JobID?
  @Flag(help: "Every job there is.") var all = false
  @Flag(help: "JSON lines: one for each job, then the totals.") var json = false

  func validate() throws {
    guard (job == nil) == all else { throw ValidationError("give either a job's ID or --all") }
  }

  func run() async throws {
    let command = VerifyCommand(job: job, json: json)
    throw ExitCode(await StoreCommand.run("verify", config: config) { try command.run($0, $1) })
  }
}
