import ArgumentParser
import Certificates
import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel

struct JobletCerts: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "joblet-certs", abstract: "Makes, shows and revokes the certificates of a Joblet node.",
    version: jobletVersion, subcommands: [Init.self, Show.self, Revoke.self])
}

struct Init: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes the CA, the server's certificate and a client certificate for each role.",
    discussion: """
      What is there and good stays; running it again changes nothing. A certificate that ends within 45 days, or a server
      certificate whose names changed, is made anew and signed by the same CA. Where ca.key is not on the node, as in a
      fleet, nothing is signed: what is to be renewed is told, and what there is stays.

      JOBLET_SERVER_ADDRESS and JOBLET_SERVER_PORT (else the configuration's server.address and server.port) are where
      clients reach the gateway; JOBLET_ADDITIONAL_NAMES adds host names and IP addresses, with commas between them, to
      the server's certificate.
      """)

  @Option(
    help:
      "The configuration whose security section is set. (default: $JOBLET_CONFIG_PATH, else /opt/joblet/joblet-config.yml)"
  )
  var config: String?
  @Option(help: "Where certificates and keys are kept.") var dir = "/opt/joblet/certs"
  @Option(help: "Where rnx-config.yml and rnx-config-<role>.yml are written.") var clientDir = "/opt/joblet/config"
  @Flag(help: "Write PEM into the configuration, not file names. The server's key is then in the configuration.")
  var embed = false
  @Option(
    help: ArgumentHelp(
      "Make this file if a certificate or the configuration changes: the gateway then has to be reloaded.",
      valueName: "file"))
  var changed: String?
  @Flag(help: "Make everything anew, the CA too. Every client then needs its new file.") var force = false

  func run() throws {
    let environment = ProcessInfo.processInfo.environment
    let loaded = try Configuration.load(path: config, environment: environment)
    let names = try ServerNames(
      address: loaded.server.address, additional: environment["JOBLET_ADDITIONAL_NAMES"] ?? "",
      hostName: ProcessInfo.processInfo.hostName)
    var setup = Setup(
      directory: dir, clientDirectory: clientDir, configPath: loaded.origin.path, names: names,
      clientAddress: ClientConfigFile.address(loaded.server.address, port: loaded.server.port))
    setup.embeds = embed
    setup.renewsAll = force
    setup.changedPath = changed
    let report = try setup.run()
    for line in report.lines { print(line) }
    // sd-daemon(3): so the journal knows it for a warning.
    let mark = environment["JOURNAL_STREAM"] == nil ? "warning: " : "<4>"
    for warning in report.warnings { print("\(mark)\(warning)") }
  }
}

struct Show: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Lists certificates: subject, role, expiry.")
  @Option(help: "Where the certificates are.") var dir = "/opt/joblet/certs"

  func run() throws {
    for line in try Overview(directory: dir).lines() { print(line) }
  }
}

JobletCerts.main()
