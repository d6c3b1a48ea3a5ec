import FoundationEssentials
import Glibc
import JobletModel
import X509

/// `joblet-certs revoke`: takes client certificates out of use.
///
/// Each revoked certificate is kept in `revoked/` beside the CA, named by when it was revoked and its serial number; the list
/// is signed anew from all of them. So nothing has to be read back from a list, and a list that was lost comes back.
public struct Revocation: Sendable {
  private let directory: String

  /// - Parameter directory: where `ca.crt` and `ca.key` are.
  public init(directory: String) { self.directory = directory }

  /// The list's file, which `security.crl` names.
  public var listPath: String { "\(directory)/revoked.pem" }
  private var keptPath: String { "\(directory)/revoked" }

  /// Revokes the client certificates found in texts and signs the list anew; without texts it is only signed.
  /// - Parameter texts: PEM files, or client files of `rnx`, with their names for messages.
  /// - Returns: what was done, a line each.
  /// - Throws: ``CertificateFailure`` that says which text has no certificate of this CA.
  public func revoke(_ texts: [(name: String, text: String)], now: Date = Date()) throws -> [String] {
    let authority = try authority()
    var report: [String] = []
    let found = try texts.map { name, text in (name, try client(in: text, named: name, of: authority)) }
    if mkdir(keptPath, 0o755) != 0, errno != EEXIST { throw SecretFile.failure("can't make the directory", keptPath) }
    let access = FileAccess(mode: 0o644, owner: geteuid() == 0 ? (0, 0) : nil)
    var kept = try entries()
    for (name, certificate) in found {
      let summary = try CertificateSummary(pem: certificate.serializeAsPEM().pemString)
      let who = "\(summary.commonName ?? "?"), from \(name)"
      let serial = certificate.serialNumber.bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
        .joined()
      guard !kept.contains(where: { $0.name.hasSuffix("-\(serial).crt") }) else {
        report.append("\(who): was revoked before")
        continue
      }
      let pem = try certificate.serializeAsPEM().pemString + "\n"
      let file = "\(Int64(now.timeIntervalSince1970))-\(serial).crt"
      try SecretFile.write(pem, to: "\(keptPath)/\(file)", access)
      kept.append((file, pem, now))
      report.append("\(who): revoked")
    }
    let list = try authority.revocationList(
      of: kept.map { ($0.pem, $0.since) }, now: now, nextUpdate: authority.certificate.notValidAfter)
    try SecretFile.write(list, to: listPath, access)
    report.append("\(kept.count) \(kept.count == 1 ? "certificate is" : "certificates are") on \(listPath)")
    return report
  }

  private func authority() throws -> CertificateAuthority {
    guard let certificate = try SecretFile.read("\(directory)/ca.crt"),
      let key = try SecretFile.read("\(directory)/ca.key")
    else { throw CertificateFailure("\(directory) has no ca.crt and ca.key; revoke where the CA is") }
    return try CertificateAuthority(Identity(certificatePEM: certificate, keyPEM: key))
  }

  private func entries() throws -> [(name: String, pem: String, since: Date)] {
    try FileManager.default.contentsOfDirectory(atPath: keptPath).filter { $0.hasSuffix(".crt") }.sorted().map { name in
      guard let seconds = Int64(name.prefix { $0 != "-" }), let pem = try SecretFile.read("\(keptPath)/\(name)") else {
        throw CertificateFailure(
          "\(keptPath)/\(name) is not named SECONDS-SERIAL.crt: move it away, or revoke it again")
      }
      return (name, pem, Date(timeIntervalSince1970: Double(seconds)))
    }
  }

  /// The first certificate of a text that this CA signed for a client. A client file of `rnx` has the CA's too, indented.
  private func client(in text: String, named name: String, of authority: CertificateAuthority) throws -> Certificate {
    let lines = text.split(whereSeparator: \.isNewline).map { $0.drop { $0 == " " || $0 == "\t" } }
    var block: [Substring]?
    for line in lines {
      if line.hasPrefix("-----BEGIN CERTIFICATE-----") { block = [] }
      block?.append(line)
      guard line.hasPrefix("-----END CERTIFICATE-----"), let whole = block else { continue }
      block = nil
      let certificate: Certificate
      do {
        certificate = try Certificate(pemEncoded: whole.joined(separator: "\n"))
      } catch {
        throw CertificateFailure("\(name) has a certificate that can't be read: \(error)")
      }
      if certificate != authority.certificate, authority.signed(certificate) { return certificate }
    }
    throw CertificateFailure("\(name) has no certificate that the CA in \(directory) signed")
  }
}
