import FoundationEssentials
import Glibc
import JobletModel
import X509

/// `joblet-certs init`: brings a directory of certificates, the configuration and the client files to the state they
/// should be in. What is good stays; running it again changes nothing.
public struct Setup: Sendable {
  /// The roles that get a client certificate; `node` is a peer gateway's.
  public static let clientRoles: [Role] = [.admin, .maintainer, .developer, .reader]

  /// Where CA, server and client certificates are kept.
  public var directory: String
  /// Where `rnx-config*.yml` go.
  public var clientDirectory: String
  /// The configuration whose `security:` section is set; nil leaves every configuration alone.
  public var configPath: String?
  /// The names of the server's certificate.
  public var names: ServerNames
  /// `host:port` in the client files.
  public var clientAddress: String
  /// PEM in the configuration instead of file names.
  public var embeds = false
  /// Makes everything anew, the CA too: every client file handed out before stops working.
  public var renewsAll = false
  /// The user who owns the server's key, if it exists and this runs as root.
  public var serverUser = "joblet-api"
  public var validity = Validity()
  /// The moment certificates are made for and checked at.
  public var now = Date()

  public init(
    directory: String, clientDirectory: String, configPath: String?, names: ServerNames, clientAddress: String
  ) {
    // The configuration names files by where they are, not by where somebody stood when they were made.
    let here = FileManager.default.currentDirectoryPath
    self.directory = directory.hasPrefix("/") ? directory : "\(here)/\(directory)"
    self.clientDirectory = clientDirectory
    self.configPath = configPath
    self.names = names
    self.clientAddress = clientAddress
  }

  /// What was done, a sentence each, in order.
  /// - Throws: ``CertificateFailure``; what was written before stays whole and valid, so it can be run again.
  public func run() throws -> [String] {
    var report: [String] = []
    try makeDirectory(directory, mode: 0o755)
    try makeDirectory(clientDirectory, mode: 0o755)
    // Two runs at once would each make a CA, and mix their files.
    let lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard lock >= 0 else { throw SecretFile.failure("can't open", directory) }
    defer { close(lock) }
    guard flock(lock, LOCK_EX) == 0 else { throw SecretFile.failure("can't lock", directory) }

    let (authority, isNew) = try authority(&report)
    let server = try leaf(
      "server", key: serverKeyAccess(), authority: authority, reissue: isNew, report: &report,
      whyNot: {
        try $0.alternativeNames == names.all ? nil : "its names were \(try $0.alternativeNames.joined(separator: ", "))"
      },
      issue: { try authority.issueServer(names, now: now) })
    for role in Setup.clientRoles {
      let client = try leaf(
        role.rawValue, key: FileAccess(mode: 0o600, owner: rootOwner), authority: authority, reissue: isNew,
        report: &report,
        whyNot: { try CertificateSummary($0).role == role ? nil : "its role was another" },
        issue: { try authority.issueClient(role, now: now) })
      try writeClientFile(role, client, authority, &report)
    }
    if let configPath { try edit(configPath, server, authority, &report) }
    return report
  }

  private func path(_ name: String) -> String { "\(directory)/\(name)" }
  private var rootOwner: (uid_t, gid_t)? { geteuid() == 0 ? (0, 0) : nil }
  private var publicAccess: FileAccess { FileAccess(mode: 0o644, owner: rootOwner) }

  /// Only the gateway reads the server's key; before its user exists, root alone does.
  private func serverKeyAccess() -> FileAccess {
    guard geteuid() == 0, let user = getpwnam(serverUser) else { return FileAccess(mode: 0o600, owner: rootOwner) }
    return FileAccess(mode: 0o600, owner: (user.pointee.pw_uid, user.pointee.pw_gid))
  }

