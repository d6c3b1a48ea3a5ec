import ArgumentParser
import DaemonKit
import JobletModel
import Persist

/// `joblet-persist cat`.
struct Cat: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what is stored of a job, reading the files directly: no daemon need run.",
    discussion: """
      What was acknowledged and only the write-ahead log has is printed too. Nothing is changed. Lines that are damaged \
      are named on stderr, and the rest is printed.
      Times are \(TimeText.allowed).

      \(CommandStatus.help)
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Argument(help: "The job's ID.", transform: parseJob) var job: JobID
  @Flag(help: "The job's own output instead of JSON lines.") var text = false
  @Flag(help: "Metrics samples instead of output; without --stream, --filter, --regex, --tail and --text.")
  var metrics = false
  @Option(help: "stdout or stderr; both without it.") var stream: String?
  @Option(help: "Lines from this moment on.", transform: parseTime) var since: Timestamp?
  @Option(help: "Lines up to this moment.", transform: parseTime) var until: Timestamp?
  @Option(help: "Lines after this number.") var after: UInt64 = 0
  @Option(help: "Lines that contain this text.") var filter: String?
  @Option(help: "Lines that match this regular expression (PCRE2).") var regex: String?
  @Option(help: "The last so many of these lines.") var tail: Int?
  @Option(help: "At most so many lines.") var limit: Int?
  @Option(help: "Pass over the first so many lines.") var offset: Int?
  @Flag(help: "The newest first.") var reverse = false

  func validate() throws {
    guard metrics, stream != nil || filter != nil || regex != nil || tail != nil || text else { return }
    throw ValidationError("--metrics goes with --since, --until, --after, --limit, --offset and --reverse only")
  }

  func run() async throws {
    let order: QueryOrder = reverse ? .descending : .ascending
    var logs = LogQuery(
      job: job, after: after, since: since, until: until, filter: filter, regex: regex, tail: tail, limit: limit,
      offset: offset, order: order)
    logs.stream = stream
    let samples = MetricQuery(
      job: job, after: after, since: since, until: until, limit: limit, offset: offset, order: order)
    let command = CatCommand(query: metrics ? .metrics(samples) : .logs(logs), text: text)
    throw ExitCode(await StoreCommand.run("cat", config: config) { try command.run($0, $1) })
  }
}

func parseJob(_ text: String) throws -> JobID {
  guard let job = JobID(text) else { throw ValidationError("'\(text)' is not a job ID (a UUID)") }
  return job
}

private func parseTime(_ text: String) throws -> Timestamp {
  guard let time = TimeText.parse(text) else {
    throw ValidationError("'\(text)' is not a time; allowed: \(TimeText.allowed)")
  }
  return time
}
