import FoundationEssentials
import Gateway
import HTTPClient
import JobletConfig
import JobletModel
import NIOSSL
import Testing
import X509

@Suite(.timeLimit(.minutes(2))) struct RevocationTests {
  /// Made by `openssl ca -gencrl`, with reasons, a CRL number and a serial number of twenty bytes.
  private static let authority = """
    -----BEGIN CERTIFICATE-----
    MIIBtTCCAVugAwIBAgIUJJUsNVaUId1A5/f2GZrws4jAqb0wCgYIKoZIzj0EAwIw
    JzEQMA4GA1UECgwHRXhhbXBsZTETMBEGA1UEAwwKRXhhbXBsZSBDQTAgFw0yNjEx
    MjIwOTMwMTJaGA8yMTI2MTAyOTA5MzAxMlowJzEQMA4GA1UECgwHRXhhbXBsZTET
    MBEGA1UEAwwKRXhhbXBsZSBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABOqX
    7k3x2/VXZZDp+afXv3H3lwBp6P8MbI5Uh/k+YKZZzH1F2LF4BrU/ESce2Nke4wqu
    cDqqS+bvh71oLwpKnoijYzBhMB0GA1UdDgQWBBSv3qoP1ZuSm8wzs8FNcZfnkpRg
    bzAfBgNVHSMEGDAWgBSv3qoP1ZuSm8wzs8FNcZfnkpRgbzAPBgNVHRMBAf8EBTAD
    AQH/MA4GA1UdDwEB/wQEAwIBBjAKBggqhkjOPQQDAgNIADBFAiAakdFS+r0mdwOU
    Z+4P+1sx4eDvB1TZ7ARblFzWf/U5FgIhAKAnFERix0OSpN8crCDju6YyEvHzLiBm
    MZA/y9mbe2U1
    -----END CERTIFICATE-----
    """
  private static let list = """
    -----BEGIN X509 CRL-----
    MIIBMTCB2QIBATAKBggqhkjOPQQDAjAnMRAwDgYDVQQKDAdFeGFtcGxlMRMwEQYD
    VQQDDApFeGFtcGxlIENBFw0yNjExMjIwOTMwMTJaGA8yMTI2MTAyOTA5MzAxMlow
    bzASAgF/Fw0yNjAxMDIxMzAwMDBaMCMCBADA/+4XDTI2MDEwMTEyMDAwMFowDDAK
    BgNVHRUEAwoBATA0AhUAgAAAAAAAAAAAAAAAAAAAAAAAAAEXDTI2MDEwMjEzMDAw
    MFowDDAKBgNVHRUEAwoBBKAOMAwwCgYDVR0UBAMCAQEwCgYIKoZIzj0EAwIDRwAw
    RAIgWzbO0azJKMXvdQfqzAMjOtzmachjZX3Ncq9A0wcLtpcCIH0UzVgDBpcZ16FA
    L2a3Ejh2bwrlypLmDy+hHb3tOVUG
    -----END X509 CRL-----
    """

  private static func authorities(_ pem: String) throws -> [NIOSSLCertificate] {
    try NIOSSLCertificate.fromPEMBytes(Array(pem.utf8))
  }

  private static func der(_ pem: String) throws -> [UInt8] {
    let lines = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }
    return Array(try #require(Data(base64Encoded: lines.joined())))
  }

  @Test func opensslsListIsRead() throws {
    let list = try RevocationList(der: Self.der(Self.list))
    let expected: [(serial: [UInt8], time: String)] = [
      ([0x7F], "2026-01-02T13:00:00Z"), ([0xC0, 0xFF, 0xEE], "2026-01-01T12:00:00Z"),
      ([0x80] + Array(repeating: 0, count: 18) + [1], "2026-01-02T13:00:00Z"),
    ]
    #expect(list.revoked.count == expected.count)
    for (serial, time) in expected {
      #expect(list.revoked[Certificate.SerialNumber(bytes: serial)] == Timestamp(rfc3339: time))
    }
    let revocations = try Revocations(Self.list, authorities: try Self.authorities(Self.authority))
    #expect(revocations.count == 3)
    #expect(revocations.warnings().isEmpty)
    #expect(revocations.warnings(now: Timestamp(rfc3339: "2200-01-01T00:00:00Z") ?? .now()).count == 1)
  }

  @Test func aListThatCanNotBeUsedIsNoEmptyList() throws {
    let own = try TestCertificates.shared.get()
    let authorities = try Self.authorities(own.authorityPEM)
    let delta = try own.authority.revocationList(of: [], isDelta: true)
    let others = try own.other.revocationList(of: [])
    let forged = try Self.der(try own.authority.revocationList(of: []))
    let bent = forged.dropLast() + [forged.last.map { $0 ^ 1 } ?? 0]
    let bentPEM = "-----BEGIN X509 CRL-----\n\(Data(bent).base64EncodedString())\n-----END X509 CRL-----\n"
    for value in [Self.list, delta, others, bentPEM, own.authorityPEM, "/no/such/file", "-----BEGIN X509 CRL-----\n"] {
      #expect(throws: TLSSettings.Invalid.self, "\(value)") { _ = try Revocations(value, authorities: authorities) }
    }
    var configuration = Configuration().security
    configuration.serverCert = own.server.certificatePEM
    configuration.serverKey = own.server.keyPEM
    configuration.caCert = own.authorityPEM
    configuration.crl = delta
    let error = #expect(throws: TLSSettings.Invalid.self) { _ = try TLSSettings(configuration, minVersion: "1.3") }
    #expect(error?.description.contains("security.crl") == true && error?.description.contains("delta") == true)
  }

  @Test func bytesThatAreNoListNeverTrap() throws {
    let good = try Self.der(Self.list)
    var random = Dice(seed: 0x5EED)
    for _ in 0..<20_000 {
      var bytes = good
      for _ in 0...random.below(3) {
        switch random.below(4) {
        case 0: bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.removeLast(random.below(bytes.count))
        case 2: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: random.below(bytes.count + 1))
        default: bytes.removeFirst(random.below(min(bytes.count, 8)))
        }
        if bytes.isEmpty { bytes = [0x30] }
      }
      do {
        let list = try RevocationList(der: bytes)
        #expect(list.revoked.count <= 8)
      } catch {
        // Refused, as it should be.
      }
    }
  }

  @Test func aRevokedClientIsRefusedOnOpenConnectionsToo() async throws {
    try await Fixture.run(heartbeat: .milliseconds(200)) { f in
      let own = f.certificates
      let thief = try own.authority.issueClient(.developer, name: "thief")
      let stolen = try HTTPClient(credentials: own.credentials(thief))
      let honest = try f.client(.developer)
      let job = try await f.runJob()
      await f.exec.write(job.id, "one\n")
      #expect(try await f.call("GET", "/v1/jobs", client: stolen).status == 200)
      #expect(try await f.call("GET", "/v1/jobs", client: honest).status == 200)
      let follow = try await stolen.send(
        HTTPRequest(
          url: "https://127.0.0.1:\(f.port)/v1/jobs/\(job.id)/logs?follow=true",
          headers: [(name: "Accept", value: "text/event-stream")], timeout: .seconds(30)))
      #expect(follow.status == 200)

      var configuration = f.configuration
      configuration.security.crl = try own.authority.revocationList(of: [(thief.certificatePEM, Date())])
      try f.gateway.reload(configuration)
      // The stream says why it ends, and breaks off: nobody is to take it for whole.
      var text = ""
      do {
        for try await bytes in follow.body { text += String(decoding: bytes, as: UTF8.self) }
        Issue.record("the stream ended as if all were well")
      } catch is HTTPError {
        // As it should.
      }
      #expect(text.contains("event: problem") && text.contains("revoked"), "\(text)")
      for client in [stolen, try HTTPClient(credentials: own.credentials(thief))] {
        let answer = try await f.call("GET", "/v1/jobs", client: client)
        #expect(answer.status == 401)
        #expect(answer.problem?.detail.contains("'thief' was revoked at") == true)
      }
      #expect(try await f.call("GET", "/v1/jobs", client: honest).status == 200)

      // A list that can't be used changes nothing.
      configuration.security.crl = try own.other.revocationList(of: [])
      #expect(throws: TLSSettings.Invalid.self) { try f.gateway.reload(configuration) }
      #expect(
        try await f.call("GET", "/v1/jobs", client: try HTTPClient(credentials: own.credentials(thief))).status == 401)
      configuration.security.crl = ""
      try f.gateway.reload(configuration)
      #expect(
        try await f.call("GET", "/v1/jobs", client: try HTTPClient(credentials: own.credentials(thief))).status == 200)
    }
  }

  /// A client that neither asks nor reads is cut off: it may not hold a place, nor get what was already on its way.
  @Test func aRevokedClientsConnectionIsClosed() async throws {
    try await Fixture.run(heartbeat: .milliseconds(100)) { f in
      try await RawClient.run(f, role: .reader) { inbound, outbound in
        try await outbound.write(.init(string: "GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n"))
        _ = try await inbound.next()
        var configuration = f.configuration
        let pem = try #require(f.certificates.roles[.reader]?.certificatePEM)
        configuration.security.crl = try f.certificates.authority.revocationList(of: [(pem, Date())])
        try f.gateway.reload(configuration)
        do {
          while try await inbound.next() != nil {}
        } catch is NIOSSLError {
          // Closed without a word of TLS: closed.
        }
      }
      #expect(try await f.call("GET", "/v1/jobs").status == 200)
    }
  }
}

/// SplitMix64: the same bytes on every run.
private struct Dice {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(max(bound, 1))) }
}
