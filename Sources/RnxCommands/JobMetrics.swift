import ArgumentParser
import JobletClient
import JobletModel

/// `rnx job metrics`
public struct JobMetrics: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "metrics", abstract: "Shows what a job used: CPU, memory, disk, network.",
    discussion: """
      A row is a sample; CPU is percent of one core since the sample before, counters count from the job's start, and a dash \
      is what was not measured. On a terminal a chart of CPU and memory follows. With --json the stored lines are printed as they are, with everything that was measured.

      rnx exits with 0 when all that was asked for is printed, however the job ended; with 125 when it can't be; and with 130 \
      after Ctrl-C while following, which leaves the job alone.

        rnx job metrics 019a1234 --since 1h --until now
        rnx job metrics 019a1234 --aggregate avg --interval 1m
        rnx job metrics 019a1234 --follow
      """)

  @OptionGroup public var connection: ConnectionOptions
  @OptionGroup public var options: StreamOptions
  @Option(
    help: ArgumentHelp("One row over all samples: their avg, min, max, sum or p95.", valueName: "how"),
    completion: .list(MetricAggregate.allCases.map(\.rawValue)))
  public var aggregate: String?
  @Option(help: ArgumentHelp("With --aggregate, a row for every interval of this length: 1m.", valueName: "time"))
  public var interval: String?
  @Argument(help: ArgumentHelp("The job's ID, or as much of it as is unique.", valueName: "job"), completion: .jobs)
  public var job: String

  public init() {}

  static let intervalRange: ClosedRange<Duration> = .seconds(1) ... .seconds(365 * 86_400)

  /// What is asked of the node.
  /// - Throws: ``Failure`` naming the option and what is allowed.
  public func request() throws -> MetricRequest {
    try options.check(for: "metrics", [("--aggregate", aggregate != nil)])
    var request = MetricRequest(follow: options.follow)
    if let aggregate {
      guard let known = MetricAggregate(rawValue: aggregate) else {
        let allowed = MetricAggregate.allCases.map(\.rawValue).joined(separator: ", ")
        throw StreamOptions.wrong("--aggregate '\(aggregate.prefix(64))'", "allowed is one of \(allowed)", "metrics")
      }
      request.aggregate = known
    }
    if let interval {
      guard aggregate != nil else {
        throw StreamOptions.wrong(
          "--interval alone", "it is allowed with --aggregate, which says what is made of it", "metrics")
      }
      guard let length = DurationText.parse(interval), JobMetrics.intervalRange.contains(length) else {
        throw StreamOptions.wrong(
          "--interval '\(interval.prefix(64))'", "allowed is \(DurationText.allowed), 1s to 365d", "metrics")
      }
    }
    request.interval = interval
    options.apply(to: &request)
    return request
  }

  public func run() async throws {
    let request = try request()
    let connection = try Connection(self.connection)
    let id = try await connection.resolve(job)
    let interrupt = try request.follow ? Interrupt(farewell: "stopped following; the job goes on") : nil
    let printer = MetricPrinter(
      terminal: Terminal(), json: self.connection.json, isFollowed: request.follow,
      table: MetricTable(isAggregated: request.aggregate != nil, width: Terminal.width()),
      chartWidth: request.follow ? nil : Terminal.width())
    try await connection.call("the metrics of job \(id) can't be read") {
      try await printer.print($0.metrics(id, request))
    }
    interrupt?.restore()
  }
}

/// Prints samples as a table, or as the JSON lines they are.
struct MetricPrinter {
  var terminal: Terminal
  var json: Bool
  var isFollowed: Bool
  var table: MetricTable
  /// Columns for charts behind the table; nil for none.
  var chartWidth: Int?

  func print(_ metrics: MetricBatches) async throws {
    var hasHeader = json
    var charts = MetricCharts()
    for try await events in metrics {
      var out: [UInt8] = []
      for event in events {
        switch event {
        case .record(let line):
          if !hasHeader { out += Array((table.header + "\n").utf8) }
          hasHeader = true
          if !json, chartWidth != nil { charts.add(line.point) }
          out += json ? line.json + [0x0A] : Array((table.row(line.point) + "\n").utf8)
        case .gap(let from, let to):
          if json {
            out += try Array((JSONOutput.text(["gap": ["from": from, "to": to]]) + "\n").utf8)
          } else {
            try await flush(&out)
            try await terminal.warn("samples \(from) to \(to) are lost")
          }
        case .end(let end):
          // As the API's JSON lines: what is not followed is samples and nothing else.
          if json, isFollowed { out += try Array((JSONOutput.text(["end": end]) + "\n").utf8) }
        case .reconnecting(let why):
          try await flush(&out)
          try await terminal.note("the connection was lost (\(why)); going on where it broke")
        }
      }
      try await flush(&out)
    }
    if let chartWidth {
      for line in charts.lines(width: chartWidth, style: .stdout()) { try await terminal.print(line) }
    }
    if !hasHeader { try await terminal.note("there are no samples") }
  }

  private func flush(_ out: inout [UInt8]) async throws {
    try await terminal.write(out)
    out = []
  }
}
