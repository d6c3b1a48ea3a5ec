import Certificates
import Foundation
import JobletModel
import RnxCommands
import Testing

@Suite struct ManualTests {
  @Test func `every verb has a page, and every page its options`() throws {
    let pages = try ManualPage.all()
    let names = pages.map(\.file)
    for verb in [
      "job-run", "job-list", "job-status", "job-log", "job-metrics", "job-wait", "job-stop", "job-pause", "job-resume",
      "job-delete", "job-delete-all", "events", "node-status", "node-top", "nodes", "config-check", "version",
      "completion",
    ] { #expect(names.contains("rnx-\(verb).1")) }
    #expect(names.contains("rnx.1") && names.contains("rnx-job.1") && Set(names).count == names.count)
    #expect(!names.contains { $0.contains("help") || $0.contains("manual") })
    let run = try #require(pages.first { $0.file == "rnx-job-run.1" })
    for option in ["secret\\-env", "stop\\-on\\-interrupt", "max\\-memory", "cpu\\-cores", "env\\-file"] {
      #expect(run.text.contains("\\-\\-\(option)"), "\(option)")
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "FILES"] {
      #expect(run.text.contains(".SH \(section)\n"))
    }
  }

  @Test func `nothing in a page is taken for a request by accident`() throws {
    let requests: Set = [
      ".TH", ".SH", ".B", ".BR", ".IR", ".TP", ".PP", ".IP", ".RS", ".RE", ".nf", ".fi",
    ]
    for page in try ManualPage.all() {
      for line in page.text.split(separator: "\n") where line.hasPrefix(".") || line.hasPrefix("'") {
        let word = String(line.prefix { $0 != " " })
        #expect(requests.contains(word), "\(page.file): \(line)")
      }
      #expect(page.text.components(separatedBy: "\n.nf\n").count == page.text.components(separatedBy: "\n.fi\n").count)
    }
    #expect(ManualPage.escaped("a-b \\ 'c'") == "a\\-b \\e \\(aqc\\(aq")
    #expect(ManualPage.escaped(".x") == "\\&.x")
    #expect(ManualPage.escaped("…") == "\\[u2026]")
    #expect(try ManualPage.all().allSatisfy { $0.text.utf8.allSatisfy { $0 < 0x80 } })
  }

  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/groff")))
  func `groff has nothing to say against them`() throws {
    for page in try ManualPage.all() {
      let groff = Process()
      let (input, errors) = (Pipe(), Pipe())
      groff.executableURL = URL(fileURLWithPath: "/usr/bin/groff")
      groff.arguments = ["-man", "-Tutf8", "-z"]
      (groff.standardInput, groff.standardError, groff.standardOutput) = (input, errors, FileHandle.nullDevice)
      try groff.run()
      try input.fileHandleForWriting.write(contentsOf: Data(page.text.utf8))
      try input.fileHandleForWriting.close()
      let said = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      groff.waitUntilExit()
      // Where groff alone is installed its own file of local changes may be missing.
      let complaints = said.split(separator: "\n").filter { !$0.contains("man.local") }
      #expect(groff.terminationStatus == 0 && complaints.isEmpty, "\(page.file): \(said)")
    }
  }

  // MARK: rnx config check

  private static func node(_ identity: Identity, _ authority: String) -> RnxConfig.Node {
    RnxConfig.Node(
      address: "127.0.0.1:1", cert: identity.certificatePEM, key: identity.keyPEM, ca: authority)
  }

  @Test func `a configuration's certificates are looked at`() throws {
    let authority = try CertificateAuthority()
    let (client, other) = (try authority.issueClient(.maintainer), try authority.issueClient(.reader))
    let good = ConfigReport.NodeLine(name: "n", Self.node(client, try authority.certificatePEM), now: .now())
    #expect(good.problem == nil && good.role?.lowercased() == "maintainer" && good.user?.isEmpty == false)
    #expect((good.daysLeft ?? 0) > 0)
    let report = ConfigReport(file: "/x.yml", isPrivate: false, nodes: [good])
    let lines = report.lines(style: Style(isOn: false))
    #expect(lines.contains("  others may read the keys in it: chmod 600 /x.yml"))
    #expect(lines.contains { $0.hasPrefix("n: 127.0.0.1:1 as ") && $0.hasSuffix("role \(good.role ?? "")") })

    let late = Timestamp(nanoseconds: Timestamp.now().nanoseconds + 200 * 365 * 86_400_000_000_000)
    let expired = ConfigReport.NodeLine(name: "n", Self.node(client, try authority.certificatePEM), now: late)
    #expect(expired.problem?.contains("ended on") == true && (expired.daysLeft ?? 0) < 0)
    let early = Timestamp(nanoseconds: 0)
    #expect(
      ConfigReport.NodeLine(name: "n", Self.node(client, try authority.certificatePEM), now: early).problem?
        .contains("clock") == true)
    var mixed = Self.node(client, try authority.certificatePEM)
    mixed.key = other.keyPEM
    #expect(
      ConfigReport.NodeLine(name: "n", mixed, now: .now()).problem?.contains("key does not belong to cert") == true)
    mixed.ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    mixed.key = client.keyPEM
    #expect(ConfigReport.NodeLine(name: "n", mixed, now: .now()).problem?.contains("n.ca is no certificate") == true)
    mixed.cert = mixed.ca
    #expect(ConfigReport.NodeLine(name: "n", mixed, now: .now()).problem?.contains("n.cert is no certificate") == true)
  }

  @Test func `any bytes for a certificate are read or refused, never a crash`() throws {
    let authority = try CertificateAuthority()
    let client = try authority.issueClient(.admin)
    var random = SplitMix(seed: 7)
    for _ in 0..<2000 {
      var bytes = Array(client.certificatePEM.utf8)
      for _ in 0...(random.next() % 4) {
        let at = Int(random.next() % UInt64(bytes.count))
        if random.next() % 3 == 0 { bytes.remove(at: at) } else { bytes[at] = UInt8(33 + random.next() % 90) }
      }
      var node = Self.node(client, client.certificatePEM)
      node.cert = String(decoding: bytes, as: UTF8.self)
      let line = ConfigReport.NodeLine(name: "n", node, now: .now())
      #expect(line.problem != nil || line.notAfter != nil)
    }
  }
}
