import Crypto
import FoundationEssentials
import JobletModel
import X509

/// The node's (or the fleet's) certificate authority: ECDSA P-256, one level, signing servers and clients.
public struct CertificateAuthority: Sendable {
  let certificate: Certificate
  let key: Certificate.PrivateKey
  private let validity: Validity

  /// Makes a new authority in memory.
  /// - Throws: what the crypto library throws; nothing in practice.
  public init(validity: Validity = Validity(), now: Date = Date()) throws {
    try self.init(key: Certificate.PrivateKey(P256.Signing.PrivateKey()), validity: validity, now: now)
  }

  /// Signs a CA certificate for a key: a new one, or one whose certificate was lost or has run out. With the same key and
  /// subject, what it signed before stays valid.
  init(key: Certificate.PrivateKey, validity: Validity, now: Date) throws {
    self.key = key
    self.validity = validity
    let name = try DistinguishedName {
      OrganizationName("Joblet")
      CommonName("Joblet CA")
    }
    certificate = try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key.publicKey,
      notValidBefore: now - validity.backdate, notValidAfter: now + validity.authority, issuer: name, subject: name,
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
        SubjectKeyIdentifier(hash: key.publicKey)
      },
      issuerPrivateKey: key)
  }

  /// Takes up an authority made before.
  /// - Throws: ``CertificateFailure`` if the parts can't be read, don't belong together, or are not those of a CA.
  public init(_ identity: Identity, validity: Validity = Validity()) throws {
    (certificate, key) = try identity.parsed("the CA certificate")
    self.validity = validity
    guard case .isCertificateAuthority = try certificate.extensions.basicConstraints else {
      throw CertificateFailure("the CA certificate is not one of a CA: it may not sign others")
    }
  }

  /// The authority's certificate, which clients and servers trust.
  public var certificatePEM: String {
    get throws { try certificate.serializeAsPEM().pemString + "\n" }
  }

  /// Certificate and key, to store. Only `joblet-certs` ever reads this key.
  public var identity: Identity {
    get throws { try Identity(certificate, key) }
  }

  /// Makes a server's certificate for these names (`serverAuth` only, so that it can't act as a client).
  public func issueServer(_ names: ServerNames, now: Date = Date()) throws -> Identity {
    let subject = try DistinguishedName {
      OrganizationName("Joblet")
      CommonName(names.commonName)
    }
    return try issue(subject, usage: .serverAuth, alternatives: SubjectAlternativeNames(names.generalNames), now: now)
  }

  /// Makes a client's certificate; its role is its OU (`clientAuth` only, so that it can't pose as a server).
  /// - Parameters:
  ///   - role: printed as the OU.
  ///   - name: the common name, by which records and audit lines know the client; `joblet-<role>` if nil.
  public func issueClient(_ role: Role, name: String? = nil, now: Date = Date()) throws -> Identity {
    try issueClient(organizationalUnit: role.rawValue, name: name ?? "joblet-\(role.rawValue)", now: now)
  }

  /// As above with any OU: what an unknown one is refused with can be tried out so.
  public func issueClient(organizationalUnit: String, name: String, now: Date = Date()) throws -> Identity {
    let subject = try DistinguishedName {
      OrganizationName("Joblet")
      OrganizationalUnitName(organizationalUnit)
      CommonName(name)
    }
    return try issue(subject, usage: .clientAuth, alternatives: nil, now: now)
  }

  private func issue(
    _ subject: DistinguishedName, usage: ExtendedKeyUsage.Usage, alternatives: SubjectAlternativeNames?, now: Date
  ) throws -> Identity {
    let leafKey = Certificate.PrivateKey(P256.Signing.PrivateKey())
    let leaf = try Certificate(
      version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: leafKey.publicKey,
      notValidBefore: now - validity.backdate,
      notValidAfter: min(now + validity.leaf, certificate.notValidAfter),
      issuer: certificate.subject, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        // An ECDSA key only ever signs the handshake; key encipherment is RSA's.
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([usage])
        SubjectKeyIdentifier(hash: leafKey.publicKey)
        AuthorityKeyIdentifier(keyIdentifier: SubjectKeyIdentifier(hash: key.publicKey).keyIdentifier)
        if let alternatives { alternatives }
      },
      issuerPrivateKey: key)
    return try Identity(leaf, leafKey)
  }

  /// Whether this authority signed a certificate.
  func signed(_ leaf: Certificate) -> Bool { certificate.signed(leaf) }
}

extension Certificate {
  /// Whether this CA certificate's key signed another one.
  func signed(_ leaf: Certificate) -> Bool {
    leaf.issuer == subject && publicKey.isValidSignature(leaf.signature, for: leaf)
  }
}
