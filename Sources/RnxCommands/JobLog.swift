import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job log`
public struct JobLog: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "log", abstract: "Prints a job's output, stored or live.",
    discussion: "Lines of stdout go to stdout, those of stderr to stderr, byte for byte as the job wrote them.")

  @OptionGroup public var connection: ConnectionOptions
  @Option(help: ArgumentHelp("Only this stream: stdout or stderr.", valueName: "stream")) public var stream: String?
  @Option(help: ArgumentHelp("Only lines that contain this text.", valueName: "text")) public var filter: String?
  @Option(help: ArgumentHelp("Only lines from this time on: RFC 3339, or how long ago, like 1h.", valueName: "time"))
  public var since: String?
  @Option(help: ArgumentHelp("Only lines up to this time: the same forms, or now.", valueName: "time")) public
    var until: String?
  @Option(name: [.customShort("n"), .long], help: ArgumentHelp("Only the last so many lines.", valueName: "count"))
  public var tail: Int?
  @Flag(name: [.short, .long], help: "Go on with new lines until the job ends.") public var follow = false
  @Flag(name: [.short, .long], help: "Print each line's time before it.") public var timestamps = false
  @Argument(help: ArgumentHelp("The job's ID, or as much of it as is unique.", valueName: "job")) public var job: String

  public init() {}

  /// What is asked of the node.
  /// - Throws: ``Failure`` naming the option and what is allowed.
  public func request(now: Timestamp = .now()) throws -> LogRequest {
    var request = LogRequest(follow: follow)
    if let stream {
      guard let known = LogStream(name: stream) else {
        throw JobLog.wrong("--stream '\(stream.prefix(64))'", "allowed is stdout or stderr")
      }
      request.stream = known
    }
    if let tail {
      guard tail >= 0 else { throw JobLog.wrong("--tail \(tail)", "allowed is 0 or more") }
      request.tail = tail
    }
    request.filter = filter
    request.since = try since.map { try TimeOption.parse($0, option: "--since", now: now) }
    request.until = try until.map { try TimeOption.parse($0, option: "--until", now: now) }
    return request
  }

  public func run() async throws {
    let request = try request()
    let connection = try Connection(self.connection)
    let id = try await connection.resolve(job)
    let interrupt = follow ? Interrupt(message: "stopped following; the job goes on") : nil
    let printer = LogPrinter(terminal: Terminal(), json: self.connection.json, timestamps: timestamps)
    _ = try await connection.call("the output of job \(id) can't be read") {
      try await printer.print($0.logs(id, request))
    }
    interrupt?.restore()
  }

  static func wrong(_ option: String, _ why: String) -> Failure {
    Failure("\(option) is not right", why: why, next: "'rnx job log --help' lists the options")
  }
}
