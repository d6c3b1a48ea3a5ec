import ArgumentParser
import JobletClient
import JobletModel

/// Which of the jobs are meant.
public struct JobFilter: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Only jobs in this state: RUNNING for instance, or FAILED,STOPPED for any of these.", valueName: "status"),
    completion: .statuses)
  public var status: [String] = []
  @Option(help: ArgumentHelp("Only jobs posted since then: \(TimeText.allowed).", valueName: "time"))
  public var since: String?
  @Option(help: ArgumentHelp("Only jobs posted until then.", valueName: "time"))
  public var until: String?
  @Option(help: ArgumentHelp("Only jobs with this in ID, name, owner, labels or command line.", valueName: "text"))
  public var search: String?

  public init() {}

  /// The states that were named, each by itself or several with commas between them.
  static func statuses(_ texts: [String]) throws(Failure) -> [JobStatus] {
    var statuses: [JobStatus] = []
    for name in texts.flatMap({ $0.split(separator: ",", omittingEmptySubsequences: false) }) {
      guard let known = JobStatus(rawValue: name.uppercased()) else {
        throw Failure(
          "--status '\(name.prefix(64))' is not right",
          why: "the states are \(JobStatus.allCases.map(\.rawValue).joined(separator: ", "))",
          next: "choose one of them")
      }
      statuses.append(known)
    }
    return statuses
  }

  /// What the node is asked for.
  /// - Throws: ``Failure`` naming the option that is wrong and what is allowed.
  public func request() throws -> JobListRequest {
    let statuses = try Self.statuses(status)
    // The node reads them, by its own clock; what it would refuse is told here, where the option's name is known.
    if let since { _ = try TimeOption.parse(since, option: "--since") }
    if let until { _ = try TimeOption.parse(until, option: "--until") }
    if let search, !RecordQuery.textRange.contains(search.utf8.count) {
      throw Failure(
        "--search has \(search.utf8.count) bytes", why: "allowed are 1 to \(RecordQuery.textRange.upperBound)",
        next: "give a shorter text, or leave it out")
    }
    return JobListRequest(statuses: statuses, since: since, until: until, text: search)
  }
}
