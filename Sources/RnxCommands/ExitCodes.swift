import JobletModel

/// What `rnx` exits with.
public enum ExitCodes {
  /// A failure of our own, whatever the verb: no job can be told from it.
  public static let ownFailure: Int32 = 125
  public static let timedOut: Int32 = 124
  /// Ctrl-C, as a shell counts SIGINT.
  public static let interrupted: Int32 = 130
  /// SIGTERM, as a shell counts it.
  public static let terminated: Int32 = 143
  /// Nobody reads the output any more: SIGPIPE, as a shell counts it.
  public static let readerGone: Int32 = 141

  /// What a followed run exits with: as the job did, and as a shell would say it.
  public static func code(for end: JobEnd) -> Int32 {
    // A job that outlived its time-out was ended by a signal; that it was late says more.
    if end.reason == .timeout { return timedOut }
    if let code = end.exitCode { return Int32(clamping: code) & 0xFF }
    if let signal = end.signal { return (128 + Int32(clamping: signal)) & 0xFF }
    return end.status == .completed ? 0 : ownFailure
  }

  /// Why a job ended, for people; nil where the exit code says it all.
  public static func explanation(_ end: JobEnd) -> String? {
    switch (end.status, end.reason) {
    case (.completed, _), (_, .exitCode): nil
    case (_, .timeout): "the job was ended by its time-out"
    case (_, .oomKilled): "the job was killed: it used more memory than its limit"
    case (_, .setupFailed): "the job could not be started"
    case (_, .seccompViolation): "the job was killed: it made a system call that no job may make"
    case (_, .initLost): "the job's supervisor died, so how the job ended is not known"
    case (_, .nodeRestarted): "the node restarted while the job ran"
    case (_, .nodeLost): "the node that ran the job is gone"
    case (_, .signal): "the job was ended by signal \(end.signal.map { "\($0)" } ?? "unknown")"
    case (.stopped, _): "the job was stopped"
    case (.canceled, _): "the job was canceled before it started"
    default: nil
    }
  }
}
