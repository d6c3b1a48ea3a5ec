import JobletConfig
import JobletModel
import LocalStore
import LogStore

/// `joblet-persist verify JOB|--all`: reads every byte of what is stored and says what is wrong. It changes nothing, and a
/// daemon may write meanwhile.
public struct VerifyCommand: Sendable {
  /// Nil for every job there is.
  private let job: JobID?
  private let json: Bool

  public init(job: JobID?, json: Bool) {
    self.job = job
    self.json = json
  }

  public func run(_ configuration: Configuration, _ output: CommandOutput) throws -> CommandStatus {
    let storage = configuration.persist.storage
    let store = try LocalLogStore(
      existingLogs: storage.local.logs.directory, metrics: storage.local.metrics.directory)
    var table = VerifyTable(output, json: json)
    for job in try self.job.map({ [$0] }) ?? store.storedJobs().sorted() {
      guard var report = try store.verify(job) else {
        if self.job != nil, try logged(job, configuration) != nil {
          try table.note("job \(job) is in the write-ahead log only; nothing of it is in files yet")
        }
        continue
      }
      // The log is read whole for a look at one job, so only where the files raise a question: what they miss may be waiting in
      // it, or it says that the job is deleted.
      if self.job != nil || !report.isSound {
        guard let stored = try logged(job, configuration) else { continue }
        if report.missingRuns > 0 { try report.findMissing(StoredStream.allCases, open: stored.open) }
      }
      try table.add(report)
    }
    return try table.end()
  }

  /// The job with what only the log has of it. Nil if it is gone: of all jobs, one that was deleted a moment ago is no news.
  private func logged(_ job: JobID, _ configuration: Configuration) throws -> StoredJob? {
    let stored = try StoredJob(job, configuration)
    if try stored.exists { return stored }
    guard self.job == nil else {
      throw PersistError.unsupported("there is no data of job \(job) in \(stored.places)")
    }
    return nil
  }
}

/// The findings for a person's eyes, or as JSON lines.
private struct VerifyTable {
  private let output: CommandOutput
  private let json: Bool
  private var jobs = 0
  private var faulty = 0
  private var lines: UInt64 = 0
  private var bytes: UInt64 = 0

  init(_ output: CommandOutput, json: Bool) {
    self.output = output
    self.json = json
  }

  func note(_ text: String) throws {
    if !json { try output.line(text) }
  }

  mutating func add(_ report: JobReport) throws {
    if jobs == 0, !json {
      try output.line(VerifyTable.row("JOB", "STREAM", "MEMBERS", "LINES", "BYTES", "NUMBERS", ""))
    }
    jobs += 1
    if !report.isSound { faulty += 1 }
    for stream in report.streams {
      lines += stream.lines
      bytes += stream.fileBytes
    }
    guard !json else { return try output.json(VerifiedJob(report)) }
    for stream in report.streams { try show(stream, report.job) }
    for (what, runs) in [("lines", report.missingLines), ("samples", report.missingSamples)] where !runs.isEmpty {
      let text = runs.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound) to \($0.upperBound)" }
      try output.line("  missing \(what): \(text.joined(separator: ", "))")
    }
    let shown = report.missingLines.count + report.missingSamples.count
    if report.missingRuns > shown { try output.line("  and \(report.missingRuns - shown) more runs") }
  }

  private func show(_ stream: StreamReport, _ job: JobID) throws {
    let numbers = stream.seqs.map { "\($0.lowerBound)-\($0.upperBound)" } ?? "-"
    try output.line(
      VerifyTable.row(
        "\(job)", stream.stream.name, "\(stream.members)", "\(stream.lines)",
        ByteCount.text(Int64(clamping: stream.fileBytes)), numbers, stream.isSound ? "sound" : "FAULTY"))
    for fault in stream.faults { try output.line("  \(stream.path): \(fault)") }
    if stream.faultCount > stream.faults.count {
      try output.line("  \(stream.path): and \(stream.faultCount - stream.faults.count) more")
    }
    if stream.tornBytes > 0 {
      try output.line(
        "  \(stream.path): \(stream.tornBytes) bytes at its end are no whole member yet: the next start settles them")
    }
  }

  private static func row(_ columns: String...) -> String {
    let widths = [36, 7, 8, 12, 10, 21, 0]
    let padded = zip(columns, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
    return padded.joined(separator: "  ")
  }

  func end() throws -> CommandStatus {
    if json {
      try output.json(VerifiedTotals(jobs: jobs, faultyJobs: faulty, lines: lines, bytes: bytes))
    } else {
      let size = ByteCount.text(Int64(clamping: bytes))
      try output.line("\(jobs) jobs, \(lines) lines and samples, \(size) of files: \(faulty) with faults")
    }
    return faulty == 0 ? .good : .fault
  }
}

/// A job's line of `verify --json`.
private struct VerifiedJob: Encodable {
  struct Stream: Encodable {
    var stream: String
    var path: String
    var members: UInt64
    var lines: UInt64
    var bytes: UInt64
    var firstSeq: UInt64?
    var lastSeq: UInt64?
    var tornBytes: UInt64
    var faultCount: Int
    var faults: [Fault]
  }
  struct Fault: Encodable {
    var kind: String
    var offset: UInt64
    var detail: String
  }
  var job: JobID
  var sound: Bool
  var streams: [Stream]
  /// First and last number of each run.
  var missingLines: [[UInt64]]
  var missingSamples: [[UInt64]]
  var missingRuns: Int

  init(_ report: JobReport) {
    job = report.job
    sound = report.isSound
    streams = report.streams.map { stream in
      Stream(
        stream: stream.stream.name, path: stream.path, members: stream.members, lines: stream.lines,
        bytes: stream.fileBytes, firstSeq: stream.seqs?.lowerBound, lastSeq: stream.seqs?.upperBound,
        tornBytes: stream.tornBytes, faultCount: stream.faultCount,
        faults: stream.faults.map { Fault(kind: $0.kind.rawValue, offset: $0.offset, detail: $0.detail) })
    }
    missingLines = report.missingLines.map { [$0.lowerBound, $0.upperBound] }
    missingSamples = report.missingSamples.map { [$0.lowerBound, $0.upperBound] }
    missingRuns = report.missingRuns
  }
}

/// The last line of `verify --json`.
private struct VerifiedTotals: Encodable {
  var jobs: Int
  var faultyJobs: Int
  var lines: UInt64
  var bytes: UInt64
}
