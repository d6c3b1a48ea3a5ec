import ArgumentParser
import DaemonKit
import FoundationEssentials
import JobletConfig
import Persist

/// The daemon.
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run as the daemon; this is what joblet-persist does without a subcommand.",
    discussion: """
      systemd starts it by its sockets (joblet-persist.socket: ipc, joblet-persist-query.socket: query). Without systemd it \
      needs --listen for both: --listen ipc=unix:/tmp/ipc.sock --listen query=unix:/tmp/query.sock
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Flag(help: ArgumentHelp(stringLiteral: DaemonOptions.validateHelp)) var validate = false
  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.listenHelp)) var listen: [String] = []

  func run() async throws {
    if !validate, isDisabled {
      print("joblet-persist: ipc.enabled is false, so there is nothing to store; not running")
      return
    }
    let status = await runDaemon(
      name: "joblet-persist",
      options: DaemonOptions(config: config, validate: validate, listen: listen),
      listeners: PersistService.listeners,
      logging: { $0.persistLogging },
      services: { context in [try PersistService(context)] })
    throw ExitCode(status)
  }

  /// A configuration that can't be read is reported by the daemon's own start.
  private var isDisabled: Bool {
    do {
      return try !Configuration.load(path: config, environment: ProcessInfo.processInfo.environment).ipc.enabled
    } catch {
      return false
    }
  }
}
