import ArgumentParser
import JobletModel
import Worker

/// joblet-exec: composition only; what it composes is in Worker and DaemonKit.
@main
struct JobletExec: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "joblet-exec",
    abstract: "Runs jobs, each isolated in namespaces and a cgroup of its own, and supervises them.",
    discussion: """
      Without a subcommand it is the daemon, which systemd starts by its socket; its options are those of 'serve' \
      (joblet-exec serve --help). The other commands change nothing.
      """,
    version: jobletVersion, subcommands: [Serve.self, PlanVerb.self, DoctorVerb.self, WorkspacesCommand.self],
    defaultSubcommand: Serve.self)
}
