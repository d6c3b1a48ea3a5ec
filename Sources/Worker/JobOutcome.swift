import Cgroups
import JobletModel

/// A job that never ran: which step failed, and why.
package struct SetupProblem: Error, Hashable, Sendable, Codable {
  /// The step's name: `exec`, `pivot_root`, `cgroup`.
  package var step: String
  package var message: String
  /// 126 or 127 where the command itself could not be executed or found.
  package var exitCode: Int?

  package init(step: String, message: String, exitCode: Int? = nil) {
    self.step = step
    self.message = message
    self.exitCode = exitCode
  }
}

/// All that is known when a job's payload is gone.
package struct EndFacts: Hashable, Sendable {
  /// joblet-init's report; nil if it died without one.
  package var report: EndReport?
  /// The report's setup failure in words.
  package var setup: SetupProblem?
  /// Why the ring is not believed.
  package var fault: String?
  package var isCanceled = false
  package var stopIntent = false
  /// Nil if nobody counts.
  package var memoryEvents: MemoryEvents?
  package var memoryLimitMB: Int?
  package var memoryPeakBytes: Int64?

  package init() {}
}

/// How a job ended, in the words of its record. Nothing here is made up: what is not known is absent.
package struct JobOutcome: Hashable, Sendable {
  package var status: JobStatus
  package var reason: JobReason?
  package var exitCode: Int?
  package var signal: Int?
  package var message: String?

  package init(
    _ status: JobStatus, reason: JobReason? = nil, exitCode: Int? = nil, signal: Int? = nil, message: String? = nil
  ) {
    self.status = status
    self.reason = reason
    self.exitCode = exitCode
    self.signal = signal
    self.message = message
  }

  /// Decides from the facts, the most certain cause first.
  package init(_ facts: EndFacts) {
    if facts.isCanceled {
      self.init(.canceled, message: "canceled before its command was started")
    } else if let setup = facts.setup {
      self.init(.failed, reason: .setupFailed, exitCode: setup.exitCode, message: "\(setup.step): \(setup.message)")
    } else if let fault = facts.fault {
      self.init(
        .failed, reason: .initLost, message: "the job was ended because its output ring can't be believed: \(fault)")
    } else if let report = facts.report {
      self.init(report, facts)
    } else {
      self.init(facts.stopIntent ? .stopped : .failed, reason: facts.stopIntent ? nil : .initLost)
      message = "its PID 1 ended without a report, so nobody knows how the command ended"
    }
  }

  private init(_ report: EndReport, _ facts: EndFacts) {
    var exitCode: Int?
    var signal: Int?
    switch report.end {
    case .exited(let code): exitCode = code
    case .signaled(let number): signal = number
    case .setup: break
    }
    let end = exitCode.map { "exit code \($0)" } ?? signal.map { "signal \($0)" } ?? "no status"
    // A stop that came when the command had ended already, and only its output was still on the way, ended nothing.
    let wasStopped = facts.stopIntent && (report.stopReached || signal == 9 || signal == 15)
    if let violation = report.violation {
      // Whatever came first, this is what ended it: a forbidden call is answered by nothing but the end of the job.
      self.init(
        .failed, reason: .seccompViolation,
        message: "a process of it made \(violation.description), which no job may make; the job was killed (\(end))")
    } else if report.timedOut {
      self.init(.failed, reason: .timeout, message: "its time-out ended it (\(end))")
    } else if wasStopped {
      self.init(.stopped, message: "stopped by a client (\(end))")
    } else if exitCode == 0 {
      self.init(.completed)
    } else if let events = facts.memoryEvents, events.kills > 0, events.limitReached > 0 {
      self.init(.failed, reason: .oomKilled, message: JobOutcome.outOfMemory(facts, end))
    } else if let events = facts.memoryEvents, events.kills > 0, signal == 9 {
      self.init(
        .failed, reason: .signal,
        message:
          "the kernel killed it because the memory for all jobs together, or the node's, ran out, and not for a limit of its own (\(end))"
      )
    } else if let exitCode {
      self.init(.failed, reason: .exitCode, message: "exit code \(exitCode)")
    } else {
      self.init(.failed, reason: .signal, message: "ended by \(end)")
    }
    self.exitCode = exitCode
    self.signal = signal
  }

  private static func outOfMemory(_ facts: EndFacts, _ end: String) -> String {
    let limit = facts.memoryLimitMB.map { " of \($0) MiB" } ?? ""
    let peak = facts.memoryPeakBytes.map { ", at most \(mebibytes($0)) MiB used" } ?? ""
    return "the kernel killed it for reaching its memory limit\(limit) (\(end)\(peak))"
  }

  /// With one decimal, rounded: `47.9`.
  private static func mebibytes(_ bytes: Int64) -> String {
    let tenths = (bytes * 10 + 1 << 19) >> 20
    return "\(tenths / 10).\(tenths % 10)"
  }
}
