import ArgumentParser
import DaemonKit
import Worker

/// `joblet-exec doctor`.
struct DoctorVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Check whether this host can run jobs as configured; exit 1 if not.",
    discussion:
      "For each shortfall it says what that means and how to mend it. It changes nothing; as root it sees more.")

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp + " Without any: the defaults."))
  var config: String?
  @Option(help: "cgroup v2 directory for jobs, if not joblet-jobs.scope.") var cgroupRoot: String?
  @Option(name: .customLong("init"), help: "The program that is PID 1 of every job.")
  var initProgram = ExecPaths.defaultInit
  @Flag(help: "JSON instead of text.") var json = false

  func run() throws {
    let report = DoctorReport(
      try CommandInput.configuration(config), paths: ExecPaths(cgroupRoot: cgroupRoot, initProgram: initProgram))
    print(json ? try report.json() : report.text)
    guard report.isHealthy else { throw ExitCode.failure }
  }
}
