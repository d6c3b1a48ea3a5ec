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
  /// A file that is made before the first certificate is replaced, or the configuration changed; nil for none. Whoever has the
  /// gateway read them removes it: so a run that is cut short is known of too.
  public var changedPath: String?
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

  /// Does what is to be done. Where the CA has its key elsewhere nothing is signed: what there is stays, and what somebody has to
  /// do is told.
  /// - Throws: ``CertificateFailure``; what was written before stays whole and valid, so it can be run again.
  public func run() throws -> SetupReport {
    var report = SetupReport()
    try makeDirectory(directory, mode: 0o755)
    try makeDirectory(clientDirectory, mode: 0o755)
    // Two runs at once would each make a CA, and mix their files.
    let lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard lock >= 0 else { throw SecretFile.failure("can't open", directory) }
    defer { close(lock) }
    guard flock(lock, LOCK_EX) == 0 else { throw SecretFile.failure("can't lock", directory) }

    if !renewsAll, let certificate = try SecretFile.read(path("ca.crt")), try SecretFile.read(path("ca.key")) == nil {
      try look(authorityPEM: certificate, &report)
      return report
    }
    let (authority, isNew) = try authority(&report)
    let server = try leaf(
      "server", key: serverKeyAccess(), authority: authority, reissue: isNew, report: &report,
      whyNot: otherNames,
      issue: { try authority.issueServer(names, now: now) })
    for role in Setup.clientRoles {
      let client = try leaf(
        role.rawValue, key: FileAccess(mode: 0o600, owner: rootOwner), authority: authority, reissue: isNew,
        report: &report,
        whyNot: { try otherRole(than: role, $0) },
        issue: { try authority.issueClient(role, now: now) })
      try writeClientFile(role, client, try authority.certificatePEM, &report)
    }
    if let configPath { try edit(configPath, server, try authority.certificatePEM, &report) }
    return report
  }

  func path(_ name: String) -> String { "\(directory)/\(name)" }
  var rootOwner: (uid_t, gid_t)? { geteuid() == 0 ? (0, 0) : nil }
  private var publicAccess: FileAccess { FileAccess(mode: 0o644, owner: rootOwner) }

  /// Only the gateway reads the server's key; before its user exists, root alone does.
  func serverKeyAccess() -> FileAccess {
    guard geteuid() == 0, let user = getpwnam(serverUser) else { return FileAccess(mode: 0o600, owner: rootOwner) }
    return FileAccess(mode: 0o600, owner: (user.pointee.pw_uid, user.pointee.pw_gid))
  }

  /// Writes what the gateway has to read.
  private func write(_ text: String, to path: String, _ access: FileAccess) throws {
    if let changedPath {
      try SecretFile.write(
        "the gateway has certificates to read\n", to: changedPath, FileAccess(mode: 0o600, owner: nil))
    }
    try SecretFile.write(text, to: path, access)
  }

  private func makeDirectory(_ path: String, mode: mode_t) throws {
    var built = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      built += (built.isEmpty || built.hasSuffix("/") ? "" : "/") + part
      if mkdir(built, mode) != 0 && errno != EEXIST { throw SecretFile.failure("can't make the directory", built) }
    }
  }

  // MARK: the CA

  private func authority(_ report: inout SetupReport) throws -> (CertificateAuthority, isNew: Bool) {
    let certificate = try SecretFile.read(path("ca.crt"))
    let key = try SecretFile.read(path("ca.key"))
    if !renewsAll, let key {
      if let certificate {
        let kept = try CertificateAuthority(Identity(certificatePEM: certificate, keyPEM: key), validity: validity)
        if kept.certificate.notValidAfter > now + validity.renewBefore {
          try SecretFile.ensure(path("ca.key"), FileAccess(mode: 0o600, owner: rootOwner))
          report.lines.append("kept the CA, \(path("ca.crt"))")
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
      try write(try again.certificatePEM, to: path("ca.crt"), publicAccess)
      report.lines.append("signed the CA's certificate again with its own key, \(path("ca.crt"))")
      return (again, false)
    }
    let made = try CertificateAuthority(validity: validity, now: now)
    let identity = try made.identity
    // The key first: a certificate without its key would stop the next run, a key without its certificate does not.
    try write(identity.keyPEM, to: path("ca.key"), FileAccess(mode: 0o600, owner: rootOwner))
    try write(identity.certificatePEM, to: path("ca.crt"), publicAccess)
    report.lines.append("made a new CA, \(path("ca.crt"))")
    return (made, true)
  }

  // MARK: what it signs

  func otherNames(_ certificate: Certificate) throws -> String? {
    let present = try certificate.alternativeNames
    return present == names.all ? nil : "its names were \(present.joined(separator: ", "))"
  }

  func otherRole(than role: Role, _ certificate: Certificate) throws -> String? {
    try CertificateSummary(certificate).role == role ? nil : "its role was another"
  }

  private func leaf(
    _ name: String, key access: FileAccess, authority: CertificateAuthority, reissue: Bool, report: inout SetupReport,
    whyNot: (Certificate) throws -> String?, issue: () throws -> Identity
  ) throws -> Identity {
    var reason = reissue || renewsAll ? "the CA is new" : nil
    if reason == nil {
      if let certificate = try SecretFile.read(path("\(name).crt")), let key = try SecretFile.read(path("\(name).key"))
      {
        let kept = Identity(certificatePEM: certificate, keyPEM: key)
        reason = try fault(kept, authority.certificate, whyNot)?.reason
        if reason == nil {
          try SecretFile.ensure(path("\(name).key"), access)
          report.lines.append("kept \(path("\(name).crt"))")
          return kept
        }
      } else {
        reason = "there was none"
      }
    }
    let made = try issue()
    // A reader between the two writes sees a pair that does not match, and says so; the next read is right.
    try write(made.keyPEM, to: path("\(name).key"), access)
    try write(made.certificatePEM, to: path("\(name).crt"), publicAccess)
    report.lines.append("made \(path("\(name).crt")): \(reason ?? "it was asked for")")
    return made
  }

  /// Why a certificate is not what it should be.
  struct Fault {
    var reason: String
    /// Clients can still connect with it.
    var isUsable = false
  }

  /// Nil if a certificate can be kept.
  func fault(
    _ identity: Identity, _ authority: Certificate, _ whyNot: (Certificate) throws -> String?
  ) throws -> Fault? {
    let certificate: Certificate
    do {
      certificate = try identity.parsed("it").certificate
    } catch let error as CertificateFailure {
      return Fault(reason: error.description)
    }
    guard authority.signed(certificate) else { return Fault(reason: "it was signed by another CA") }
    guard certificate.notValidBefore <= now else { return Fault(reason: "it was not valid yet") }
    let end = Timestamp(certificate.notValidAfter)
    guard certificate.notValidAfter > now else { return Fault(reason: "it ran out on \(end)") }
    // A leaf cut short by its CA's end can't be made any longer, so it is kept to the end of both.
    guard
      certificate.notValidAfter > now + validity.renewBefore
        || certificate.notValidAfter == authority.notValidAfter
    else { return Fault(reason: "it was to end on \(end)", isUsable: true) }
    return try whyNot(certificate).map { Fault(reason: $0, isUsable: true) }
  }

  // MARK: who uses it

  func writeClientFile(
    _ role: Role, _ client: Identity, _ authorityPEM: String, _ report: inout SetupReport
  ) throws {
    let file = "\(clientDirectory)/" + (role == .admin ? "rnx-config.yml" : "rnx-config-\(role.rawValue).yml")
    let text = ClientConfigFile.render(
      address: clientAddress, client: client, authorityPEM: authorityPEM,
      comment: "For rnx, with the role \(role.rawValue). Whoever has this file has that role: keep it like a password.")
    try place(text, at: file, FileAccess(mode: 0o600, owner: rootOwner), &report)
  }

  private func place(_ text: String, at file: String, _ access: FileAccess, _ report: inout SetupReport) throws {
    if try SecretFile.read(file) == text {
      try SecretFile.ensure(file, access)
      report.lines.append("kept \(file)")
    } else {
      try SecretFile.write(text, to: file, access)
      report.lines.append("wrote \(file)")
    }
  }

  func edit(
    _ configPath: String, _ server: Identity, _ authorityPEM: String, _ report: inout SetupReport
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
      "serverCert": server.certificatePEM, "serverKey": server.keyPEM, "caCert": authorityPEM,
    ]
    let isOurs = try present.values.allSatisfy(\.isEmpty) || present == files || holdsOurs(present)
    guard isOurs || renewsAll else {
      report.lines.append(
        "left \(file) alone: its security section names certificates of its own (--force replaces them)")
      return
    }
    let wanted = try embeds || !renewsAll && holdsOurs(present) ? pem : files
    if present == wanted {
      report.lines.append("kept \(file)")
      return
    }
    let mode = wanted == pem ? status.st_mode & 0o7770 : status.st_mode & 0o7777
    let owner: (uid_t, gid_t)? = geteuid() == 0 ? (status.st_uid, status.st_gid) : nil
    try write(try section.setting(wanted), to: file, FileAccess(mode: mode, owner: owner))
    report.lines.append("set the security section of \(file)")
    if wanted == pem {
      report.lines.append(
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
