import ArgumentParser
import Certificates
import FoundationEssentials

struct Revoke: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Takes client certificates out of use: writes the list that security.crl names.",
    discussion: """
      Say security.crl: DIR/revoked.pem in the configuration, and systemctl reload joblet each time: the gateway then answers
      these clients with 401, on open connections too, and ends their streams. What was revoked is kept in DIR/revoked.
      """)
  @Argument(help: "Certificates in PEM, or client files of rnx.") var files: [String] = []
  @Option(help: "Where the CA is.") var dir = "/opt/joblet/certs"

  func run() throws {
    let texts = try files.map { file in (file, try String(contentsOf: URL(filePath: file), encoding: .utf8)) }
    let revocation = Revocation(directory: dir)
    for line in try revocation.revoke(texts) { print(line) }
    print("in force where security.crl names that list, after 'systemctl reload joblet-api', whose journal says so")
  }
}
