import ArgumentParser
import CCertificate
import FoundationEssentials
import Glibc
import JobletModel

/// `rnx config …`
public struct Config: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    abstract: "Looks after the client configuration.", subcommands: [ConfigCheck.self])

  public init() {}
}

/// `rnx config check`
public struct ConfigCheck: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Tells which configuration is used and whether its nodes can be talked to.",
    discussion: """
      For each node: who you are there, how long your certificate is good for, and whether the node answers. rnx exits with 0 if \
      all is well, with 125 if something has to be mended.
      """)

  @Option(
    help: ArgumentHelp("The client configuration, instead of the first one found.", valueName: "file"),
    completion: .file(extensions: ["yml"]))
  public var config: String?
  @Option(help: ArgumentHelp("Only this node of it.", valueName: "name")) public var node: String?
  @Flag(help: "Only look at the file; connect to nothing.") public var offline = false
  @Flag(help: "Print JSON.") public var json = false

  public init() {}

  public func run() async throws {
    let config = try ConfigSearch.load(named: config, home: ProcessInfo.processInfo.environment["HOME"])
    let names = node.map { [$0] } ?? config.nodes.keys.sorted()
    var report = ConfigReport(file: config.path, isPrivate: ConfigReport.isPrivate(config.path), nodes: [])
    for name in names {
      let node = try config.node(name)
      var line = ConfigReport.NodeLine(name: name, node, now: .now())
      if !offline, line.problem == nil { await line.ask(node) }
      report.nodes.append(line)
    }
    let terminal = Terminal()
    if json {
      try await terminal.print(JSONOutput.text(report))
    } else {
      for line in report.lines(style: .stdout()) { try await terminal.print(line) }
    }
    if report.nodes.contains(where: { $0.problem != nil }) { throw ExitCode(ExitCodes.ownFailure) }
  }
}
