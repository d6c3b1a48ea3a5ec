import ArgumentParser
import JobletClient
import JobletModel

/// `rnx events`
public struct Events: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    abstract: "Shows changes of all jobs as they happen, until Ctrl-C.",
    discussion: """
      A line a change: when it was told, which job, its state and why. All conditions hold at once. With --json a line is an object named \
      like the event: {"job":{…}}, {"deleted":{…}}, {"synced":{…}}, {"gap":{…}}.

        rnx events --status FAILED
        rnx events --json --snapshot | jq -r 'select(.job) | [.job.id, .job.status] | @tsv'
      """)

  @OptionGroup public var connection: ConnectionOptions
  @Option(
    help: ArgumentHelp("Only jobs in this state, FAILED,STOPPED for any of these.", valueName: "status"),
    completion: .statuses)
  public var status: [String] = []
  @Option(help: ArgumentHelp("Only jobs posted by this common name.", valueName: "name")) public var owner: String?
  @Option(help: ArgumentHelp("Only jobs of this name.", valueName: "name")) public var name: String?
  @Option(
    help: ArgumentHelp("Only jobs with this label, or with this key; may be repeated.", valueName: "key=value"))
  public var label: [String] = []
  @Option(
    help: ArgumentHelp("Only this job, by as much of its ID as is unique; may be repeated.", valueName: "job"),
    completion: .jobs)
  public var job: [String] = []
  @Flag(help: "Begin with the jobs there are.") public var snapshot = false

  public init() {}

  public func run() async throws {
    var request = JobChangesRequest()
    request.statuses = try JobFilter.statuses(status)
    (request.owner, request.name, request.labels, request.wantsSnapshot) = (owner, name, label, snapshot)
    let connection = try Connection(self.connection)
    for text in job { request.jobs.append(try await connection.resolve(text)) }
    let terminal = Terminal()
    let printer = EventPrinter(terminal: terminal, json: self.connection.json, style: .stdout())
    let wish = request
    try await connection.call("the events can't be followed") { client in
      for try await batch in client.events(wish) { try await printer.print(batch) }
    }
  }
}

/// Changes of jobs as lines.
struct EventPrinter {
  var terminal: Terminal
  var json: Bool
  var style: Style

  func print(_ batch: [ServerEvent<JobChange>]) async throws {
    var out = ""
    for event in batch {
      switch event {
      case .event(let change):
        if let line = json ? try EventLine.json(change) : EventLine.text(change, now: .now(), style: style) {
          out += line + "\n"
        }
      case .reconnecting(let why):
        try await terminal.write(Array(out.utf8))
        out = ""
        try await terminal.note("the connection was lost (\(why)); going on where it broke")
      }
    }
    try await terminal.write(Array(out.utf8))
  }
}

package enum EventLine {
  /// For people; nil for what only programs need.
  /// - Parameter now: when it is told; a record does not say when a job was paused, for instance.
  package static func text(_ change: JobChange, now: Timestamp, style: Style) -> String? {
    let time = now.description.prefix(19) + "Z"
    switch change {
    case .job(let job):
      var text = "\(time)  \(job.id)  "
      let state = JobSheet.status(job, now: now)
      text += style.paint(state, Style.tone(of: job.status))
      if let name = job.name { text += "  \(Words.printable(name))" }
      return text
    case .deleted(let id): return "\(time)  \(id)  " + style.paint("deleted", .faint)
    case .synced: return nil
    case .gap(let since): return "\(time)  " + style.paint("changes since \(since) may be missing", .warning)
    }
  }

  package static func json(_ change: JobChange) throws -> String {
    switch change {
    case .job(let job): try JSONOutput.text(["job": job])
    case .deleted(let id): try JSONOutput.text(["deleted": ["id": id]])
    case .synced(let jobs): try JSONOutput.text(["synced": ["jobs": jobs]])
    case .gap(let since): try JSONOutput.text(["gap": ["since": since]])
    }
  }
}
