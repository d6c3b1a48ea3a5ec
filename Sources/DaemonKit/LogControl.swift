import Glibc
import JobletConfig
import Logging
import Synchronization

/// Where a daemon's log goes and how much of it: set once by ``bootstrap(name:settings:environment:)``, its level changed by a reload.
public final class LogControl: Sendable {
  private let level: Atomic<Int>
  private let sink: LogSink

  private init(level: Logger.Level, sink: LogSink) {
    self.level = Atomic(level.rank)
    self.sink = sink
  }

  /// The least level that is written.
  public var current: Logger.Level {
    get { Logger.Level.allCases[level.load(ordering: .relaxed)] }
    set { level.store(newValue.rank, ordering: .relaxed) }
  }

  /// Sends every `Logger` of the process where the settings say: with fields to the journal when the output is `stdout` and that is
  /// the journal (`JOURNAL_STREAM`, systemd.exec(5)), else as text or JSON to stdout, stderr or a file. Call it once.
  /// - Throws: ``DaemonError`` when the log file can't be opened.
  public static func bootstrap(
    name: String, settings: Configuration.Logging, environment: [String: String]
  ) throws -> LogControl {
    let sink: LogSink
    switch settings.output {
    case "stdout" where isJournal(STDOUT_FILENO, environment["JOURNAL_STREAM"]): sink = .journal(identifier: name)
    case "stdout": sink = .stream(LogFile(descriptor: STDOUT_FILENO, path: nil), settings.format)
    case "stderr": sink = .stream(LogFile(descriptor: STDERR_FILENO, path: nil), settings.format)
    default: sink = .stream(try LogFile(path: settings.output), settings.format)
    }
    let control = LogControl(level: settings.level.logger, sink: sink)
    LoggingSystem.bootstrap { label in DaemonLogHandler(label: label, control: control, sink: sink) }
    return control
  }

  /// Takes the level of a configuration that was read again, and opens the log file anew (it may have been rotated).
  public func apply(_ settings: Configuration.Logging) throws {
    current = settings.level.logger
    if case .stream(let file, _) = sink { try file.reopen() }
  }

  /// True when the descriptor is the stream `JOURNAL_STREAM` names by device and inode.
  static func isJournal(_ descriptor: CInt, _ stream: String?) -> Bool {
    guard let stream else { return false }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return false }
    return stream == "\(status.st_dev):\(status.st_ino)"
  }
}

extension Logger.Level {
  fileprivate var rank: Int { Logger.Level.allCases.firstIndex(of: self) ?? 0 }

  /// syslog(3)'s number, which the journal keeps as `PRIORITY`.
  var priority: CInt {
    switch self {
    case .trace, .debug: LOG_DEBUG
    case .info: LOG_INFO
    case .notice: LOG_NOTICE
    case .warning: LOG_WARNING
    case .error: LOG_ERR
    case .critical: LOG_CRIT
    }
  }

  /// The name in text and JSON lines, as the configuration writes levels.
  var name: String {
    switch self {
    case .trace, .debug: "DEBUG"
    case .info, .notice: "INFO"
    case .warning: "WARN"
    case .error: "ERROR"
    case .critical: "FATAL"
    }
  }
}

extension Configuration.Logging.Level {
  var logger: Logger.Level {
    switch self {
    case .debug: .debug
    case .info: .info
    case .warn: .warning
    case .error: .error
    }
  }
}
