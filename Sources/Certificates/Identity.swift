import X509

/// A certificate and its private key as PEM text.
public struct Identity: Hashable, Sendable {
  public var certificatePEM: String
  /// PKCS #8. Whoever reads it can act as the certificate's subject.
  public var keyPEM: String

  public init(certificatePEM: String, keyPEM: String) {
    self.certificatePEM = certificatePEM
    self.keyPEM = keyPEM
  }

  init(_ certificate: Certificate, _ key: Certificate.PrivateKey) throws {
    certificatePEM = try certificate.serializeAsPEM().pemString + "\n"
    keyPEM = try key.serializeAsPEM().pemString + "\n"
  }

  /// Reads both parts.
  /// - Throws: ``CertificateFailure`` naming the part, or one that says that they don't belong together.
  func parsed(_ what: String) throws -> (certificate: Certificate, key: Certificate.PrivateKey) {
    let certificate: Certificate
    let key: Certificate.PrivateKey
    do {
      certificate = try Certificate(pemEncoded: certificatePEM)
    } catch {
      throw CertificateFailure("\(what) holds no certificate that can be read: \(error)")
    }
    do {
      key = try Certificate.PrivateKey(pemEncoded: keyPEM)
    } catch {
      throw CertificateFailure("\(what)'s key can't be read as a PEM private key")
    }
    guard key.publicKey == certificate.publicKey else {
      throw CertificateFailure("\(what) and its key don't belong together: the certificate was made for another key")
    }
    return (certificate, key)
  }
}