  private func makeDirectory(_ path: String, mode: mode_t) throws {
    var built = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      built += (built.isEmpty || built.hasSuffix("/") ? "" : "/") + part
      if mkdir(built, mode) != 0 && errno != EEXIST { throw SecretFile.failure("can't make the directory", built) }
    }
  }

  // MARK: the CA

  private func authority(_ report: inout [String]) throws -> (CertificateAuthority, isNew: Bool) {
    let certificate = try SecretFile.read(path("ca.crt"))
    let key = try SecretFile.read(path("ca.key"))
    if !renewsAll, let key {
      if let certificate {
        let kept = try CertificateAuthority(Identity(certificatePEM: certificate, keyPEM: key), validity: validity)
        if kept.certificate.notValidAfter > now + validity.renewBefore {
          try SecretFile.ensure(path("ca.key"), FileAccess(mode: 0o600, owner: rootOwner))
          report.append("kept the CA, \(path("ca.crt"))")
          return (kept, false)
        }
      }
      // A key without a certificate is an earlier run cut short; one that runs out is signed again with the same key.
      let privateKey: Certificate.PrivateKey
      do {
        privateKey = try Certificate.PrivateKey(pemEncoded: key)
      } catch {
        throw CertificateFailure(
          "\(path("ca.key")) can't be read as a PEM private key; restore it, or make a new CA with --force")
      }
      let again = try CertificateAuthority(key: privateKey, validity: validity, now: now)
      try SecretFile.write(try again.certificatePEM, to: path("ca.crt"), publicAccess)
      report.append("signed the CA's certificate again with its own key, \(path("ca.crt"))")
      return (again, false)
    }
    if !renewsAll, certificate != nil {
      throw CertificateFailure(
        "\(path("ca.crt")) is there but its key \(path("ca.key")) is not, so nothing can be signed; restore the key, or make "
          + "a new CA with --force (every client then needs its new file)")
    }
    let made = try CertificateAuthority(validity: validity, now: now)
    let identity = try made.identity
    // The key first: a certificate without its key would stop the next run, a key without its certificate does not.
    try SecretFile.write(identity.keyPEM, to: path("ca.key"), FileAccess(mode: 0o600, owner: rootOwner))
    try SecretFile.write(identity.certificatePEM, to: path("ca.crt"), publicAccess)
    report.append("made a new CA, \(path("ca.crt"))")
    return (made, true)
  }

  // MARK: what it signs

  private func leaf(
    _ name: String, key access: FileAccess, authority: CertificateAuthority, reissue: Bool, report: inout [String],
    whyNot: (Certificate) throws -> String?, issue: () throws -> Identity
  ) throws -> Identity {
    var reason = reissue || renewsAll ? "the CA is new" : nil
    if reason == nil {
      if let certificate = try SecretFile.read(path("\(name).crt")), let key = try SecretFile.read(path("\(name).key"))
      {
        let kept = Identity(certificatePEM: certificate, keyPEM: key)
        reason = try fault(kept, authority, whyNot)
        if reason == nil {
          try SecretFile.ensure(path("\(name).key"), access)
          report.append("kept \(path("\(name).crt"))")
          return kept
        }
      } else {
        reason = "there was none"
      }
    }
    let made = try issue()
    // A reader between the two writes sees a pair that does not match, and says so; the next read is right.
    try SecretFile.write(made.keyPEM, to: path("\(name).key"), access)
    try SecretFile.write(made.certificatePEM, to: path("\(name).crt"), publicAccess)
    report.append("made \(path("\(name).crt")): \(reason ?? "it was asked for")")
    return made
  }

  /// Why a certificate can't be kept; nil if it can.
  private func fault(
    _ identity: Identity, _ authority: CertificateAuthority, _ whyNot: (Certificate) throws -> String?
  ) throws -> String? {
    let certificate: Certificate
    do {
      certificate = try identity.parsed("it").certificate
    } catch let error as CertificateFailure {
      return error.description
    }
    guard authority.signed(certificate) else { return "it was signed by another CA" }
    guard certificate.notValidBefore <= now else { return "it was not valid yet" }
    // A leaf cut short by its CA's end can't be made any longer, so it is kept to the end of both.
    guard
      certificate.notValidAfter > now + validity.renewBefore
        || certificate.notValidAfter == authority.certificate.notValidAfter && certificate.notValidAfter > now
    else { return "it ran out on \(Timestamp(certificate.notValidAfter))" }
    return try whyNot(certificate)
  }

  // MARK: who uses it

  private func writeClientFile(
    _ role: Role, _ client: Identity, _ authority: CertificateAuthority, _ report: inout [String]
  ) throws {
    let file = "\(clientDirectory)/" + (role == .admin ? "rnx-config.yml" : "rnx-config-\(role.rawValue).yml")
    let text = ClientConfigFile.render(
      address: clientAddress, client: client, authorityPEM: try authority.certificatePEM,
      comment: "For rnx, with the role \(role.rawValue). Whoever has this file has that role: keep it like a password.")
    try place(text, at: file, FileAccess(mode: 0o600, owner: rootOwner), &report)
  }

  private func place(_ text: String, at file: String, _ access: FileAccess, _ report: inout [String]) throws {
    if try SecretFile.read(file) == text {
      try SecretFile.ensure(file, access)
      report.append("kept \(file)")
    } else {
      try SecretFile.write(text, to: file, access)
      report.append("wrote \(file)")
    }
  }

  private func edit(
    _ configPath: String, _ server: Identity, _ authority: CertificateAuthority, _ report: inout [String]
  ) throws {
    // A link to the configuration stays a link: what it points to is replaced.
    guard let resolved = realpath(configPath, nil) else {
      throw SecretFile.failure("can't find the configuration", configPath)
    }
    defer { free(resolved) }
    let file = String(cString: resolved)
    guard let text = try SecretFile.read(file) else { throw SecretFile.failure("can't read", file) }
    var status = stat()
    guard stat(file, &status) == 0 else { throw SecretFile.failure("can't read", file) }
    let section = SecuritySection(text)
    let present = try section.values()
    let files = ["serverCert": path("server.crt"), "serverKey": path("server.key"), "caCert": path("ca.crt")]
    let pem = [
      "serverCert": server.certificatePEM, "serverKey": server.keyPEM, "caCert": try authority.certificatePEM,
    ]
    let isOurs = try present.values.allSatisfy(\.isEmpty) || present == files || holdsOurs(present)
    guard isOurs || renewsAll else {
      report.append("left \(file) alone: its security section names certificates of its own (--force replaces them)")
      return
    }
    let wanted = try embeds || !renewsAll && holdsOurs(present) ? pem : files
    if present == wanted {
      report.append("kept \(file)")
      return
    }
    let mode = wanted == pem ? status.st_mode & 0o7770 : status.st_mode & 0o7777
    let owner: (uid_t, gid_t)? = geteuid() == 0 ? (status.st_uid, status.st_gid) : nil
    try SecretFile.write(try section.setting(wanted), to: file, FileAccess(mode: mode, owner: owner))
    report.append("set the security section of \(file)")
    if wanted == pem {
      report.append(
        "\(file) now holds the server's key: only its owner and group can read it, so every service must be in that group"
      )
    }
  }

  /// Whether the section embeds a server certificate of the CA in this directory (or of the one before it).
  private func holdsOurs(_ present: [String: String]) throws -> Bool {
    guard let pem = present["serverCert"], pem.contains("-----BEGIN") else { return false }
    do {
      let certificate = try Certificate(pemEncoded: pem)
      return try certificate.issuer == certificateAuthorityName
    } catch {
      return false
    }
  }

  private var certificateAuthorityName: DistinguishedName {
    get throws {
      try DistinguishedName {
        OrganizationName("Joblet")
        CommonName("Joblet CA")
      }
    }
  }
}
