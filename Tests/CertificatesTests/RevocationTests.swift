import Certificates
import Foundation
import Testing

@Suite struct RevocationTests {
  @Test func `revoking keeps what was revoked, and takes any file a certificate is in`() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("joblet-revoke-\(UUID().uuidString)")
      .path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { do { try FileManager.default.removeItem(atPath: folder) } catch { Issue.record(error) } }
    let revocation = Revocation(directory: folder)
    #expect(throws: CertificateFailure.self) { try revocation.revoke([]) }
    let authority = try CertificateAuthority()
    let identity = try authority.identity
    try identity.certificatePEM.write(toFile: "\(folder)/ca.crt", atomically: true, encoding: .utf8)
    try identity.keyPEM.write(toFile: "\(folder)/ca.key", atomically: true, encoding: .utf8)

    let plain = try authority.issueClient(.reader, name: "plain")
    let first = ["plain, from a.pem: revoked", "1 certificate is on \(folder)/revoked.pem"]
    #expect(try revocation.revoke([("a.pem", plain.certificatePEM)]) == first)
    #expect(try revocation.revoke([("a.pem", plain.certificatePEM)]).first == "plain, from a.pem: was revoked before")
    // As it stands in a client file: indented, beside the CA's.
    let other = try authority.issueClient(.admin, name: "other")
    let text = ([identity.certificatePEM, other.certificatePEM].joined() as String).split(separator: "\n")
    let report = try revocation.revoke([("rnx-config.yml", "cert: |\n" + text.map { "      \($0)\n" }.joined())])
    #expect(report == ["other, from rnx-config.yml: revoked", "2 certificates are on \(folder)/revoked.pem"])

    for wrong in ["", identity.certificatePEM, try CertificateAuthority().issueClient(.admin).certificatePEM] {
      #expect(throws: CertificateFailure.self) { try revocation.revoke([("wrong", wrong)]) }
    }
    let list = try String(contentsOfFile: revocation.listPath, encoding: .utf8)
    #expect(list.hasPrefix("-----BEGIN X509 CRL-----\n"))
    #expect(try revocation.revoke([]).last == "2 certificates are on \(folder)/revoked.pem")
  }
}
