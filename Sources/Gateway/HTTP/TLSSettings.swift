import JobletConfig
import JobletModel
import NIOSSL
import Synchronization

/// The server's TLS: its certificate, and the authority whose client certificates it takes.
public struct TLSSettings: Sendable {
  let context: NIOSSLContext
  /// Client certificates of the authority that are not taken any more.
  let revocations: Revocations
  /// The server's certificate chain and the authorities, for those who watch their end.
  let certificates: [CertificateFacts]

  /// Why the gateway can't serve TLS; names the configuration's key.
  public struct Invalid: Error, CustomStringConvertible {
    public var description: String
  }

  /// Reads certificates and key, from PEM in the configuration or from the files it names.
  public init(_ security: Configuration.Security, minVersion: String) throws {
    let chain = try TLSSettings.certificates("security.serverCert", security.serverCert)
    let authorities = try TLSSettings.certificates("security.caCert", security.caCert)
    revocations = try Revocations(security.crl, authorities: authorities)
    do {
      certificates =
        try CertificateFacts.read("server", chain) + CertificateFacts.read("authority", authorities)
    } catch {
      throw Invalid(
        description: "security.serverCert or security.caCert holds a certificate that can't be read: \(error)")
    }
    var tls = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) },
      privateKey: .privateKey(try TLSSettings.key("security.serverKey", security.serverKey)))
    tls.trustRoots = .certificates(authorities)
    // What makes a client certificate necessary and verified: with `.none` anybody gets in. The host name is not looked
    // at because a client has none.
    tls.certificateVerification = .noHostnameVerification
    tls.minimumTLSVersion = minVersion == "1.2" ? .tlsv12 : .tlsv13
    // How long a client may take to answer the goodbye of TLS: one that is cut off has no reason to hurry.
    tls.shutdownTimeout = .seconds(1)
    tls.applicationProtocols = ["h2", "http/1.1"]
    // A resumed session skips the verification of the certificate. It can resume only what this very context has
    // verified (its ticket keys are its own and die with it, so a reload ends them), the certificate comes back with the
    // session, and every connection and request looks at its expiry and at the revocation list again.
    do {
      context = try NIOSSLContext(configuration: tls)
    } catch {
      throw Invalid(description: "security.serverCert and security.serverKey don't make a TLS server: \(error)")
    }
  }

  private static func certificates(_ key: String, _ value: String) throws -> [NIOSSLCertificate] {
    try check(key, value)
    do {
      let found =
        isPEM(value)
        ? try NIOSSLCertificate.fromPEMBytes(Array(value.utf8)) : try NIOSSLCertificate.fromPEMFile(value)
      guard !found.isEmpty else { throw Invalid(description: "\(key): there is no certificate in it") }
      return found
    } catch let error as Invalid {
      throw error
    } catch {
      throw Invalid(description: "\(key): \(place(value)) holds no readable PEM certificate: \(error)")
    }
  }

  private static func key(_ key: String, _ value: String) throws -> NIOSSLPrivateKey {
    try check(key, value)
    do {
      return isPEM(value)
        ? try NIOSSLPrivateKey(bytes: Array(value.utf8), format: .pem) : try NIOSSLPrivateKey(file: value, format: .pem)
    } catch {
      // Not the error itself: it might quote what it could not read, and that is a key.
      throw Invalid(description: "\(key): \(place(value)) holds no readable PEM private key")
    }
  }

  private static func check(_ key: String, _ value: String) throws {
    guard !value.isEmpty else {
      throw Invalid(
        description: "\(key) is empty; it needs PEM text or a file's path. `joblet-certs init` makes the certificates")
    }
  }

  private static func isPEM(_ value: String) -> Bool { value.contains("-----BEGIN") }
  private static func place(_ value: String) -> String { isPEM(value) ? "the PEM text" : value }
}

/// The TLS settings new connections get; a reload replaces them and no open connection notices.
final class CurrentTLS: Sendable {
  private let settings: Mutex<TLSSettings>

  init(_ settings: TLSSettings) { self.settings = Mutex(settings) }

  var context: NIOSSLContext { settings.withLock { $0.context } }

  func replace(with new: TLSSettings) { settings.withLock { $0 = new } }

  /// Looks again at a caller whose certificate TLS has verified: a connection may outlive what it was opened with.
  /// - Throws: a ``JobletModel/Problem`` `unauthenticated` once the certificate is past its time or revoked.
  func check(_ identity: PeerIdentity, now: Timestamp = .now()) throws(Problem) {
    try identity.checkExpiry(now: now)
    guard let certificate = identity.certificate,
      let time = settings.withLock({ $0.revocations }).time(of: certificate)
    else { return }
    throw Problem(
      .unauthenticated, "the client certificate of '\(identity.name.prefix(80))' was revoked at \(time); get a new one")
  }
}
