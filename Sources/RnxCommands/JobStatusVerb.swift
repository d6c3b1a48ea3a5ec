import ArgumentParser
import JobletModel

/// `rnx job status`
public struct JobStatusVerb: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(commandName: "status", abstract: "Tells how a job stands.")

  @OptionGroup public var connection: ConnectionOptions
  @Argument(help: ArgumentHelp("The job's ID, or as much of it as is unique.", valueName: "job"), completion: .jobs)
  public var job: String

  public init() {}

  public func run() async throws {
    let connection = try Connection(self.connection)
    let id = try await connection.resolve(job)
    let record = try await connection.call("the job \(id) can't be looked at") { try await $0.job(id) }
    let terminal = Terminal()
    if self.connection.json {
      try await terminal.print(JSONOutput.text(record))
    } else {
      for line in JobSheet.lines(record, now: .now()) { try await terminal.print(line) }
    }
  }
}

/// A job's record for people: a name and a value a line, and nothing that is not known.
package enum JobSheet {
  package static func lines(_ job: JobRecord, now: Timestamp) -> [String] {
    var rows: [(String, String)] = [("Job", job.id.description)]
    func add(_ name: String, _ value: String?) {
      if let value, !value.isEmpty { rows.append((name, Words.printable(value))) }
    }
    add("Name", job.name)
    let status = status(job, now: now)
    add("Status", status)
    if let message = job.message, !status.contains(message) { add("Message", message) }
    add("Command", ([job.command] + job.args).joined(separator: " "))
    for (name, value) in job.env.sorted(by: { $0.key < $1.key }) { add("Variable", "\(name)=\(value)") }
    for name in job.secretEnv.keys.sorted() { add("Secret", "\(name)=\(JobRecord.maskedSecret)") }
    for (key, value) in job.labels.sorted(by: { $0.key < $1.key }) { add("Label", "\(key)=\(value)") }
    add("Limits", limits(job.limits))
    add("System calls", job.seccomp)
    add("Time-out", job.timeout)
    add("Created", "\(job.createdAt), \(Words.age(job.createdAt, now: now)) ago")
    add("Started", job.startedAt.map { "\($0), \(Words.span($0.nanoseconds - job.createdAt.nanoseconds)) later" })
    add("Ended", job.endedAt.map { "\($0)" })
    add("Used", job.usage.map(usage))
    add("Lines", job.lastSeq.map { "\($0)" })
    add("Owner", job.owner)
    add("Node", job.nodeID)
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { $0.0 + ":" + String(repeating: " ", count: width - $0.0.count + 1) + $0.1 }
  }

  /// The state as a sentence, and why it ended: `FAILED: exit code 3, after 2.0s`.
  static func status(_ job: JobRecord, now: Timestamp) -> String {
    var text = job.status.rawValue
    if let why = why(job) { text += ": \(why)" }
    guard let started = job.startedAt else { return text }
    let end = job.endedAt ?? now
    return text + (job.status.isEnded ? ", after " : " for ") + Words.span(end.nanoseconds - started.nanoseconds)
  }

  /// The node's own words know most: the limit and the peak, the step and the error, the call. Nil where the state says it.
  private static func why(_ job: JobRecord) -> String? {
    let words = job.message.flatMap { $0.isEmpty ? nil : $0 }
    switch job.reason {
    case .exitCode: return "exit code \(job.exitCode.map { "\($0)" } ?? "unknown")"
    case .signal:
      let plain = job.signal.map { "ended by signal \($0)" }
      return words == plain || words == nil ? "ended by \(job.signal.map { Words.signal($0) } ?? "a signal")" : words
    case .oomKilled: return words ?? "killed, it used more memory than its limit"
    case .timeout: return words ?? "its time-out fired"
    case .setupFailed: return "it could not be started: \(words ?? "nobody knows why")"
    case .seccompViolation: return words ?? "killed, it made a system call that no job may make"
    case .initLost: return words ?? "its supervisor died, how it ended is not known"
    case .nodeRestarted: return words ?? "the node restarted"
    case .nodeLost: return words ?? "the node is gone"
    case nil: return job.status.isEnded ? words : nil
    }
  }

  private static func limits(_ limits: Limits) -> String {
    var parts: [String] = []
    if let cpu = limits.cpuPercent { parts.append("\(cpu) % of a core") }
    if let weight = limits.cpuWeight { parts.append("a weight of \(weight)") }
    if let cores = limits.cpuCores { parts.append("CPUs \(cores)") }
    if let memory = limits.memoryMB { parts.append("\(memory) MiB of memory") }
    if let memory = limits.memoryHighMB { parts.append("slowed down from \(memory) MiB") }
    if let bytes = limits.ioBps { parts.append("\(Words.size(bytes))/s of disk I/O each way") }
    if let pids = limits.pids { parts.append("\(pids) processes") }
    return parts.joined(separator: ", ")
  }

  private static func usage(_ usage: JobUsage) -> String {
    var parts: [String] = []
    if let cpu = usage.cpuUsec { parts.append("\(Words.span(cpu * 1000)) of CPU time") }
    if let memory = usage.memoryPeakBytes { parts.append("\(Words.size(memory)) of memory at most") }
    if let read = usage.ioReadBytes { parts.append("\(Words.size(read)) read") }
    if let written = usage.ioWriteBytes { parts.append("\(Words.size(written)) written") }
    return parts.joined(separator: ", ")
  }
}
