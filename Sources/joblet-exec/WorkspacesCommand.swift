import ArgumentParser
import DaemonKit
import FoundationEssentials
import JobletConfig
import Worker

/// `joblet-exec workspaces`: for contrib/install and whoever puts a file system of their own there.
struct WorkspacesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "workspaces",
    abstract: "Say where workspaces are and whether their quota holds there; exit 1 if it does not.",
    discussion: """
      Prints directory, default_quota (bytes, 0: none) and quota_state: enforced; counted (mounted with \
      pqnoenforce); missing (the file system has no project quotas or is mounted without prjquota; or no such directory). \
      Starts nothing.
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Option(help: "Look at this directory instead of the configured one.") var directory: String?

  func run() throws {
    let configuration = try Configuration.load(path: config, environment: ProcessInfo.processInfo.environment)
    let report = try WorkspaceReport(configuration, directory: directory)
    print("directory=\(report.directory)\ndefault_quota=\(report.quota)\nquota_state=\(report.state)")
    guard report.holds else { throw ExitCode.failure }
  }
}
