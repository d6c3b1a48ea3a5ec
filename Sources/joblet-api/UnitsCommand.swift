import ArgumentParser
import DaemonKit
import FoundationEssentials
import JobletConfig

/// `joblet-api units`: makes the units agree with the configuration after an edit of it.
struct UnitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "units",
    abstract: "Write the units' drop-ins from the configuration, and print those that changed.",
    discussion: """
      Afterwards: systemctl daemon-reload && systemctl stop joblet && systemctl start joblet (a restart keeps the sockets \
      as they are). contrib/install does all of it.
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Option(help: "Where the drop-ins go.") var directory = "/etc/systemd/system"

  func run() throws {
    let configuration = try Configuration.load(path: config, environment: ProcessInfo.processInfo.environment)
    for file in try UnitDropIns.write(configuration, to: directory) { print(file) }
  }
}
