import FoundationEssentials
import JobletModel
import NIOSSL
import X509

/// Who is at the other end of a connection, as the verified client certificate says.
public struct PeerIdentity: Sendable, Hashable {
  /// The subject's common name: the owner of the jobs it posts.
  public var name: String
  /// From the subject's organisational unit.
  public var role: Role
  public var notAfter: Timestamp
  /// What a revocation list knows it by; nil where there was no certificate.
  var certificate: CertificateName?

  public init(name: String, role: Role, notAfter: Timestamp) {
    self.name = name
    self.role = role
    self.notAfter = notAfter
  }

  /// Reads a certificate that TLS has verified already.
  /// - Throws: a ``Problem`` of kind `unauthenticated` that says what the certificate lacks.
  init(der: [UInt8]) throws(Problem) {
    let certificate: Certificate
    do {
      certificate = try Certificate(derEncoded: der)
    } catch {
      throw Problem(.unauthenticated, "the client certificate can't be read: \(error)")
    }
    let names = PeerIdentity.values(in: certificate) { $0.type == .RDNAttributeType.commonName }
    let units = PeerIdentity.values(in: certificate) { $0.type == .RDNAttributeType.organizationalUnitName }
    guard let name = names.last, !name.isEmpty else {
      throw Problem(.unauthenticated, "the client certificate has no common name (CN)")
    }
    // Two units would let the reader choose the role; one meaning only, or none.
    guard units.count == 1, let role = Role(organizationalUnit: units[0]) else {
      let what = units.isEmpty ? "no organisational unit (OU)" : "OU '\(units.joined(separator: "', '").prefix(80))'"
      let known = Role.allCases.map(\.rawValue).joined(separator: ", ")
      throw Problem(
        .unauthenticated, "the client certificate of '\(name.prefix(80))' has \(what); one of these is needed: \(known)"
      )
    }
    // RFC 5280, section 4.1.2.5: 9999-12-31 stands for no end, which is more nanoseconds than 64 bits count.
    let seconds = Int64(certificate.notValidAfter.timeIntervalSince1970)
    let (nanoseconds, isBeyond) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    self.init(
      name: name, role: role, notAfter: Timestamp(nanoseconds: isBeyond ? (seconds < 0 ? .min : .max) : nanoseconds))
    self.certificate = CertificateName(issuer: certificate.issuer, serial: certificate.serialNumber)
  }

  /// - Throws: a ``Problem`` once the certificate is past its time: a connection may outlive what it was opened with.
  func checkExpiry(now: Timestamp = .now()) throws(Problem) {
    guard now <= notAfter else {
      throw Problem(.unauthenticated, "the client certificate expired at \(notAfter); get a new one")
    }
  }

  private static func values(
    in certificate: Certificate, where isWanted: (RelativeDistinguishedName.Attribute) -> Bool
  ) -> [String] {
    certificate.subject.flatMap { relative in relative.compactMap { isWanted($0) ? String($0.value) : nil } }
  }
}
