import JobletConfig
import Logging
import ServiceLifecycle
import Synchronization
import UnixSignals

/// What a daemon does when it is told to reload (`systemctl reload`, SIGHUP).
public final class Reload: Sendable {
  /// Takes a new, valid configuration. An error is logged, and the daemon goes on as it was.
  public typealias Hook = @Sendable (Configuration) async throws -> Void

  private struct State {
    var hooks: [(name: String, hook: Hook)] = []
    var status = "serving"
  }
  private let state = Mutex(State())

  /// Adds a hook; hooks run in the order they were added.
  public func onReload(_ name: String, _ hook: @escaping Hook) {
    state.withLock { $0.hooks.append((name, hook)) }
  }

  /// Runs every hook, and goes on after one that fails.
  /// - Returns: the names of those that failed.
  package func run(_ configuration: Configuration, logger: Logger) async -> [String] {
    var failed: [String] = []
    for (name, hook) in state.withLock({ $0.hooks }) {
      do {
        try await hook(configuration)
      } catch {
        logger.error("reload of \(name) failed, it goes on as before: \(error)")
        failed.append(name)
      }
    }
    return failed
  }
}

/// Waits for SIGHUP for as long as the daemon runs.
struct ReloadService: Service {
  let hangups: UnixSignalsSequence
  let context: DaemonContext
  let read: @Sendable () throws -> Configuration
  let logging: @Sendable (Configuration) -> Configuration.Logging

  func run() async throws {
    for await _ in hangups.cancelOnGracefulShutdown() {
      context.manager.reloading()
      do {
        let configuration = try read()
        for warning in configuration.origin.warnings { context.logger.warning("\(warning)") }
        try context.log.apply(logging(configuration))
        let failed = await context.reload.run(configuration, logger: context.logger)
        context.logger.notice("configuration reloaded")
        context.manager.ready(
          failed.isEmpty ? "serving" : "serving; reload failed for \(failed.joined(separator: ", "))")
      } catch {
        context.logger.error("reload refused, going on with the old configuration: \(error)")
        context.manager.ready("serving with the old configuration: the new one is refused")
      }
    }
  }
}
