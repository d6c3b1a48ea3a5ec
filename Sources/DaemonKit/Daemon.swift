import FoundationEssentials
import Glibc
import JobletConfig
import Logging
import ServiceLifecycle
import UnixSignals

/// The options every daemon takes; programs parse them, ``runDaemon(name:options:listeners:services:)`` acts on them.
public struct DaemonOptions: Sendable {
  /// `--config PATH`; nil: `$JOBLET_CONFIG_PATH`, else the installed file.
  public var config: String?
  /// `--validate`: read the configuration, say whether it is right, and end.
  public var validate: Bool
  /// `--listen NAME=ADDRESS`, as often as there are names.
  public var listen: [String]

  public init(config: String? = nil, validate: Bool = false, listen: [String] = []) {
    self.config = config
    self.validate = validate
    self.listen = listen
  }

  /// What `--help` says of `--config`.
  public static let configHelp: String =
    "Configuration file. Default: $JOBLET_CONFIG_PATH, else \(Configuration.installedPath)."
  /// What `--help` says of `--validate`.
  public static let validateHelp = "Check the configuration and exit: 0 if it is right, 1 if not."
  /// What `--help` says of `--listen`.
  public static let listenHelp =
    "Where to listen without systemd, NAME=unix:/PATH or NAME=tcp:ADDRESS:PORT; needed once for each name when no socket unit starts the program."
}

/// What a daemon's services are built from.
public struct DaemonContext: Sendable {
  /// `joblet-exec`.
  public let name: String
  public let configuration: Configuration
  public let logger: Logger
  /// Sets the log level at run time; a reload does it.
  public let log: LogControl
  public let sockets: ListeningSockets
  /// READY, STATUS and STOPPING.
  public let manager: ServiceManager
  public let watchdog: Watchdog
  public let reload: Reload
  /// True under systemd, false in a developer's terminal.
  public let isSupervised: Bool
}

/// Runs a daemon from its options to its exit: configuration, log, sockets, signals, services.
///
/// SIGTERM and SIGINT shut the services down gracefully, in reverse order, within `shutdown`; then they are cancelled. SIGHUP
/// reloads. What fails before or while serving is one line in the log, and exit status 1; systemd then starts the daemon again.
/// A service must call `context.manager.ready(_:)` itself, once it can serve.
///
/// - Parameters:
///   - listeners: the sockets this daemon needs and where its configuration puts them; called with a valid configuration.
///   - logging: how this daemon logs, by its configuration.
///   - shutdown: how long a graceful shutdown may take, by its configuration.
///   - services: builds what runs. It is not the place to wait: signals are handled once it has returned.
/// - Returns: the process's exit status.
public func runDaemon(
  name: String,
  options: DaemonOptions,
  listeners: (Configuration) -> [ExpectedListener],
  logging: @escaping @Sendable (Configuration) -> Configuration.Logging = { $0.logging },
  shutdown: (Configuration) -> Duration = { $0.server.timeouts.drain + .seconds(5) },
  services: (DaemonContext) async throws -> [any Service]
) async -> CInt {
  let environment = ProcessInfo.processInfo.environment
  let path = options.config
  let read: @Sendable () throws -> Configuration = { try Configuration.load(path: path, environment: environment) }
  let configuration: Configuration
  do {
    configuration = try read()
  } catch {
    return fail(name, "\(error)", environment)
  }
  if options.validate {
    for warning in configuration.origin.warnings { print("warning: \(warning)") }
    print("\(configuration.origin.path): the configuration is valid")
    return EXIT_SUCCESS
  }
  do {
    let log = try LogControl.bootstrap(name: name, settings: logging(configuration), environment: environment)
    let logger = Logger(label: name)
    for warning in configuration.origin.warnings { logger.warning("\(warning)") }
    try prepareProcess(logger)
    let sockets = try ListeningSockets.open(
      listeners(configuration), options: try options.listen.map { try ListenOption($0) })
    let context = DaemonContext(
      name: name, configuration: configuration, logger: logger, log: log, sockets: sockets, manager: ServiceManager(),
      watchdog: Watchdog(), reload: Reload(), isSupervised: environment["NOTIFY_SOCKET"] != nil)
    do {
      try await serve(
        context, shutdown: shutdown(configuration), read: read, logging: logging, services: services(context))
      logger.info("stopped")
      return EXIT_SUCCESS
    } catch {
      logger.critical("\(error)")
      context.manager.status("failed: \(error)")
      return EXIT_FAILURE
    }
  } catch {
    return fail(name, "\(error)", environment)
  }
}

private func serve(
  _ context: DaemonContext, shutdown: Duration, read: @escaping @Sendable () throws -> Configuration,
  logging: @escaping @Sendable (Configuration) -> Configuration.Logging,
  services: [any Service]
) async throws {
  var quiet = context.logger
  quiet.logLevel = .error  // the group tells every step of its life; the services tell what matters
  // Trapped before anything can say READY: an untrapped SIGHUP would end the daemon.
  let reloads = ReloadService(
    hangups: await UnixSignalsSequence(trapping: .sighup), context: context, read: read, logging: logging)
  var settings = ServiceGroupConfiguration(
    services: [reloads] + services + [StoppingService(manager: context.manager)],
    gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet)
  settings.maximumGracefulShutdownDuration = shutdown
  settings.maximumCancellationDuration = .seconds(5)
  try await ServiceGroup(configuration: settings).run()
}

/// Says `STOPPING=1` the moment a shutdown begins. It stands last in the group, for the last is shut down first.
private struct StoppingService: Service {
  let manager: ServiceManager

  func run() async throws {
    // Throws when cancelled instead: then another service failed, and its error is the one to tell.
    try await gracefulShutdown()
    manager.stopping()
  }
}

/// A failure before there is a log: to the journal if that is where stderr goes, with a priority prefix it reads (sd-daemon(3)).
private func fail(_ name: String, _ message: String, _ environment: [String: String]) -> CInt {
  let prefix = LogControl.isJournal(STDERR_FILENO, environment["JOURNAL_STREAM"]) ? "<2>" : "\(name): "
  LogFile(descriptor: STDERR_FILENO, path: nil).write("\(prefix)\(message)\n")
  ServiceManager().status("failed: \(message)")
  return EXIT_FAILURE
}

/// What every daemon needs of its process.
private func prepareProcess(_ logger: Logger) throws {
  // A peer that closes its socket is an error of one write, not the end of the daemon.
  signal(SIGPIPE, SIG_IGN)
  // A connection, a job, a follower each hold descriptors; the soft limit of 1024 is for programs that use select(2).
  var limit = rlimit()
  guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
    throw DaemonError.system("getrlimit")
  }
  if limit.rlim_cur < limit.rlim_max {
    limit.rlim_cur = limit.rlim_max
    if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 {
      logger.warning("the limit of open files stays low: \(String(cString: strerror(errno)))")
    }
  }
}
