import FoundationEssentials
import JobletModel
import X509

/// What people want to know of a certificate.
public struct CertificateSummary: Hashable, Sendable {
  public var subject: String
  public var commonName: String?
  public var organizationalUnit: String?
  /// The role the gateway reads from it; nil for a server, a CA, or an unknown OU.
  public var role: Role?
  public var isAuthority: Bool
  /// Host names and IP addresses it holds for.
  public var names: [String]
  public var notBefore: Timestamp
  public var notAfter: Timestamp

  /// Reads a PEM certificate.
  /// - Throws: ``CertificateFailure`` if it can't be read.
  public init(pem: String) throws {
    do {
      try self.init(Certificate(pemEncoded: pem))
    } catch let error as CertificateFailure {
      throw error
    } catch {
      throw CertificateFailure("not a PEM certificate: \(error)")
    }
  }

  init(_ certificate: Certificate) throws {
    subject = certificate.subject.description
    commonName = certificate.subject.first(.commonName)
    organizationalUnit = certificate.subject.first(.organizationalUnit)
    if case .isCertificateAuthority = try certificate.extensions.basicConstraints {
      isAuthority = true
    } else {
      isAuthority = false
    }
    role = isAuthority ? nil : organizationalUnit.flatMap { Role(organizationalUnit: $0) }
    names = try certificate.alternativeNames
    notBefore = Timestamp(certificate.notValidBefore)
    notAfter = Timestamp(certificate.notValidAfter)
  }
}

private enum NameAttribute { case commonName, organizationalUnit }

extension DistinguishedName {
  fileprivate func first(_ attribute: NameAttribute) -> String? {
    for relative in self {
      for part in relative {
        switch (attribute, part.type) {
        case (.commonName, .RDNAttributeType.commonName),
          (.organizationalUnit, .RDNAttributeType.organizationalUnitName):
          return String(part.value)
        default: continue
        }
      }
    }
    return nil
  }
}

extension Certificate {
  /// The printed forms of its alternative names, in the order of ``ServerNames/all``.
  var alternativeNames: [String] {
    get throws {
      guard let names = try extensions.subjectAlternativeNames else { return [] }
      return names.compactMap { name in
        switch name {
        case .dnsName(let host): host
        case .ipAddress(let address): ServerNames.text(Array(address.bytes))
        default: nil
        }
      }
    }
  }
}

extension Timestamp {
  init(_ date: Date) { self.init(nanoseconds: Int64(date.timeIntervalSince1970) * 1_000_000_000) }
}
