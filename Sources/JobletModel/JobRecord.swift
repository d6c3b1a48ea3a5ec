/// Where a job is in its life.
public enum JobStatus: String, Codable, Sendable, CaseIterable, Hashable {
  case queued = "QUEUED"
  case scheduled = "SCHEDULED"
  case initializing = "INITIALIZING"
  case running = "RUNNING"
  case paused = "PAUSED"
  /// Ended with exit code 0.
  case completed = "COMPLETED"
  /// Ended otherwise; ``JobRecord/reason`` says how.
  case failed = "FAILED"
  /// Ended because a client asked for it while it ran.
  case stopped = "STOPPED"
  /// Ended before it started because a client asked for it.
  case canceled = "CANCELED"

  /// True for the states no job leaves.
  public var isEnded: Bool {
    switch self {
    case .completed, .failed, .stopped, .canceled: true
    case .queued, .scheduled, .initializing, .running, .paused: false
    }
  }
}

/// Why a job failed, as read from the kernel before its cgroup went.
public enum JobReason: String, Codable, Sendable, CaseIterable, Hashable {
  /// The command exited by itself with a code other than 0.
  case exitCode = "exit_code"
  /// A signal ended it that nobody here sent.
  case signal
  /// The kernel killed it for its memory limit (`memory.events`).
  case oomKilled = "oom_killed"
  /// Its time-out fired.
  case timeout
  /// It never ran: ``JobRecord/message`` names the step and the error.
  case setupFailed = "setup_failed"
  /// It made a system call that no job has a use for; ``JobRecord/message`` names the call.
  case seccompViolation = "seccomp_violation"
  /// Its PID 1 died without saying how the job ended, so nobody knows.
  case initLost = "init_lost"
  case nodeRestarted = "node_restarted"
  case nodeLost = "node_lost"
}

/// What a job used in all, read from its cgroup at the end. What could not be measured is absent.
public struct JobUsage: Codable, Hashable, Sendable {
  /// `cpu.stat` usage_usec.
  public var cpuUsec: Int64?
  /// `memory.peak`.
  public var memoryPeakBytes: Int64?
  /// `io.stat` rbytes and wbytes over all devices.
  public var ioReadBytes: Int64?
  public var ioWriteBytes: Int64?

  public enum CodingKeys: String, CodingKey {
    case cpuUsec = "cpu_usec"
    case memoryPeakBytes = "memory_peak_bytes"
    case ioReadBytes = "io_read_bytes"
    case ioWriteBytes = "io_write_bytes"
  }

  public init(
    cpuUsec: Int64? = nil, memoryPeakBytes: Int64? = nil, ioReadBytes: Int64? = nil, ioWriteBytes: Int64? = nil
  ) {
    self.cpuUsec = cpuUsec
    self.memoryPeakBytes = memoryPeakBytes
    self.ioReadBytes = ioReadBytes
    self.ioWriteBytes = ioWriteBytes
  }
}

/// A job as everyone sees it. `joblet-exec` is its only writer; every change raises ``version``.
public struct JobRecord: Codable, Hashable, Sendable, Identifiable {
  public var id: JobID
  public var name: String?
  public var command: String
  public var args: [String]
  public var env: [String: String]
  /// Names only; every value is ``maskedSecret``.
  public var secretEnv: [String: String]
  public var limits: Limits
  public var timeout: String?
  public var labels: [String: String]
  /// The profile of system calls it runs under, one of ``SeccompProfile``; absent in a record from before there were several.
  public var seccomp: String?
  public var status: JobStatus
  public var exitCode: Int?
  /// The number of the signal that ended it.
  public var signal: Int?
  public var reason: JobReason?
  /// The end in a sentence for people.
  public var message: String?
  public var createdAt: Timestamp
  public var startedAt: Timestamp?
  public var endedAt: Timestamp?
  public var scheduledAt: Timestamp?
  public var nodeID: String
  /// The common name of the client certificate that posted it.
  public var owner: String
  /// 1 at first; one more with every change.
  public var version: UInt64
  /// The `seq` of the last log line, once the job has ended.
  public var lastSeq: UInt64?
  public var usage: JobUsage?
  /// The ``TraceContext`` of the call that posted it, where it came with one.
  public var traceparent: String?

  /// What stands for a secret's value wherever a record is shown.
  public static let maskedSecret = "***"

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case id, name, command, args, env, limits, timeout, labels, status, signal, reason, message, owner, version, usage
    case seccomp, traceparent
    case secretEnv = "secret_env"
    case exitCode = "exit_code"
    case createdAt = "created_at"
    case startedAt = "started_at"
    case endedAt = "ended_at"
    case scheduledAt = "scheduled_at"
    case nodeID = "node_id"
    case lastSeq = "last_seq"
  }

  /// The record of a job that was just admitted.
  public init(
    id: JobID, request: JobRequest, status: JobStatus, createdAt: Timestamp, nodeID: String, owner: String
  ) {
    self.id = id
    name = request.name
    command = request.command
    args = request.args
    env = request.env
    secretEnv = request.secretEnv.mapValues { _ in JobRecord.maskedSecret }
    limits = request.limits
    timeout = request.timeout
    labels = request.labels
    seccomp = request.seccomp
    self.status = status
    self.createdAt = createdAt
    self.nodeID = nodeID
    self.owner = owner
    version = 1
  }
}

/// How a followed stream ends: the data of the SSE event `end` and the last word of every log reply that follows.
public struct JobEnd: Codable, Hashable, Sendable {
  public var status: JobStatus
  public var exitCode: Int?
  public var signal: Int?
  public var reason: JobReason?
  public var endedAt: Timestamp?

  public enum CodingKeys: String, CodingKey {
    case status, signal, reason
    case exitCode = "exit_code"
    case endedAt = "ended_at"
  }

  public init(_ record: JobRecord) {
    status = record.status
    exitCode = record.exitCode
    signal = record.signal
    reason = record.reason
    endedAt = record.endedAt
  }
}
