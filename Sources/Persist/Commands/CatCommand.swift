import JobletConfig
import JobletModel
import LogStore

/// `joblet-persist cat JOB`: what is stored of a job, without the daemon: files, and what only the write-ahead log has.
public struct CatCommand: Sendable {
  /// What is asked for.
  public enum Query: Sendable {
    case logs(LogQuery)
    case metrics(MetricQuery)
  }
  public var query: Query
  /// The job's own bytes instead of JSON lines; for logs.
  public var text: Bool

  public init(query: Query, text: Bool) {
    self.query = query
    self.text = text
  }

  public func run(_ configuration: Configuration, _ output: CommandOutput) throws -> CommandStatus {
    let job =
      switch query {
      case .logs(let query): query.job
      case .metrics(let query): query.job
      }
    let stored = try StoredJob(job, configuration)
    guard try stored.exists else {
      StoreCommand.complain("cat", "there is no data of job \(job) in \(stored.places)")
      return .fault
    }
    var status = CommandStatus.good
    let next: () throws -> ScanBatch
    switch query {
    case .logs(let query):
      let scanner = try LogScanner(query, open: stored.open)
      next = scanner.next
    case .metrics(let query):
      let scanner = try MetricScanner(query, open: stored.open)
      next = scanner.next
    }
    while true {
      switch try next() {
      case .lines(_, _, let bytes): try print(bytes, output)
      case .gap(let first, let last):
        try output.flush()  // so that the two streams tell it in order
        StoreCommand.complain("cat", "lines \(first) to \(last) are damaged and can't be given")
        status = .fault
      case .working: continue
      case .end: return status
      }
    }
  }

  private func print(_ bytes: UnsafeRawBufferPointer, _ output: CommandOutput) throws {
    guard text, case .logs = query else { return try output.write(bytes) }
    var out: [UInt8] = []
    for line in bytes.split(separator: 0x0A) {
      guard let parsed = LogLine(json: line) else {
        throw PersistError.unsupported(
          "a stored line is not in the form lines have: \(String(decoding: line.prefix(120), as: UTF8.self))")
      }
      parsed.appendText(to: &out)
    }
    try out.withUnsafeBytes { try output.write($0) }
  }
}
