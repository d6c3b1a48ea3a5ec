import FoundationEssentials
import JobletModel
import SwiftASN1
import X509

/// A certificate revocation list (RFC 5280, section 5), read and checked against the authority that signed it.
///
/// A full list of one authority is what is understood. A list that says of itself that it is something else (a delta, an
/// indirect one, a part) says so in a critical extension, and is refused: RFC 5280 forbids to use it as a full one.
package struct RevocationList: Sendable {
  let issuer: DistinguishedName
  /// When each was revoked.
  package let revoked: [Certificate.SerialNumber: Timestamp]
  /// By when its authority promised a newer one.
  let nextUpdate: Timestamp?

  private let signed: ArraySlice<UInt8>
  private let signature: ArraySlice<UInt8>
  private let algorithm: Certificate.SignatureAlgorithm

  /// Why a list can't be used.
  package struct Invalid: Error, CustomStringConvertible {
    package var description: String
  }

  /// Reads the DER of one list.
  /// - Throws: ``Invalid``, or the reader's error for bytes that are no DER.
  package init(der: [UInt8]) throws {
    let parts = try Parts(der)
    guard parts.algorithm == parts.innerAlgorithm, let algorithm = RevocationList.algorithms[parts.algorithm] else {
      throw Invalid(description: "its signature's algorithm is not one of ECDSA or RSA with SHA-2, or Ed25519")
    }
    self.algorithm = algorithm
    issuer = parts.issuer
    revoked = parts.revoked
    nextUpdate = parts.nextUpdate
    signed = parts.signed
    signature = parts.signature
  }

  /// Whether `authority` signed the list and may sign one.
  func isSigned(by authority: Certificate) throws -> Bool {
    guard authority.subject == issuer else { return false }
    if let usage = try authority.extensions.keyUsage, !usage.cRLSign { return false }
    return authority.publicKey.isValidSignature(signature, for: signed, signatureAlgorithm: algorithm)
  }

  /// RFC 5758 and RFC 8017's OIDs. SHA-1 is not among them: its signatures can be forged.
  private static let algorithms: [ASN1ObjectIdentifier: Certificate.SignatureAlgorithm] = [
    [1, 2, 840, 10045, 4, 3, 2]: .ecdsaWithSHA256, [1, 2, 840, 10045, 4, 3, 3]: .ecdsaWithSHA384,
    [1, 2, 840, 10045, 4, 3, 4]: .ecdsaWithSHA512, [1, 2, 840, 113549, 1, 1, 11]: .sha256WithRSAEncryption,
    [1, 2, 840, 113549, 1, 1, 12]: .sha384WithRSAEncryption, [1, 2, 840, 113549, 1, 1, 13]: .sha512WithRSAEncryption,
    [1, 3, 101, 112]: .ed25519,
  ]
}

/// `CertificateList` as it stands.
private struct Parts {
  let signed: ArraySlice<UInt8>
  let algorithm: ASN1ObjectIdentifier
  let signature: ArraySlice<UInt8>
  let innerAlgorithm: ASN1ObjectIdentifier
  let issuer: DistinguishedName
  let nextUpdate: Timestamp?
  package let revoked: [Certificate.SerialNumber: Timestamp]

  init(_ der: [UInt8]) throws {
    let (body, algorithm, signature) = try DER.sequence(try DER.parse(der), identifier: .sequence) { nodes in
      guard let body = nodes.next(), let algorithm = nodes.next() else { throw Parts.tooShort }
      return (body, try Parts.algorithm(algorithm), try ASN1BitString(derEncoded: &nodes))
    }
    guard signature.paddingBits == 0 else {
      throw RevocationList.Invalid(description: "its signature is not whole bytes")
    }
    signed = body.encodedBytes
    self.algorithm = algorithm
    self.signature = signature.bytes
    var nodes = try Parts.children(body)[...]
    // version: absent for v1, else v2.
    if nodes.first?.identifier == .integer { nodes.removeFirst() }
    guard nodes.count >= 3 else { throw Parts.tooShort }
    innerAlgorithm = try Parts.algorithm(nodes.removeFirst())
    issuer = try DistinguishedName(derEncoded: nodes.removeFirst())
    _ = try Parts.time(nodes.removeFirst())
    var next: Timestamp?
    if let node = nodes.first, node.identifier == .utcTime || node.identifier == .generalizedTime {
      next = try Parts.time(nodes.removeFirst())
    }
    nextUpdate = next
    var revoked: [Certificate.SerialNumber: Timestamp] = [:]
    if nodes.first?.identifier == .sequence {
      for entry in try Parts.children(nodes.removeFirst()) {
        let (serial, time) = try Parts.entry(entry)
        revoked[serial] = time
      }
    }
    self.revoked = revoked
    if let extensions = nodes.popFirst() {
      // [0] EXPLICIT
      guard extensions.identifier == ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific) else {
        throw Parts.tooShort
      }
      for list in try Parts.children(extensions) { try Parts.refuseCritical(list, "the list") }
    }
    guard nodes.isEmpty else { throw Parts.tooShort }
  }

  private static let tooShort = RevocationList.Invalid(description: "it has not the parts of a revocation list")

  private static func children(_ node: ASN1Node) throws -> [ASN1Node] {
    guard case .constructed(let nodes) = node.content else { throw tooShort }
    return Array(nodes)
  }

  private static func algorithm(_ node: ASN1Node) throws -> ASN1ObjectIdentifier {
    guard let oid = try children(node).first else { throw tooShort }
    return try ASN1ObjectIdentifier(derEncoded: oid)
  }

  private static func entry(_ node: ASN1Node) throws -> (Certificate.SerialNumber, Timestamp) {
    let fields = try children(node)
    guard (2...3).contains(fields.count) else { throw tooShort }
    if fields.count == 3 { try refuseCritical(fields[2], "an entry") }
    let serial = try ArraySlice<UInt8>(derEncoded: fields[0])
    return (Certificate.SerialNumber(bytes: serial), try time(fields[1]))
  }

  /// Nothing that must be understood is understood here.
  private static func refuseCritical(_ list: ASN1Node, _ place: String) throws {
    for each in try children(list) {
      let fields = try children(each)
      guard fields.count == 3, try Bool(derEncoded: fields[1]) else { continue }
      let oid = try ASN1ObjectIdentifier(derEncoded: fields[0])
      throw RevocationList.Invalid(
        description: "\(place) has the critical extension \(oid): delta, indirect and partial lists are not understood")
    }
  }

  private static func time(_ node: ASN1Node) throws -> Timestamp {
    let (year, month, day, hours, minutes, seconds): (Int, Int, Int, Int, Int, Int)
    if node.identifier == .utcTime {
      let time = try UTCTime(derEncoded: node)
      (year, month, day, hours, minutes, seconds) =
        (time.year, time.month, time.day, time.hours, time.minutes, time.seconds)
    } else {
      let time = try GeneralizedTime(derEncoded: node)
      (year, month, day, hours, minutes, seconds) =
        (time.year, time.month, time.day, time.hours, time.minutes, time.seconds)
    }
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    // Beyond what 64 bits of nanoseconds count (RFC 5280 uses 9999-12-31 for "no end").
    guard year < 2262 else { return Timestamp(nanoseconds: .max) }
    let text = "\(year)-\(two(month))-\(two(day))T\(two(hours)):\(two(minutes)):\(two(seconds))Z"
    guard let time = Timestamp(rfc3339: text) else { throw RevocationList.Invalid(description: "\(text) is no time") }
    return time
  }
}
