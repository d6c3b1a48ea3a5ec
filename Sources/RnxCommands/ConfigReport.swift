import CCertificate
import Glibc
import JobletClient
import JobletModel

/// What `rnx config check` found.
package struct ConfigReport: Encodable, Sendable {
  package var file: String
  /// False if others than its owner may read the keys in it.
  package var isPrivate: Bool
  package var nodes: [NodeLine]

  package init(file: String, isPrivate: Bool, nodes: [NodeLine]) {
    self.file = file
    self.isPrivate = isPrivate
    self.nodes = nodes
  }

  enum CodingKeys: String, CodingKey {
    case file, nodes
    case isPrivate = "private"
  }

  /// A certificate that ends within so many days is told of.
  static let warningDays = CertificateStatus.warningDays

  package struct NodeLine: Encodable, Sendable {
    package var name: String
    package var address: String
    /// The certificate's CN and OU: who we are there.
    package var user: String?
    package var role: String?
    package var notAfter: Timestamp?
    package var daysLeft: Int?
    /// The node's version, if it answered.
    package var version: String?
    /// What has to be mended; nil if nothing.
    package var problem: String?

    enum CodingKeys: String, CodingKey {
      case name, address, user, role, version, problem
      case notAfter = "not_after"
      case daysLeft = "days_left"
    }

    /// Looks at the file's part of it.
    package init(name: String, _ node: RnxConfig.Node, now: Timestamp) {
      self.name = name
      address = node.address
      guard let certificate = ClientCertificate(pem: node.cert) else {
        problem = "nodes.\(name).cert is no certificate; copy rnx-config.yml anew from the node"
        return
      }
      (user, role) = (certificate.commonName, certificate.unit)
      notAfter = certificate.notAfter
      let status = CertificateStatus(name: name, subject: user ?? "", notAfter: certificate.notAfter, now: now)
      daysLeft = status.daysLeft
      if status.state == .expired {
        problem = "the certificate ended on \(certificate.notAfter); get a new rnx-config.yml from the node"
      } else if now < certificate.notBefore {
        problem = "the certificate begins on \(certificate.notBefore) only; is this machine's clock right?"
      } else if !certificate.hasKey(node.key) {
        problem = "nodes.\(name).key does not belong to cert; copy rnx-config.yml anew from the node"
      } else if ClientCertificate(pem: node.ca) == nil {
        problem = "nodes.\(name).ca is no certificate; copy rnx-config.yml anew from the node"
      }
    }

    /// Asks the node.
    mutating func ask(_ node: RnxConfig.Node) async {
      let endpoint = Endpoint(
        address: node.address, certificatePEM: node.cert, keyPEM: node.key, authorityPEM: node.ca)
      do {
        version = try await JobletClient(endpoint).node().versions.api
      } catch let error as JobletError {
        let failure = Explain.failure(error, what: "the node refuses", address: node.address)
        problem = "\(failure.what): \(failure.why); \(failure.next)"
      } catch {
        problem = "\(error)"
      }
    }
  }

  /// Whether only its owner may read a file; true also where that can't be told.
  static func isPrivate(_ path: String) -> Bool {
    var info = stat()
    return stat(path, &info) != 0 || info.st_mode & 0o077 == 0
  }

  package func lines(style: Style) -> [String] {
    var lines = ["Configuration: \(file)"]
    if !isPrivate {
      lines.append(style.paint("  others may read the keys in it: chmod 600 \(file)", .warning))
    }
    for node in nodes {
      let who = [node.user, node.role.map { "role \($0)" }].compactMap(\.self).joined(separator: ", ")
      lines.append("\(style.paint(node.name, .strong)): \(node.address)\(who.isEmpty ? "" : " as \(who)")")
      if let notAfter = node.notAfter, let days = node.daysLeft {
        let tone: Style.Tone? = days < 0 ? .bad : days < ConfigReport.warningDays ? .warning : nil
        lines.append(
          style.paint("  certificate good until \(notAfter.description.prefix(10)), \(Words.count(days, "day"))", tone))
      }
      if let problem = node.problem {
        lines.append(style.paint("  \(problem)", .bad))
      } else {
        lines.append(style.paint("  " + (node.version.map { "answers, version \($0)" } ?? "not asked"), .good))
      }
    }
    return lines
  }
}

/// What a client's certificate says.
struct ClientCertificate {
  var commonName: String?
  var unit: String?
  var notBefore: Timestamp
  var notAfter: Timestamp
  private let pem: String

  /// Nil if the text holds none.
  init?(pem: String) {
    var text = pem
    var raw = joblet_certificate()
    let isRead = text.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) { joblet_certificate_read($0.baseAddress, $0.count, &raw) }
    }
    // Years past 2262 don't fit into nanoseconds; such a certificate is good for as long as can be said.
    let latest = Int64.max / 1_000_000_000
    guard isRead else { return nil }
    self.pem = pem
    notBefore = Timestamp(nanoseconds: min(max(raw.not_before, -latest), latest) * 1_000_000_000)
    notAfter = Timestamp(nanoseconds: min(max(raw.not_after, -latest), latest) * 1_000_000_000)
    commonName = ClientCertificate.text(&raw.common_name)
    unit = ClientCertificate.text(&raw.unit)
  }

  func hasKey(_ key: String) -> Bool {
    var (text, key) = (pem, key)
    return text.withUTF8 { bytes in
      key.withUTF8 { keyBytes in
        bytes.withMemoryRebound(to: CChar.self) { pem in
          keyBytes.withMemoryRebound(to: CChar.self) { key in
            joblet_certificate_has_key(pem.baseAddress, pem.count, key.baseAddress, key.count)
          }
        }
      }
    }
  }

  private static func text<Tuple>(_ field: inout Tuple) -> String? {
    let text = withUnsafeBytes(of: &field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    return text.isEmpty ? nil : Words.printable(text)
  }
}
