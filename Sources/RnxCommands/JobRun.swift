import ArgumentParser
import FoundationEssentials
import Glibc
import JobletClient
import JobletModel

/// `rnx job run`
public struct JobRun: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "run", abstract: "Runs a command as a job and prints the job's ID.",
    usage: "rnx job run [options] [--] COMMAND [ARGS …]",
    discussion: """
      Everything after COMMAND belongs to the job. With --follow the job's stdout and stderr are streamed to rnx's own, byte \
      for byte, and rnx exits as the job did; Ctrl-C or SIGTERM then stops the following, not the job, unless --stop-on-interrupt is given.

      The job sees no file of yours and has no stdin: it has the programs of the node and an empty directory to work in, and a \
      script of yours travels on the command line.

      A secret is never written down by the node. '-s NAME' takes its value from rnx's own environment, --secret-file from a \
      file or stdin, so that it need not stand on the command line.

        rnx job run --follow sh -c 'echo hello'
        rnx job run --max-memory 512MiB --timeout 10m --name nightly sh -c "$(cat report.sh)"
        rnx job run --follow python3 -c 'print(6 * 7)'
        pass show token | rnx job run --secret-file TOKEN=- --follow sh -c 'echo "a secret of ${#TOKEN} bytes"'
      """)

  @OptionGroup public var connection: ConnectionOptions
  @OptionGroup(title: "Job") public var job: JobOptions
  @Flag(name: [.short, .long], help: "Stream the output and exit as the job does.") public var follow = false
  @Flag(name: [.short, .long], help: "Print the ID and leave the job running; so it is without --follow too.")
  public var detach = false
  @Flag(
    help: "With --follow, Ctrl-C stops the job, and its last output is still shown; a second one stops the following.")
  public var stopOnInterrupt = false
  @Argument(
    parsing: .captureForPassthrough, help: ArgumentHelp("The program, then its arguments.", valueName: "command"))
  public var command: [String] = []

  public init() {}

  public func validate() throws {
    let words = Array(command.first == "--" ? command.dropFirst() : command[...])
    guard let program = words.first else {
      throw ValidationError("There is no COMMAND. Give one after the options: rnx job run sh -c 'echo hello'")
    }
    // Passing everything through includes a plea for help, as long as there is no command to have said it.
    if program == "--help" || program == "-h", command.first != "--" { throw CleanExit.helpRequest(self) }
    // What looks like an option before COMMAND would otherwise be taken for the command itself.
    if command.first != "--", program.hasPrefix("-") {
      throw ValidationError("Unknown option '\(program)'. 'rnx job run --help' lists the options; '--' ends them.")
    }
    if follow, detach { throw ValidationError("--follow and --detach exclude each other") }
    if stopOnInterrupt, !follow { throw ValidationError("--stop-on-interrupt is for --follow") }
  }

  public func run() async throws {
    let words = Array(command.first == "--" ? command.dropFirst() : command[...])
    let request = try job.request(words, environment: ProcessInfo.processInfo.environment)
    let connection = try Connection(self.connection)
    let waiting = try Interrupt(farewell: "whether the job was started is not known; 'rnx job list' shows it if it was")
    let terminal = Terminal()
    let record = try await connection.call("the job can't be run") {
      try await $0.run(request, key: UUID().uuidString) { refusal in
        try await terminal.warn(JobRun.noRoom(refusal))
      }
    }
    waiting.restore()
    guard follow else {
      try await terminal.print(self.connection.json ? JSONOutput.text(record) : "\(record.id)")
      return
    }
    if self.connection.json {
      try await terminal.print(JSONOutput.text(record))
    } else {
      try await terminal.note("job \(record.id)")
    }
    let end = try await follow(record, connection, terminal)
    if let explanation = ExitCodes.explanation(end) {
      let words = await JobRun.lastWords(end, explanation, of: record.id, connection.client)
      do {
        try await terminal.warn(words)
      } catch {
        // Nobody reads stderr any more; the exit code still tells how the job ended.
      }
    }
    throw ExitCode(ExitCodes.code(for: end))
  }

  /// What is said once when the node has no room for a job and rnx waits for some.
  package static func noRoom(_ refusal: JobletError.Refusal) -> String {
    let why = refusal.detail.isEmpty ? refusal.title : refusal.detail
    return "the node has no room for the job yet (\(why)); trying again for a minute"
  }

  /// What people who know ssh or docker expect, and a job has not.
  private static let noFiles =
    "the job sees no file of yours and has no stdin: a script travels on the command line, as sh -c \"$(cat report.sh)\""

  /// Whether the command itself was not there.
  private static func isMissing(_ end: JobEnd) -> Bool { end.reason == .setupFailed && end.exitCode == 127 }

  /// Why a job ended, in the node's words if it has any. How it ended is known by now: that the node can't be asked for more
  /// must not hide that, and is only said.
  package static func lastWords(
    _ end: JobEnd, _ explanation: String, of job: JobID, _ client: JobletClient
  ) async -> String {
    let message: String?
    do {
      message = try await client.job(job).message
    } catch {
      return "\(explanation) (the node could not be asked for more: \(error))"
    }
    let hint = isMissing(end) ? "; \(noFiles)" : ""
    guard let message else { return explanation + hint }
    // The node's words may be the end of ours: 'ended by signal 9'.
    if explanation.hasSuffix(message) { return explanation }
    // Where the node's words say why by themselves, they are enough.
    let isWhole = [.oomKilled, .timeout, .seccompViolation].contains(end.reason)
    return isWhole ? "the job failed: \(message)" : "\(explanation): \(message)\(hint)"
  }

  private func follow(_ record: JobRecord, _ connection: Connection, _ terminal: Terminal) async throws -> JobEnd {
    let interrupt = try Interrupt(
      farewell: InterruptStop.goesOn(record.id),
      action: stopOnInterrupt ? InterruptStop.action(record.id, connection) : nil)
    let follower = LogPrinter(terminal: terminal, json: self.connection.json)
    let end = try await connection.call("the job \(record.id) can't be followed") {
      try await follower.print($0.logs(record.id, .init(follow: true)))
    }
    interrupt.restore()
    if interrupt.isTerminated { throw ExitCode(ExitCodes.terminated) }
    guard let end else {
      throw Failure(
        "the job \(record.id) can't be followed to its end", why: "its output ended without saying how the job did",
        next: "'rnx job status \(record.id)' tells how it stands")
    }
    return end
  }
}

/// The stop of a followed job by Ctrl-C or SIGTERM.
private enum InterruptStop {
  static func goesOn(_ job: JobID) -> String {
    "stopped following; the job goes on. Come back with 'rnx job log --follow \(job)', or end it with 'rnx job stop \(job)'"
  }

  static func action(_ job: JobID, _ connection: Connection) -> Interrupt.Action {
    Interrupt.Action(
      message: "stopping the job; once more stops the following",
      overdue:
        "stopped following; the node has not answered whether it stops the job: look with 'rnx job status \(job)'"
    ) {
      do {
        _ = try await connection.call("the job \(job) can't be stopped") { try await $0.stop(job) }
        return "stopped following; the job is being stopped"
      } catch {
        // The following goes on, and one more Ctrl-C ends it.
        Terminal.writeNow("\(error)\n", to: STDERR_FILENO)
        return goesOn(job)
      }
    }
  }
}
