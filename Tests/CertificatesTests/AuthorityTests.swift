import Certificates
import Foundation
import JobletModel
import Testing
@_spi(FixedExpiryValidationTime) import X509

@Suite struct AuthorityTests {
  func verify(
    _ leaf: Identity, by authority: CertificateAuthority, host: String? = nil, ip: String? = nil, at: Date = Date()
  ) async throws -> Bool {
    let root = try Certificate(pemEncoded: authority.certificatePEM)
    var verifier = Verifier(rootCertificates: CertificateStore([root])) {
      RFC5280Policy(fixedExpiryValidationTime: at)
      if host != nil || ip != nil { ServerIdentityPolicy(serverHostname: host, serverIP: ip) }
    }
    switch await verifier.validate(
      leaf: try Certificate(pemEncoded: leaf.certificatePEM), intermediates: CertificateStore([]))
    {
    case .validCertificate: return true
    case .couldNotValidate: return false
    }
  }

  @Test func `a server's certificate holds for its names and no other`() async throws {
    let authority = try CertificateAuthority()
    let names = try ServerNames(
      address: "192.168.7.8", additional: "Node1.example.com., 10.0.0.5 fd00::5,node1.example.com", hostName: "box")
    #expect(
      names.all == ["node1.example.com", "box", "localhost", "192.168.7.8", "10.0.0.5", "fd00::5", "127.0.0.1", "::1"])
    let server = try authority.issueServer(names)
    for host in names.hosts { #expect(try await verify(server, by: authority, host: host), "\(host)") }
    for ip in ["192.168.7.8", "10.0.0.5", "fd00::5", "127.0.0.1", "::1"] {
      #expect(try await verify(server, by: authority, ip: ip), "\(ip)")
    }
    #expect(try await !verify(server, by: authority, host: "other.example.com"))
    #expect(try await !verify(server, by: authority, ip: "10.0.0.6"))
    #expect(try await !verify(server, by: CertificateAuthority(), host: "localhost"))
    let summary = try CertificateSummary(pem: server.certificatePEM)
    #expect(summary.names == names.all && summary.role == nil && !summary.isAuthority)
  }

  @Test(arguments: Setup.clientRoles) func `a client's certificate names its role`(role: Role) async throws {
    let authority = try CertificateAuthority()
    let client = try authority.issueClient(role)
    #expect(try await verify(client, by: authority))
    let summary = try CertificateSummary(pem: client.certificatePEM)
    #expect(summary.role == role && summary.organizationalUnit == role.rawValue)
    #expect(summary.commonName == "joblet-\(role.rawValue)" && summary.names.isEmpty)
    let certificate = try Certificate(pemEncoded: client.certificatePEM)
    #expect(try certificate.extensions.extendedKeyUsage == ExtendedKeyUsage([.clientAuth]))
    let usage = try #require(try certificate.extensions.keyUsage)
    #expect(usage.digitalSignature && !usage.keyCertSign && !usage.keyEncipherment)
  }

  @Test func `usages keep servers and clients apart, and neither can sign`() throws {
    let authority = try CertificateAuthority()
    let server = try Certificate(pemEncoded: authority.issueServer(ServerNames()).certificatePEM)
    #expect(try server.extensions.extendedKeyUsage == ExtendedKeyUsage([.serverAuth]))
    let root = try Certificate(pemEncoded: authority.certificatePEM)
    #expect(try root.extensions.basicConstraints == .isCertificateAuthority(maxPathLength: 0))
    #expect(try server.extensions.basicConstraints == .notCertificateAuthority)
    let usage = try #require(try root.extensions.keyUsage)
    #expect(usage.keyCertSign && usage.cRLSign && !usage.digitalSignature)
    #expect(
      try server.extensions.authorityKeyIdentifier?.keyIdentifier == root.extensions.subjectKeyIdentifier?.keyIdentifier
    )
    #expect(try server.extensions.subjectKeyIdentifier != nil)
  }

  @Test func `times: a little in the past, never beyond the CA's end`() async throws {
    var validity = Validity()
    validity.authority = 86_400
    let now = Date()
    let authority = try CertificateAuthority(validity: validity, now: now)
    let client = try authority.issueClient(.reader, now: now)
    let leaf = try Certificate(pemEncoded: client.certificatePEM)
    #expect(leaf.notValidBefore < now)
    #expect(leaf.notValidAfter == (try Certificate(pemEncoded: authority.certificatePEM)).notValidAfter)
    #expect(try await verify(client, by: authority, at: now + 80_000))
    #expect(try await !verify(client, by: authority, at: now + 90_000))
  }

  @Test func `an authority is taken up again from PEM`() async throws {
    let authority = try CertificateAuthority()
    let again = try CertificateAuthority(authority.identity)
    #expect(try await verify(again.issueClient(.admin), by: authority))
  }

  @Test func `parts that don't fit are refused`() throws {
    let authority = try CertificateAuthority().identity
    let other = try CertificateAuthority().identity
    #expect(throws: CertificateFailure.self) {
      try CertificateAuthority(Identity(certificatePEM: authority.certificatePEM, keyPEM: other.keyPEM))
    }
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
      #expect(throws: CertificateFailure.self) {
        try CertificateAuthority(Identity(certificatePEM: text, keyPEM: authority.keyPEM))
      }
      #expect(throws: CertificateFailure.self) {
        try CertificateAuthority(Identity(certificatePEM: authority.certificatePEM, keyPEM: text))
      }
      #expect(throws: CertificateFailure.self) { try CertificateSummary(pem: text) }
    }
    let client = try CertificateAuthority().issueClient(.admin)
    #expect(throws: CertificateFailure.self) { try CertificateAuthority(client) }
  }

  @Test(arguments: ["0.0.0.0", "::", "[::]", "", "*"]) func `a wildcard is nobody's name`(address: String) throws {
    #expect(try ServerNames(address: address).all == ["localhost", "127.0.0.1", "::1"])
    #expect(ServerNames.isWildcard(address))
  }

  @Test(arguments: [
    "a b", "node_1 ok", "x..y", "-x", "300.1.2.3", "a/b", "é.com", "a:b", String(repeating: "a", count: 64),
  ])
  func `a name that is none is refused, and named`(text: String) throws {
    guard text != "a b", text != "node_1 ok" else {
      #expect(try ServerNames(additional: text).hosts.count == 3)
      return
    }
    let error = #expect(throws: CertificateFailure.self) { try ServerNames(additional: "fine.example.com,\(text)") }
    #expect(
      error?.description.contains("'\(text)'") == true && error?.description.contains("JOBLET_ADDITIONAL_NAMES") == true
    )
  }

  @Test func `client addresses`() {
    #expect(ClientConfigFile.address("0.0.0.0", port: 50051) == "127.0.0.1:50051")
    #expect(ClientConfigFile.address("::", port: 443) == "[::1]:443")
    #expect(ClientConfigFile.address("fd00::1", port: 443) == "[fd00::1]:443")
    #expect(ClientConfigFile.address("[fd00::1]", port: 443) == "[fd00::1]:443")
    #expect(ClientConfigFile.address("node1", port: 1) == "node1:1")
  }
}
