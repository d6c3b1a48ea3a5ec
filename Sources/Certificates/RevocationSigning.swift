import FoundationEssentials
import JobletModel
import SwiftASN1
import X509

extension CertificateAuthority {
  /// Signs a revocation list (RFC 5280, section 5): what `security.crl` of the gateway names.
  /// - Parameters:
  ///   - revoked: the certificates, each an ``Identity`` or its PEM text alone, and since when.
  ///   - isDelta: marks the list as one that is only a part: the gateway refuses such.
  ///   - nextUpdate: by when a newer one is promised.
  /// - Returns: PEM text.
  /// - Throws: ``CertificateFailure`` for what is no certificate of this authority.
  public func revocationList(
    of revoked: [(certificatePEM: String, since: Date)], isDelta: Bool = false, now: Date = Date(),
    nextUpdate: Date? = nil
  ) throws -> String {
    let entries = try revoked.map { pem, since in
      let certificate = try Certificate(pemEncoded: pem)
      guard signed(certificate) else { throw CertificateFailure("a certificate to be revoked is not this CA's own") }
      return (certificate.serialNumber, since)
    }
    var body = DER.Serializer()
    try body.appendConstructedNode(identifier: .sequence) { list in
      try list.serialize(1)  // v2
      try CertificateAuthority.writeAlgorithm(&list)
      try list.serialize(certificate.subject)
      try CertificateAuthority.write(now, &list)
      if let nextUpdate { try CertificateAuthority.write(nextUpdate, &list) }
      if !entries.isEmpty {
        try list.appendConstructedNode(identifier: .sequence) { rows in
          for (serial, since) in entries {
            try rows.appendConstructedNode(identifier: .sequence) { row in
              try row.serialize(serial.bytes)
              try CertificateAuthority.write(since, &row)
            }
          }
        }
      }
      if isDelta { try CertificateAuthority.writeDeltaMark(&list) }
    }
    let signature = try key.sign(bytes: body.serializedBytes, signatureAlgorithm: .ecdsaWithSHA256)
    var whole = DER.Serializer()
    try whole.appendConstructedNode(identifier: .sequence) { list in
      list.serializeRawBytes(body.serializedBytes)
      try CertificateAuthority.writeAlgorithm(&list)
      try list.serialize(ASN1BitString(bytes: signature.rawRepresentation[...]))
    }
    return PEMDocument(type: "X509 CRL", derBytes: whole.serializedBytes).pemString + "\n"
  }

  /// ecdsa-with-SHA256, without parameters (RFC 5758, section 3.2).
  private static func writeAlgorithm(_ out: inout DER.Serializer) throws {
    try out.appendConstructedNode(identifier: .sequence) {
      try $0.serialize([1, 2, 840, 10045, 4, 3, 2] as ASN1ObjectIdentifier)
    }
  }

  /// The delta list indicator, critical (RFC 5280, section 5.2.4).
  private static func writeDeltaMark(_ out: inout DER.Serializer) throws {
    var number = DER.Serializer()
    try number.serialize(1)
    let value = ASN1OctetString(contentBytes: number.serializedBytes[...])
    try out.appendConstructedNode(identifier: ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific)) { tagged in
      try tagged.appendConstructedNode(identifier: .sequence) { extensions in
        try extensions.appendConstructedNode(identifier: .sequence) { one in
          try one.serialize([2, 5, 29, 27] as ASN1ObjectIdentifier)
          try one.serialize(true)
          try one.serialize(value)
        }
      }
    }
  }

  /// Two digits of the year until 2049, four after (RFC 5280, section 5.1.2.4).
  private static func write(_ date: Date, _ out: inout DER.Serializer) throws {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .gmt
    let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: date)
    guard let year = parts.year, let month = parts.month, let day = parts.day, let hours = parts.hour,
      let minutes = parts.minute, let seconds = parts.second
    else { throw CertificateFailure("a revocation list can't have the time \(date)") }
    if year < 2050 {
      try out.serialize(
        UTCTime(year: year, month: month, day: day, hours: hours, minutes: minutes, seconds: seconds))
    } else {
      try out.serialize(
        GeneralizedTime(
          year: year, month: month, day: day, hours: hours, minutes: minutes, seconds: seconds, fractionalSeconds: 0))
    }
  }
}
