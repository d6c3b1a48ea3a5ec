import Glibc
import JobletConfig
import JobletModel
import JobletWire
import Logging

/// `joblet-persist sweep`: one sweep now, by the daemon if it runs, else by this process in its place.
public struct SweepCommand: Sendable {
  private let request: SweepRequest
  /// JSON lines instead of a table.
  private let json: Bool

  /// - Parameters:
  ///   - dryRun: only say what would go.
  ///   - days: bounds in place of the daemon's; 0 for none, nil for its own. The same for the next two.
  public init(dryRun: Bool, days: Int?, maxBytesPerJob: Int64?, maxBytes: Int64?, json: Bool) {
    request = SweepRequest(dryRun: dryRun, days: days, maxBytesPerJob: maxBytesPerJob, maxBytes: maxBytes)
    self.json = json
  }

  public func run(_ configuration: Configuration, _ output: CommandOutput) async throws -> CommandStatus {
    var rows = SweepTable(output, json: json, isDryRun: request.dryRun)
    let totals: SweepTotals
    do {
      totals = try await ask(configuration.persist.server.querySocket, &rows)
    } catch let error as ConnectError where error.code == ENOENT || error.code == ECONNREFUSED {
      let request = request
      let (jobs, found) = try await WorkerThread.run("sweep") { try Self.sweepAlone(configuration, request) }
      for job in jobs { try rows.add(job) }
      totals = found
    } catch let error as ConnectError where error.code == EACCES {
      throw PersistError.unsupported("\(error): run it as root or as the user of joblet-persist")
    }
    try rows.end(totals)
    return totals.failedJobs == 0 ? .good : .fault
  }

  /// The daemon decides and deletes: it alone knows what is being written.
  private func ask(_ socket: String, _ rows: inout SweepTable) async throws -> SweepTotals {
    let connection = try await FrameClient.connect(path: socket)
    do {
      try await connection.send(Frame(FrameHeader(.sweep), json: request))
      while true {
        let frame = try await connection.reply()
        if frame.header.type == .done {
          await connection.close()
          return try frame.decode()
        }
        guard frame.header.type == .sweep else { throw FrameError.unexpected(frame.header.type) }
        for job in try frame.decode([SweptJob].self) { try rows.add(job) }
      }
    } catch {
      await connection.close()
      throw error
    }
  }

  /// Takes the daemon's place: its lock, its user, and first what its start does.
  private static func sweepAlone(_ configuration: Configuration, _ request: SweepRequest) throws -> (
    [SweptJob], SweepTotals
  ) {
    try becomeOwner(of: configuration.persist.storage.baseDir + "/persist")
    var logger = Logger(label: "sweep") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = .warning
    let engine = try PersistEngine.open(configuration, logger: logger)
    var jobs: [SweptJob] = []
    let outcome = Result { try engine.sweep(request) { jobs.append($0) } }
    try engine.close()
    try engine.intake.records.close()
    return (jobs, try outcome.get())
  }

  /// Root would leave files behind that the daemon can't open.
  private static func becomeOwner(of directory: String) throws {
    var status = stat()
    guard stat(directory, &status) == 0 else {
      throw PersistError.system(call: "stat", path: directory, errno: errno)
    }
    guard geteuid() != status.st_uid else { return }
    guard geteuid() == 0 else {
      throw PersistError.unsupported(
        "\(directory) is another user's (\(status.st_uid)): run it as root or as that user")
    }
    var group = status.st_gid
    guard setgroups(1, &group) == 0, setgid(status.st_gid) == 0, setuid(status.st_uid) == 0 else {
      throw PersistError.system(call: "setuid", path: "\(status.st_uid)", errno: errno)
    }
  }
}

/// A sweep for a person's eyes, or as JSON lines.
struct SweepTable {
  private let output: CommandOutput
  private let json: Bool
  private let isDryRun: Bool
  private var hasRows = false

  init(_ output: CommandOutput, json: Bool, isDryRun: Bool) {
    self.output = output
    self.json = json
    self.isDryRun = isDryRun
  }

  mutating func add(_ job: SweptJob) throws {
    if json { return try output.json(job) }
    if !hasRows { try output.line(SweepTable.row("JOB", "ENDED", "BYTES", "WHY")) }
    hasRows = true
    let why =
      switch job.reason {
      case .age: "age: days"
      case .jobBytes: "size: max_bytes_per_job"
      case .totalBytes: "room: max_bytes"
      }
    try output.line(
      SweepTable.row("\(job.job)", String("\(job.endedAt)".prefix(19)) + "Z", ByteCount.text(job.bytes), why))
  }

  private static func row(_ job: String, _ ended: String, _ bytes: String, _ why: String) -> String {
    func pad(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(0, width - text.count))
    }
    return "\(pad(job, 36))  \(pad(ended, 20))  \(pad(bytes, 10))  \(why)"
  }

  func end(_ totals: SweepTotals) throws {
    if json { return try output.json(totals) }
    let bounds = totals.bounds
    guard bounds.days > 0 || bounds.maxBytesPerJob > 0 || bounds.maxBytes > 0 else {
      return try output.line("persist.retention sets no bound (days, max_bytes_per_job, max_bytes): everything stays")
    }
    try output.line(
      """
      \(isDryRun ? "would remove" : "removed") \(totals.removedJobs) jobs with \(ByteCount.text(totals.removedBytes)); \
      \(totals.keptJobs) jobs with \(ByteCount.text(totals.keptBytes)) stay, \(totals.runningJobs) of them running
      """)
    if totals.failedJobs > 0 {
      try output.line("\(totals.failedJobs) jobs could not be removed; the journal of joblet-persist says why")
    }
  }
}
