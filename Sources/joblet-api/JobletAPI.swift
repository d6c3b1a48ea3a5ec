import ArgumentParser
import DaemonKit
import Gateway
import JobletConfig
import JobletModel
import ServiceLifecycle

/// The gateway's program: reads the configuration, takes its two sockets, runs ``Gateway``.
@main
struct JobletAPI: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "joblet-api",
    abstract: "Serve Joblet's REST API over mutual TLS, and health and metrics over plain HTTP.",
    discussion: """
      systemd starts it with its sockets (joblet-api.socket). In a terminal it needs both of them by name:
        joblet-api --config FILE --listen api=tcp:127.0.0.1:50051 --listen health=tcp:127.0.0.1:9090
      """,
    version: jobletVersion,
    subcommands: [UnitsCommand.self])

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp)) var config: String?
  @Flag(help: ArgumentHelp(stringLiteral: DaemonOptions.validateHelp)) var validate = false
  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.listenHelp)) var listen: [String] = []

  func run() async throws {
    let status = await runDaemon(
      name: "joblet-api", options: DaemonOptions(config: config, validate: validate, listen: listen),
      listeners: { configuration in
        let server = configuration.server
        return [
          ExpectedListener(name: "api", address: .tcp(address: server.address, port: server.port)),
          ExpectedListener(name: "health", address: .tcp(address: server.health.address, port: server.health.port)),
        ]
      },
      services: { context in [try JobletAPI.gateway(context)] })
    throw ExitCode(status)
  }

  private static func gateway(_ context: DaemonContext) throws -> Gateway {
    let api = try context.sockets.listener("api")
    let hooks = Gateway.Hooks(
      ready: { context.manager.ready($0) }, status: { context.manager.status($0) },
      watch: { loop, name in context.watchdog.attach(to: loop, name: name) })
    let gateway = try Gateway(
      configuration: context.configuration, api: api.descriptor,
      health: try context.sockets.listener("health").descriptor, execSocket: context.configuration.execSocket,
      address: "\(api.address)", hooks: hooks, logger: context.logger)
    context.reload.onReload("certificates") { try gateway.reload($0) }
    return gateway
  }
}
