import ArgumentParser
import Glibc
import JobletClient
import JobletModel

/// `rnx node …`
public struct NodeGroup: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Shows what a node is and how it stands.",
    subcommands: [NodeStatusVerb.self, NodeTop.self])

  public init() {}
}

/// `rnx node status`
public struct NodeStatusVerb: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Tells how the node stands: host, use, jobs, services, certificates.",
    discussion: "With --json everything the node knows of itself is printed, much of it in more detail.")

  @OptionGroup public var connection: ConnectionOptions

  public init() {}

  public func run() async throws {
    let connection = try Connection(self.connection)
    let status = try await connection.call("the node can't be looked at") { try await $0.node() }
    let terminal = Terminal()
    if self.connection.json {
      try await terminal.print(JSONOutput.text(status))
    } else {
      for line in NodeSheet.lines(status, style: .stdout()) { try await terminal.print(line) }
    }
  }
}

/// `rnx node top`
public struct NodeTop: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "top", abstract: "Shows again and again how the node stands, until Ctrl-C.",
    discussion: """
      On a terminal each look takes the place of the one before; elsewhere it is a line a look, with --json the whole of it.
      """)

  @OptionGroup public var connection: ConnectionOptions
  @Option(help: ArgumentHelp("Between two looks, 1s to 1h.", valueName: "time")) public var interval = "2s"
  @Option(
    name: [.customShort("n"), .long], help: ArgumentHelp("End after so many looks.", valueName: "count"))
  public var count: Int?

  public init() {}

  static let intervalRange: ClosedRange<Duration> = .seconds(1) ... .seconds(3600)

  public func validate() throws {
    guard let length = DurationText.parse(interval), NodeTop.intervalRange.contains(length) else {
      throw ValidationError("--interval '\(interval.prefix(64))' is not right; allowed is 1s to 1h")
    }
    if let count, !(1...1_000_000).contains(count) { throw ValidationError("--count must be 1 to 1000000") }
  }

  public func run() async throws {
    let connection = try Connection(self.connection)
    let terminal = Terminal()
    let (json, wish, most) = (self.connection.json, interval, count ?? .max)
    try await connection.call("the node can't be watched") { client in
      var looks = 0
      var last: NodeStatus?
      for try await batch in client.nodeEvents(interval: wish) {
        for event in batch {
          switch event {
          case .event(let status):
            try await NodeTop.show(status, since: last, json: json, isFirst: looks == 0, terminal)
            last = status
            looks += 1
            if looks >= most { return }
          case .reconnecting(let why): try await terminal.note("the connection was lost (\(why)); trying again")
          }
        }
      }
    }
  }

  private static func show(
    _ status: NodeStatus, since last: NodeStatus?, json: Bool, isFirst: Bool, _ terminal: Terminal
  ) async throws {
    if json {
      try await terminal.print(JSONOutput.text(status))
    } else if isatty(STDOUT_FILENO) == 1 {
      // Home and clear: a screen a look.
      let lines = NodeSheet.lines(status, since: last, style: .stdout())
      try await terminal.write(Array(("\u{1B}[H\u{1B}[2J" + lines.joined(separator: "\n") + "\n").utf8))
    } else {
      if isFirst { try await terminal.print(NodeLine.header) }
      try await terminal.print(NodeLine.text(status))
    }
  }
}

/// `rnx nodes`
public struct Nodes: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(abstract: "Lists the nodes that the node knows.")

  @OptionGroup public var connection: ConnectionOptions

  public init() {}

  public func run() async throws {
    let connection = try Connection(self.connection)
    let nodes = try await connection.call("the nodes can't be listed") { try await $0.nodes() }
    let terminal = Terminal()
    if self.connection.json {
      try await terminal.print(JSONOutput.text(["nodes": nodes]))
      return
    }
    for line in NodeTable.lines(nodes, width: Terminal.width(), now: .now(), style: .stdout()) {
      try await terminal.print(line)
    }
  }
}
