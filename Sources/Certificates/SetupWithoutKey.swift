import FoundationEssentials
import JobletModel
import X509

/// A node whose CA has its key elsewhere, as the nodes of a fleet: nothing can be signed here.
extension Setup {
  /// Keeps what there is, and tells what has to be made where the key is. A role's certificate need not be on such a node.
  /// - Throws: ``CertificateFailure`` if the gateway can't serve with what there is.
  func look(authorityPEM: String, _ report: inout SetupReport) throws {
    let authority: Certificate
    do {
      authority = try Certificate(pemEncoded: authorityPEM)
    } catch {
      throw CertificateFailure("\(path("ca.crt")) holds no certificate that can be read: \(error)")
    }
    report.lines.append("\(path("ca.key")) is not on this node: nothing is signed here, and what there is stays")
    if authority.notValidAfter <= now + validity.renewBefore {
      report.warnings.append(
        "the CA's certificate, \(path("ca.crt")), ends on \(Timestamp(authority.notValidAfter)): 'joblet-certs init' where its "
          + "key is signs it again; copy it to every node, and new client files to the clients")
    }
    let server = try look("server", serverKeyAccess(), authority, otherNames, &report)
    guard let server else {
      throw CertificateFailure(
        "\(path("server.crt")) or its key is missing, and \(path("ca.key")) is not on this node: \(Setup.remedy)")
    }
    for role in Setup.clientRoles {
      let access = FileAccess(mode: 0o600, owner: rootOwner)
      let client = try look(role.rawValue, access, authority, { try otherRole(than: role, $0) }, &report)
      if let client { try writeClientFile(role, client, authorityPEM, &report) }
    }
    if let configPath { try edit(configPath, server, authorityPEM, &report) }
  }

  private static let remedy =
    "make it where that key is and copy certificate and key here, or restore the key; --force makes a new CA "
    + "(every client then needs its new file)"

  /// Nil if there is none.
  private func look(
    _ name: String, _ access: FileAccess, _ authority: Certificate, _ whyNot: (Certificate) throws -> String?,
    _ report: inout SetupReport
  ) throws -> Identity? {
    guard let certificate = try SecretFile.read(path("\(name).crt")), let key = try SecretFile.read(path("\(name).key"))
    else { return nil }
    let kept = Identity(certificatePEM: certificate, keyPEM: key)
    try SecretFile.ensure(path("\(name).key"), access)
    if let fault = try fault(kept, authority, whyNot) {
      let what =
        "\(path("\(name).crt")) is to be made anew (\(fault.reason)), and \(path("ca.key")) is not on this node"
      guard fault.isUsable || name != "server" else { throw CertificateFailure("\(what): \(Setup.remedy)") }
      report.warnings.append("\(what): \(Setup.remedy)")
    } else {
      report.lines.append("kept \(path("\(name).crt"))")
    }
    return kept
  }
}
