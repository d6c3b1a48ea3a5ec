import FoundationEssentials
import JobletModel
import NIOSSL
import SwiftASN1
import X509

/// What tells one certificate from all others: RFC 5280, section 4.1.2.2.
package struct CertificateName: Sendable, Hashable {
  var issuer: DistinguishedName
  var serial: Certificate.SerialNumber
}

/// The client certificates that are no longer to be trusted, from the file `security.crl` names.
package struct Revocations: Sendable {
  private var lists: [RevocationList] = []

  /// Nothing is revoked.
  init() {}

  /// The longest file read, in bytes: some hundred thousand entries.
  static let maxLength = 16 << 20

  /// Reads `security.crl`: PEM text, or a file with PEM (several lists, one an authority) or the DER of one list.
  /// - Parameter authorities: `security.caCert`, which must have signed each list.
  /// - Throws: ``TLSSettings/Invalid``: a list that can't be used must not pass for one that revokes nothing.
  package init(_ value: String, authorities: [NIOSSLCertificate]) throws {
    guard !value.isEmpty else { return }
    let place = value.contains("-----BEGIN") ? "the PEM text" : value
    do {
      let authorities = try authorities.map { try Certificate(derEncoded: try $0.toDERBytes()) }
      lists = try Revocations.documents(value).map { der in
        let list = try RevocationList(der: der)
        guard try authorities.contains(where: { try list.isSigned(by: $0) }) else {
          throw RevocationList.Invalid(
            description: "the list of '\(list.issuer)' is not signed by an authority of security.caCert")
        }
        return list
      }
    } catch {
      throw TLSSettings.Invalid(description: "security.crl: \(place) is no usable revocation list: \(error)")
    }
  }

  private static func documents(_ value: String) throws -> [[UInt8]] {
    let text: String
    if value.contains("-----BEGIN") {
      text = value
    } else {
      let bytes = try Data(contentsOf: URL(filePath: value))
      guard bytes.count <= maxLength else {
        throw RevocationList.Invalid(description: "it is over \(maxLength >> 20) MiB")
      }
      guard
        bytes.starts(with: "-----BEGIN".utf8)
          || String(decoding: bytes.prefix(64 << 10), as: UTF8.self).contains("-----BEGIN X509 CRL")
      else { return [Array(bytes)] }
      text = String(decoding: bytes, as: UTF8.self)
    }
    let lists = try PEMDocument.parseMultiple(pemString: text).filter { $0.discriminator == "X509 CRL" }
    guard !lists.isEmpty else {
      throw RevocationList.Invalid(description: "there is no -----BEGIN X509 CRL----- in it")
    }
    return lists.map(\.derBytes)
  }

  /// How many certificates are revoked.
  package var count: Int { lists.reduce(0) { $0 + $1.revoked.count } }

  /// When the certificate was revoked; nil if it was not.
  func time(of certificate: CertificateName) -> Timestamp? {
    for list in lists where list.issuer == certificate.issuer {
      if let time = list.revoked[certificate.serial] { return time }
    }
    return nil
  }

  /// What an operator must know: a list that is older than its authority promised still holds for what it names, but knows
  /// nothing of what was revoked since.
  package func warnings(now: Timestamp = .now()) -> [String] {
    lists.compactMap { list in
      guard let next = list.nextUpdate, next < now else { return nil }
      return
        "security.crl: the revocation list of '\(list.issuer)' should have been replaced by \(next); certificates revoked since are still let in"
    }
  }
}
