import ArgumentParser
import DaemonKit
import Worker

/// The daemon.
struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run as the daemon; this is what joblet-exec does without a subcommand.",
    discussion: """
      Started by systemd through joblet-exec.socket. In a terminal, as root, it needs --listen exec=unix:/PATH and \
      --cgroup-root; a node without cgroup controllers also needs 'cgroup: {enableControllers: []}' in its configuration. \
      Jobs outlive it: the next start adopts them.
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp))
  var config: String?

  @Flag(help: ArgumentHelp(stringLiteral: DaemonOptions.validateHelp))
  var validate = false

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.listenHelp))
  var listen: [String] = []

  @Option(help: "cgroup v2 directory for jobs, used as it is. Default: joblet-jobs.scope, made through systemd.")
  var cgroupRoot: String?

  @Option(help: "Where state that outlives this program is kept; on tmpfs.")
  var stateDir = ExecPaths.defaultStateDirectory

  @Option(name: .customLong("init"), help: "The program that is PID 1 of every job.")
  var initProgram = ExecPaths.defaultInit

  func run() async throws {
    let paths = ExecPaths(cgroupRoot: cgroupRoot, stateDirectory: stateDir, initProgram: initProgram)
    let status = await runDaemon(
      name: "joblet-exec", options: DaemonOptions(config: config, validate: validate, listen: listen),
      listeners: ExecService.listeners,
      services: { context in [try ExecService(context, paths: paths)] })
    throw ExitCode(status)
  }
}
