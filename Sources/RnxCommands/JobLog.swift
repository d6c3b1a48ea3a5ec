import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job log`
public struct JobLog: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "log", abstract: "Prints a job's output, stored or live.",
    discussion: """
      Lines of stdout go to stdout, those of stderr to stderr, byte for byte as the job wrote them. All conditions hold at \
      once; --tail, --offset and --limit count the lines that meet them.

      rnx exits with 0 when all that was asked for is printed, however the job ended; with 125 when it can't be; and with 130 \
      after Ctrl-C while following, which leaves the job alone.

        rnx job log 019a1234 --filter ERROR --since 1h
        rnx job log 019a1234 --regex 'timeout|refused' --reverse --limit 20
        rnx job log 019a1234 --follow --tail 10
      """)

  @OptionGroup public var connection: ConnectionOptions
  @Option(
    help: ArgumentHelp("Only this stream: stdout or stderr.", valueName: "stream"),
    completion: .list(["stdout", "stderr"]))
  public var stream: String?
  @Option(help: ArgumentHelp("Only lines that contain this text.", valueName: "text")) public var filter: String?
  @Option(help: ArgumentHelp("Only lines that this regular expression (PCRE2) matches.", valueName: "pattern"))
  public var regex: String?
  @Option(name: [.customShort("n"), .long], help: ArgumentHelp("Only the last so many lines.", valueName: "count"))
  public var tail: Int?
  @OptionGroup public var options: StreamOptions
  @Flag(name: [.short, .long], help: "Print each line's time before it.") public var timestamps = false
  @Argument(help: ArgumentHelp("The job's ID, or as much of it as is unique.", valueName: "job"), completion: .jobs)
  public var job: String

  public init() {}

  static let tailRange = 0...100_000
  static let patternRange = 1...4096

  /// What is asked of the node.
  /// - Throws: ``Failure`` naming the option and what is allowed.
  public func request() throws -> LogRequest {
    try options.check(for: "log")
    var request = LogRequest(follow: options.follow)
    if let stream {
      guard let known = LogStream(name: stream) else {
        throw StreamOptions.wrong("--stream '\(stream.prefix(64))'", "allowed is stdout or stderr", "log")
      }
      request.stream = known
    }
    for (name, text) in [("--filter", filter), ("--regex", regex)] {
      guard let text, !JobLog.patternRange.contains(text.utf8.count) else { continue }
      throw StreamOptions.wrong(
        "\(name) of \(text.utf8.count) bytes", "allowed is 1 to \(JobLog.patternRange.upperBound) bytes", "log")
    }
    if let tail, !JobLog.tailRange.contains(tail) {
      throw StreamOptions.wrong("--tail \(tail)", "allowed is 0 to \(JobLog.tailRange.upperBound)", "log")
    }
    (request.filter, request.regex, request.tail) = (filter, regex, tail)
    options.apply(to: &request)
    return request
  }

  public func run() async throws {
    let request = try request()
    let connection = try Connection(self.connection)
    let id = try await connection.resolve(job)
    let interrupt = try request.follow ? Interrupt(farewell: "stopped following; the job goes on") : nil
    let printer = LogPrinter(
      terminal: Terminal(), json: self.connection.json, isFollowed: request.follow, timestamps: timestamps)
    _ = try await connection.call("the output of job \(id) can't be read") {
      try await printer.print($0.logs(id, request))
    }
    interrupt?.restore()
  }
}
