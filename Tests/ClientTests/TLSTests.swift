import Certificates
import Foundation
import Glibc
import HTTPClient
import JobletModel
import Testing

/// The client's TLS against openssl's server, where there is one.
@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")), .timeLimit(.minutes(2)))
struct TLSTests {
  /// `openssl s_server -WWW` asking for a client certificate; it serves the files of its folder.
  final class Server {
    let folder = NSTemporaryDirectory() + "rnx-tls-\(UUID().uuidString)"
    let process = Process()
    let port: Int

    init(_ authority: CertificateAuthority, names: ServerNames) throws {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let server = try authority.issueServer(names)
      for (name, text) in [
        ("ca.crt", try authority.certificatePEM), ("s.crt", server.certificatePEM), ("s.key", server.keyPEM),
        ("hello", "HTTP/1.0 200 OK\r\n\r\nhello"),
      ] {
        try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
      }
      process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      process.currentDirectoryURL = URL(fileURLWithPath: folder)
      process.arguments = [
        "s_server", "-accept", "127.0.0.1:0", "-HTTP", "-cert", "s.crt", "-key", "s.key", "-CAfile", "ca.crt",
        "-Verify", "1",
        "-verify_return_error",
      ]
      let output = Pipe()
      process.standardOutput = output
      process.standardError = FileHandle.nullDevice
      try process.run()
      var text = ""
      while !text.contains("ACCEPT 127.0.0.1:") || !text.hasSuffix("\n") {
        let data = output.fileHandleForReading.availableData
        if data.isEmpty { break }
        text += String(decoding: data, as: UTF8.self)
      }
      let match = try #require(text.firstMatch(of: /ACCEPT 127\.0\.0\.1:(\d+)/), "\(text)")
      port = try #require(Int(match.output.1))
    }

    deinit {
      // SIGTERM is blocked in what a pool thread spawns.
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      try? FileManager.default.removeItem(atPath: folder)
    }
  }

  func get(_ server: Server, _ credentials: TLSCredentials, host: String = "127.0.0.1") async throws -> String {
    let client = try HTTPClient(credentials: credentials)
    let response = try await client.send(
      HTTPRequest(url: "https://\(host):\(server.port)/hello", timeout: .seconds(20)))
    return String(decoding: try await response.body.collect(upTo: 1000), as: UTF8.self)
  }

  @Test func `both sides are checked by PEM in memory`() async throws {
    let authority = try CertificateAuthority()
    let other = try CertificateAuthority()
    let server = try Server(authority, names: ServerNames())
    let client = try authority.issueClient(.admin)
    let ca = try authority.certificatePEM
    let good = TLSCredentials(certificatePEM: client.certificatePEM, keyPEM: client.keyPEM, authorityPEM: ca)
    #expect(try await get(server, good) == "hello")

    var distrustful = good
    distrustful.authorityPEM = try other.certificatePEM
    #expect(await #expect(throws: HTTPError.self) { try await get(server, distrustful) }?.kind == .serverNotTrusted)

    var system = good
    system.authorityPEM = nil
    #expect(await #expect(throws: HTTPError.self) { try await get(server, system) }?.kind == .serverNotTrusted)

    let stranger = try other.issueClient(.admin)
    let strange = TLSCredentials(certificatePEM: stranger.certificatePEM, keyPEM: stranger.keyPEM, authorityPEM: ca)
    #expect(await #expect(throws: HTTPError.self) { try await get(server, strange) }?.kind == .tls)

    #expect(
      await #expect(throws: HTTPError.self) { try await get(server, TLSCredentials(authorityPEM: ca)) }?.kind == .tls)

    let mixed = TLSCredentials(certificatePEM: client.certificatePEM, keyPEM: stranger.keyPEM, authorityPEM: ca)
    #expect(await #expect(throws: HTTPError.self) { try await get(server, mixed) }?.kind == .badCredentials)
    #expect(try await get(server, good) == "hello")
  }
}
