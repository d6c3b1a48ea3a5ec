import ArgumentParser
import Glibc
import JobletModel

/// The command line of Joblet.
public struct Rnx: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "rnx", abstract: "Runs jobs on Joblet nodes and shows what they do.",
    discussion: """
      rnx exits with 125 when it fails itself. 'rnx job run --follow' exits as the job did: with its exit code, with 128 and \
      the signal's number, 124 after a time-out, 127 for a command that is not there and 126 for one that can't be run.
      """,
    version: jobletVersion,
    subcommands: [
      Job.self, Events.self, NodeGroup.self, Nodes.self, Config.self, Version.self, Completion.self, Manual.self,
    ])

  public init() {}

  /// Parses the arguments, runs the verb, and exits.
  public static func start(_ arguments: [String] = Array(CommandLine.arguments.dropFirst())) async -> Never {
    do {
      var command = try parseAsRoot(GlobalOptions.moved(arguments))
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
      leave(0)
    } catch let failure as Failure {
      Terminal.writeNow("\(failure)\n", to: STDERR_FILENO)
      leave(ExitCodes.ownFailure)
    } catch let code as ExitCode {
      leave(code.rawValue)
    } catch {
      // Help and version asked for are printed by the parser, and are no failure.
      if exitCode(for: error) == .success { exit(withError: error) }
      Terminal.writeNow("\(UsageFailure.failure(error))\n", to: STDERR_FILENO)
      leave(ExitCodes.ownFailure)
    }
  }

  /// Ends the process at once: what was printed is written already, and what thirty libraries tidy up, the kernel does faster.
  private static func leave(_ code: Int32) -> Never { _exit(code) }
}

/// `rnx job …`
public struct Job: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    abstract: "Runs, shows and ends jobs.",
    subcommands: [
      JobRun.self, JobList.self, JobStatusVerb.self, JobLog.self, JobMetrics.self, JobWait.self, JobStop.self,
      JobPause.self, JobResume.self, JobDelete.self, JobDeleteAll.self,
    ])

  public init() {}
}

/// Lets `--json`, `--config` and `--node` stand before the verb too, where people look for them.
package enum GlobalOptions {
  /// Words that a verb follows.
  private static let groups: Set = ["job", "node", "config"]

  package static func moved(_ arguments: [String]) -> [String] {
    var front: [String] = []
    var rest = arguments[...]
    while let first = rest.first, first.hasPrefix("--") {
      if first == "--json" || first.hasPrefix("--config=") || first.hasPrefix("--node=") {
        front.append(first)
        rest = rest.dropFirst()
      } else if first == "--config" || first == "--node", rest.count > 1 {
        front += rest.prefix(2)
        rest = rest.dropFirst(2)
      } else {
        break
      }
    }
    guard !front.isEmpty else { return arguments }
    // Behind the verb: after 'job VERB', else after the first word.
    let words = rest.first.map { groups.contains($0) } ?? false ? 2 : 1
    return Array(rest.prefix(words)) + front + Array(rest.dropFirst(words))
  }
}
