import Certificates
import Testing

@Suite struct SecuritySectionTests {
  static let files = ["serverCert": "/c/s.crt", "serverKey": "/c/s.key", "caCert": "/c/ca.crt"]
  static let pem = [
    "serverCert": "-----BEGIN A-----\nx\n-----END A-----\n", "serverKey": "-----BEGIN B-----\ny\n-----END B-----\n",
    "caCert": "-----BEGIN C-----\nz\n-----END C-----\n",
  ]

  static let texts = [
    "version: \"3.0\"\n", "version: \"3.0\"", "version: \"3.0\"\nsecurity:\n",
    "version: \"3.0\"\nsecurity: {}\nserver: {port: 1}\n",
    "security:   # mine\n  # about\n  audit: {enabled: false}\n\n  crl: \"\"\n# below\nserver:\n  port: 2\n",
    "server:\n  port: 1\nsecurity:\n    serverCert: \"old\"\n    audit:\n        enabled: true\n    serverKey: |\n        -----BEGIN\n\n        -----END\n    caCert: old\nmetrics:\n  interval: 5s\n",
    "security:\n  serverCert: |\n    -----BEGIN A\n    -----END A\n  # after\n  serverKey: 'x'\n",
    "version: \"3.0\"\r\nsecurity:\r\n  serverCert: old\r\n  audit: {enabled: true}\r\nserver: {port: 1}\r\n",
    "security: ~\n", "# only a comment\nsecurity: null # none\nvolumes: {}\n",
  ]

  @Test(arguments: texts) func `the keys are set, the rest stays`(text: String) throws {
    for values in [Self.files, Self.pem] {
      let edited = try SecuritySection(text).setting(values)
      #expect(try SecuritySection(edited).values() == values)
      // Lines that are not about the three keys are all still there, in order.
      let kept = text.unicodeScalars.split(separator: "\n").map(String.init).filter { line in
        line.contains("#") && !line.hasPrefix("security") || line.contains("audit") || line.contains("port")
          || line.contains("enabled") || line.contains("interval")
      }
      let lines = edited.unicodeScalars.split(separator: "\n").map(String.init)
      #expect(lines.filter { kept.contains($0) } == kept)
      // Doing it again changes nothing.
      #expect(try SecuritySection(edited).setting(values) == edited)
      // From PEM to files and back.
      let back = try SecuritySection(SecuritySection(edited).setting(Self.files)).setting(values)
      #expect(try SecuritySection(back).values() == values)
    }
  }

  @Test(arguments: [
    "security: {serverCert: a}\n", "security: [1]\n", "security: text\n", "{security: {}}\n", "[", "a: 1\n b: 2\n",
  ])
  func `what can't be edited safely is refused`(text: String) {
    #expect(throws: CertificateFailure.self) { try SecuritySection(text).setting(Self.files) }
  }

  @Test func `a fuzzed file is edited right or refused`() {
    var state: UInt64 = 99
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    let spice = Array("{}[]:|>&*-\"'\n\t #".utf8)
    for round in 0..<3000 {
      var bytes = Array(Self.texts[round % Self.texts.count].utf8)
      for _ in 0...(next() % 4) {
        let at = Int(next() % UInt64(bytes.count))
        if next() % 2 == 0 {
          bytes.insert(spice[Int(next() % UInt64(spice.count))], at: at)
        } else if bytes.count > 1 {
          bytes.remove(at: at)
        }
      }
      do {
        let edited = try SecuritySection(String(decoding: bytes, as: UTF8.self)).setting(Self.pem)
        #expect(try SecuritySection(edited).values() == Self.pem)
      } catch {
        #expect(error is CertificateFailure)
      }
    }
  }
}
