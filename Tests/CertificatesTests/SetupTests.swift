import Certificates
import Foundation
import Glibc
import JobletModel
import Testing

@Suite struct SetupTests {
  /// A folder of its own with a configuration in it.
  final class Folder {
    let path = NSTemporaryDirectory() + "certs-\(UUID().uuidString)"

    init(_ config: String = "version: \"3.0\"\n") throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      try write("joblet-config.yml", config)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func read(_ name: String) throws -> String { try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8) }
    func write(_ name: String, _ text: String) throws {
      try text.write(toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
    }
    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: "\(path)/\(name)") }

    func mode(_ name: String) -> mode_t {
      var status = stat()
      return stat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    /// Every file below, with its text.
    func all() throws -> [String: String] {
      var files: [String: String] = [:]
      for name in try FileManager.default.subpathsOfDirectory(atPath: path) where name.contains(".") {
        files[name] = try read(name)
      }
      return files
    }

    func setup(names: String = "", _ change: (inout Setup) -> Void = { _ in }) throws -> [String] {
      try report(names: names, change).lines
    }

    func report(names: String = "", _ change: (inout Setup) -> Void = { _ in }) throws -> SetupReport {
      var setup = Setup(
        directory: "\(path)/certs", clientDirectory: "\(path)/client", configPath: "\(path)/joblet-config.yml",
        names: try ServerNames(additional: names), clientAddress: "127.0.0.1:50051")
      setup.serverUser = "no-such-user"
      change(&setup)
      return try setup.run()
    }

    func inode(_ name: String) -> ino_t {
      var status = stat()
      return stat("\(path)/\(name)", &status) == 0 ? status.st_ino : 0
    }
  }

  @Test func `everything is made, with the right modes`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    for name in ["ca", "server", "admin", "maintainer", "developer", "reader"] {
      #expect(folder.mode("certs/\(name).key") == 0o600, "\(name)")
      #expect(folder.mode("certs/\(name).crt") == 0o644, "\(name)")
    }
    for name in ["rnx-config", "rnx-config-maintainer", "rnx-config-developer", "rnx-config-reader"] {
      #expect(folder.mode("client/\(name).yml") == 0o600, "\(name)")
    }
    #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/client/rnx-config-admin.yml"))
    let admin = try folder.read("client/rnx-config.yml")
    #expect(admin.contains("address: \"127.0.0.1:50051\"") && admin.hasPrefix("# ") && admin.contains("role admin"))
    for part in ["certs/admin.crt", "certs/admin.key", "certs/ca.crt"] {
      let first = try folder.read(part).split(separator: "\n")[1]
      #expect(admin.contains("      \(first)\n"))
    }
    let config = try folder.read("joblet-config.yml")
    #expect(config.contains("serverCert: \"\(folder.path)/certs/server.crt\""))
    #expect(
      try Overview(directory: "\(folder.path)/certs").entries.map(\.use) == [
        "admin", "CA", "developer", "maintainer", "reader", "server",
      ])
  }

  @Test func `a second run changes nothing, not even a file's identity`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    let before = try folder.all()
    let inodes = before.mapValues { _ in 0 }.keys.map { ($0, folder.inode($0)) }
    let report = try folder.setup()
    #expect(try folder.all() == before)
    #expect(inodes.allSatisfy { folder.inode($0.0) == $0.1 })
    #expect(report.allSatisfy { $0.hasPrefix("kept") }, "\(report)")
  }

  @Test func `modes that were opened are closed again`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    for name in ["certs/ca.key", "certs/server.key", "client/rnx-config.yml"] { chmod("\(folder.path)/\(name)", 0o644) }
    _ = try folder.setup()
    for name in ["certs/ca.key", "certs/server.key", "client/rnx-config.yml"] { #expect(folder.mode(name) == 0o600) }
  }

  @Test func `new names renew the server's certificate alone`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    let before = try folder.all()
    _ = try folder.setup(names: "new.example.com")
    let after = try folder.all()
    let changed = Set(before.keys.filter { before[$0] != after[$0] })
    #expect(changed == ["certs/server.crt", "certs/server.key"])
    #expect(try CertificateSummary(pem: after["certs/server.crt"] ?? "").names.first == "new.example.com")
  }

  @Test func `what is lost or broken is made again by the same CA`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    let before = try folder.all()
    try folder.write("certs/reader.crt", "broken")
    try folder.remove("certs/developer.key")
    try folder.write("certs/maintainer.key", before["certs/admin.key"] ?? "")
    try folder.remove("certs/ca.crt")
    _ = try folder.setup()
    let after = try folder.all()
    #expect(after["certs/ca.key"] == before["certs/ca.key"])
    #expect(after["certs/server.crt"] == before["certs/server.crt"])
    #expect(after["certs/admin.crt"] == before["certs/admin.crt"])
    for name in ["reader", "developer", "maintainer"] {
      #expect(try CertificateSummary(pem: after["certs/\(name).crt"] ?? "").role?.rawValue == name)
    }
  }

  @Test func `a certificate of another role is not kept`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    for part in ["crt", "key"] { try folder.write("certs/reader.\(part)", folder.read("certs/admin.\(part)")) }
    _ = try folder.setup()
    #expect(try CertificateSummary(pem: folder.read("certs/reader.crt")).role == .reader)
  }

  @Test func `certificates that run out are renewed, the CA's by its own key`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    let before = try folder.all()
    _ = try folder.setup { $0.now = Date() + 729 * 86_400 }
    let later = try folder.all()
    #expect(later["certs/ca.crt"] == before["certs/ca.crt"])
    #expect(later["certs/server.crt"] != before["certs/server.crt"])
    #expect(later["client/rnx-config.yml"] != before["client/rnx-config.yml"])
    _ = try folder.setup { $0.now = Date() + 3_649 * 86_400 }
    let last = try folder.all()
    #expect(last["certs/ca.key"] == before["certs/ca.key"] && last["certs/ca.crt"] != before["certs/ca.crt"])
  }

  @Test func `force makes everything anew`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    let before = try folder.all()
    _ = try folder.setup { $0.renewsAll = true }
    let after = try folder.all()
    #expect(before.keys.filter { before[$0] == after[$0] } == ["joblet-config.yml"])
  }

  @Test func `a node without the CA's key keeps what it has, and says what has to be made elsewhere`() throws {
    let folder = try Folder()
    _ = try folder.setup()
    try folder.remove("certs/ca.key")
    // Clients' keys are for clients.
    for part in ["reader.crt", "reader.key"] { try folder.remove("certs/\(part)") }
    try folder.remove("client/rnx-config-reader.yml")
    let before = try folder.all()
    let changed = "\(folder.path)/changed"
    let report = try folder.report { $0.changedPath = changed }
    #expect(report.warnings.isEmpty && report.lines.contains { $0.contains("ca.key is not on this node") })
    let later = try folder.report(names: "new.example.com") {
      $0.now = Date() + 700 * 86_400
      $0.changedPath = changed
    }
    #expect(later.warnings.count == 4 && later.warnings.allSatisfy { $0.contains("was to end on") })
    #expect(later.warnings.first?.contains("server.crt") == true && later.warnings.first?.contains("ca.key") == true)
    #expect(try folder.all() == before && !FileManager.default.fileExists(atPath: changed))
    // With what has ended nobody can connect.
    let ended = #expect(throws: CertificateFailure.self) { try folder.setup { $0.now = Date() + 731 * 86_400 } }
    #expect(ended?.description.contains("ca.key") == true && ended?.description.contains("--force") == true)
    try folder.remove("certs/server.key")
    #expect(throws: CertificateFailure.self) { try folder.setup() }
    var left = before
    left["certs/server.key"] = nil
    #expect(try folder.all() == left)
  }

  @Test func `what the gateway has to read is noted before it is there, and only that`() throws {
    let folder = try Folder()
    let begun = Date()
    func isNoted(day: Double) throws -> Bool {
      _ = try folder.setup {
        $0.changedPath = "\(folder.path)/changed"
        $0.now = begun + day * 86_400
      }
      guard FileManager.default.fileExists(atPath: "\(folder.path)/changed") else { return false }
      try folder.remove("changed")
      return true
    }
    #expect(try isNoted(day: 0))
    #expect(try !isNoted(day: 0))
    // 45 days before their end and not before.
    #expect(try !isNoted(day: 684))
    #expect(try isNoted(day: 686))
    #expect(try !isNoted(day: 686))
    try folder.remove("client/rnx-config.yml")
    #expect(try !isNoted(day: 686))
    try folder.write("joblet-config.yml", "version: \"3.0\"\n")
    #expect(try isNoted(day: 686))
    // A run that is cut short has noted what it was about to do.
    try FileManager.default.removeItem(atPath: "\(folder.path)/certs/server.crt")
    let changed = "\(folder.path)/none/changed"
    #expect(throws: CertificateFailure.self) { try folder.setup { $0.changedPath = changed } }
    #expect(!FileManager.default.fileExists(atPath: "\(folder.path)/certs/server.crt"))
  }

  @Test func `a missing or linked configuration`() throws {
    let folder = try Folder()
    #expect(throws: CertificateFailure.self) { try folder.setup { $0.configPath = "\(folder.path)/none.yml" } }
    symlink("joblet-config.yml", "\(folder.path)/link.yml")
    _ = try folder.setup { $0.configPath = "\(folder.path)/link.yml" }
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder.path)/link.yml") == "joblet-config.yml")
    #expect(try folder.read("joblet-config.yml").contains("server.key"))
  }

  @Test func `embedding, and that it lasts`() throws {
    let folder = try Folder("version: \"3.0\"\nsecurity:\n  audit: {enabled: true}  # stays\n")
    chmod("\(folder.path)/joblet-config.yml", 0o644)
    _ = try folder.setup { $0.embeds = true }
    let config = try folder.read("joblet-config.yml")
    #expect(config.contains("-----BEGIN PRIVATE KEY-----") && config.contains("# stays"))
    #expect(folder.mode("joblet-config.yml") == 0o640)
    _ = try folder.setup(names: "other.example.com")
    let values = try SecuritySection(folder.read("joblet-config.yml")).values()
    #expect(try values["serverCert"] == folder.read("certs/server.crt"))
    #expect(try values["serverKey"] == folder.read("certs/server.key"))
  }

  @Test func `certificates of somebody else's stay in the configuration`() throws {
    let text = "version: \"3.0\"\nsecurity: \n  serverCert: /etc/pki/mine.crt\n  serverKey: /etc/pki/mine.key\n"
    let folder = try Folder(text)
    let report = try folder.setup()
    #expect(try folder.read("joblet-config.yml") == text)
    #expect(report.last?.contains("left") == true)
    _ = try folder.setup { $0.renewsAll = true }
    #expect(try folder.read("joblet-config.yml").contains("certs/server.crt"))
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")))
  func `openssl agrees`() throws {
    let folder = try Folder()
    _ = try folder.setup(names: "node1.example.com")
    func openssl(_ arguments: String...) throws -> Int32 {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      process.arguments = arguments
      process.currentDirectoryURL = URL(fileURLWithPath: "\(folder.path)/certs")
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus
    }
    let strict = ["verify", "-x509_strict", "-CAfile", "ca.crt"]
    func verify(_ more: String...) throws -> Bool {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      process.arguments = strict + more
      process.currentDirectoryURL = URL(fileURLWithPath: "\(folder.path)/certs")
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
      process.waitUntilExit()
      return process.terminationStatus == 0
    }
    #expect(try verify("-purpose", "sslserver", "-verify_hostname", "node1.example.com", "server.crt"))
    #expect(try verify("-purpose", "sslserver", "-verify_ip", "127.0.0.1", "server.crt"))
    #expect(try !verify("-purpose", "sslclient", "server.crt"))
    #expect(try verify("-purpose", "sslclient", "reader.crt"))
    #expect(try !verify("-purpose", "sslserver", "reader.crt"))
    #expect(try openssl("pkey", "-in", "server.key", "-noout") == 0)
  }
}
