import Glibc
import X509

/// The names a server's certificate holds for: host names and IP addresses, each once, in a fixed order.
public struct ServerNames: Hashable, Sendable {
  /// Lower case, without a final dot.
  public private(set) var hosts: [String] = []
  /// IP addresses in network order: 4 or 16 bytes.
  public private(set) var addresses: [[UInt8]] = []

  /// The names every server has.
  public static let always = ["localhost", "127.0.0.1", "::1"]

  /// - Parameters:
  ///   - address: the address the gateway listens on (`JOBLET_SERVER_ADDRESS`, else `server.address`). A wildcard
  ///     (`0.0.0.0`, `::`, `*`, empty) is nobody's name and is left out.
  ///   - additional: `JOBLET_ADDITIONAL_NAMES`: names and addresses with commas (or blanks) between them.
  ///   - hostName: the machine's own name.
  /// - Throws: ``CertificateFailure`` for what is neither a host name nor an IP address.
  public init(address: String = "", additional: String = "", hostName: String = "") throws {
    try add(address, from: "the server's address")
    for name in additional.split(whereSeparator: { $0 == "," || $0.isWhitespace }) {
      try add(String(name), from: "JOBLET_ADDITIONAL_NAMES")
    }
    // A machine may be called anything (underscores are common); what can't stand in a certificate is left out.
    if ServerNames.isHostName(hostName) { try add(hostName, from: "the host name") }
    for name in ServerNames.always { try add(name, from: "") }
  }

  /// True for an address that means every interface.
  public static func isWildcard(_ address: some StringProtocol) -> Bool {
    if address.isEmpty || address == "*" { return true }
    return ServerNames.addressBytes(unbracketed(String(address)))?.allSatisfy { $0 == 0 } ?? false
  }

  /// Reads an IPv4 or IPv6 address (inet_pton(3)): its bytes in network order.
  static func addressBytes(_ text: String) -> [UInt8]? {
    var four = in_addr()
    if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: &four) { Array($0) } }
    var six = in6_addr()
    if inet_pton(AF_INET6, text, &six) == 1 { return withUnsafeBytes(of: &six) { Array($0) } }
    return nil
  }

  /// A host name of RFC 1123, with `_` allowed and `*` as the whole first label.
  static func isHostName(_ name: some StringProtocol) -> Bool {
    let labels = name.split(separator: ".", omittingEmptySubsequences: false)
    guard !name.isEmpty, name.utf8.count <= 253 else { return false }
    for (index, label) in labels.enumerated() {
      if index == 0, label == "*", labels.count > 2 { continue }
      guard !label.isEmpty, label.utf8.count <= 63, !label.hasPrefix("-"), !label.hasSuffix("-"),
        label.utf8.allSatisfy({ $0.isLetterOrDigit || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") })
      else { return false }
    }
    return true
  }

  private static func unbracketed(_ text: String) -> String {
    text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
  }

  private mutating func add(_ text: String, from origin: String) throws {
    guard !ServerNames.isWildcard(text) else { return }
    if let bytes = ServerNames.addressBytes(ServerNames.unbracketed(text)) {
      if !addresses.contains(bytes) { addresses.append(bytes) }
      return
    }
    let host = (text.hasSuffix(".") ? String(text.dropLast()) : text).lowercased()
    // 300.1.2.3 would pass as a host name; nobody means that.
    let looksNumeric = host.utf8.allSatisfy { (48...57).contains($0) || $0 == UInt8(ascii: ".") }
    guard ServerNames.isHostName(host), !looksNumeric else {
      throw CertificateFailure(
        "'\(text.prefix(128))' in \(origin) is neither a host name nor an IP address; "
          + "give names like node1.example.com or addresses like 10.0.0.5, with commas between them")
    }
    if !hosts.contains(host) { hosts.append(host) }
  }

  /// The certificate's common name: the first host name that is not localhost. For people; clients look at the others.
  var commonName: String {
    String((hosts.first { $0 != "localhost" } ?? "localhost").prefix(64))  // ub-common-name of RFC 5280
  }

  var generalNames: [GeneralName] {
    hosts.map { .dnsName($0) } + addresses.map { .ipAddress(.init(contentBytes: $0[...])) }
  }

  /// All names in their printed form.
  public var all: [String] { hosts + addresses.map(ServerNames.text) }

  /// An address's printed form (inet_ntop(3)).
  static func text(_ address: [UInt8]) -> String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let family = address.count == 4 ? AF_INET : AF_INET6
    guard address.count == 4 || address.count == 16,
      inet_ntop(family, address, &text, socklen_t(text.count)) != nil
    else { return "?" }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

extension UInt8 {
  fileprivate var isLetterOrDigit: Bool {
    (48...57).contains(self) || (65...90).contains(self) || (97...122).contains(self)
  }
}
