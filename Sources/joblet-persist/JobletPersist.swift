import ArgumentParser
import JobletModel
import Persist

/// joblet-persist: composition only; what it composes is in Persist and DaemonKit.
@main
struct JobletPersist: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "joblet-persist",
    abstract: "Stores the output, the metrics and the records of jobs, and answers queries about them.",
    discussion: """
      Without a subcommand it is the daemon, which systemd starts by its sockets; its options are those of 'serve' \
      (joblet-persist serve --help). The other commands look after what is stored.

      \(CommandStatus.help)
      """,
    version: jobletVersion, subcommands: [Serve.self, Cat.self, Sweep.self, Verify.self], defaultSubcommand: Serve.self)
}
