import ArgumentParser
import JobletClient
import JobletModel

/// The options that 'rnx job log' and 'rnx job metrics' have in common.
public struct StreamOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Only from this time on: RFC 3339, Unix seconds, how long ago (1h), or now.", valueName: "time"))
  public var since: String?
  @Option(help: ArgumentHelp("Only up to this time, in the same forms.", valueName: "time"))
  public var until: String?
  @Flag(help: "The newest first.") public var reverse = false
  @Option(help: ArgumentHelp("At most so many.", valueName: "count")) public var limit: Int?
  @Option(help: ArgumentHelp("Leave out the first so many of what would be shown.", valueName: "count"))
  public var offset: Int?
  @Flag(name: [.short, .long], help: "Go on with new ones until the job ends.") public var follow = false

  public init() {}

  static let limitRange = 1...10_000_000
  static let offsetRange = 0...1_000_000_000

  /// Looks the values over before the node has to.
  /// - Parameters:
  ///   - verb: whose options they are.
  ///   - more: further options that can't stand beside `--follow`, and whether they are given.
  /// - Throws: ``Failure`` naming the option and what is allowed.
  func check(for verb: String, _ more: [(String, Bool)] = []) throws {
    for (name, text) in [("--since", since), ("--until", until)] {
      if let text { _ = try TimeOption.parse(text, option: name) }
    }
    for (name, value, range) in [
      ("--limit", limit, StreamOptions.limitRange), ("--offset", offset, StreamOptions.offsetRange),
    ] {
      guard let value, !range.contains(value) else { continue }
      throw StreamOptions.wrong("\(name) \(value)", "allowed is \(range.lowerBound) to \(range.upperBound)", verb)
    }
    guard follow else { return }
    let given = [
      ("--until", until != nil), ("--limit", limit != nil), ("--offset", offset != nil), ("--reverse", reverse),
    ]
    guard let (name, _) = (given + more).first(where: \.1) else { return }
    throw StreamOptions.wrong(
      "\(name) with --follow", "following goes on until the job has ended, so it is allowed without it only", verb)
  }

  func apply<Request: StreamRequest>(to request: inout Request) {
    (request.since, request.until, request.isReversed) = (since, until, reverse)
    (request.limit, request.offset) = (limit, offset)
  }

  static func wrong(_ option: String, _ why: String, _ verb: String) -> Failure {
    Failure("\(option) is not right", why: why, next: "'rnx job \(verb) --help' lists the options")
  }
}
