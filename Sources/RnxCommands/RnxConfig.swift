import YAML

/// `rnx-config.yml`: the nodes a client knows, each with its address and PEM.
public struct RnxConfig: Sendable, Hashable {
  public struct Node: Sendable, Hashable {
    /// `host:port`.
    public var address: String
    public var cert: String
    public var key: String
    public var ca: String

    package init(address: String, cert: String, key: String, ca: String) {
      self.address = address
      self.cert = cert
      self.key = key
      self.ca = ca
    }
  }

  public var nodes: [String: Node]
  /// The file it came from.
  public var path: String

  /// The version understood here.
  public static let version = "3.0"
  static let topKeys = ["version", "nodes"]
  static let nodeKeys = ["address", "cert", "key", "ca"]

  /// Reads a configuration.
  /// - Throws: ``Failure`` that names the file, the key, and what is allowed.
  public init(_ text: String, path: String) throws {
    self.path = path
    let root: YAMLNode?
    do {
      root = try YAMLNode.parse(text)
    } catch {
      throw Failure(
        "the configuration \(path) can't be read", why: "it is not valid YAML: \(error)",
        next: "correct it, or copy rnx-config.yml anew from the node's /opt/joblet/config")
    }
    guard case .mapping(let top)? = root else {
      throw RnxConfig.wrong(path, "", "must hold 'version' and 'nodes'")
    }
    try RnxConfig.refuseUnknown(top, RnxConfig.topKeys, at: "", path)
    let version = top["version"]?.string
    guard version == RnxConfig.version else {
      throw RnxConfig.wrong(
        path, "version", "is \(version.map { "'\($0)'" } ?? "missing"); known here: \"\(RnxConfig.version)\"")
    }
    guard case .mapping(let entries)? = top["nodes"], !entries.isEmpty else {
      throw RnxConfig.wrong(path, "nodes", "must name at least one node, 'default' for instance")
    }
    nodes = [:]
    for (key, value) in entries {
      guard let name = key.string, !name.isEmpty else {
        throw RnxConfig.wrong(path, "nodes", "has a node without a name")
      }
      nodes[name] = try RnxConfig.node(value, at: "nodes.\(name)", path)
    }
  }

  private static func node(_ value: YAMLNode, at place: String, _ path: String) throws -> Node {
    guard case .mapping(let fields) = value else {
      throw wrong(path, place, "must hold \(nodeKeys.joined(separator: ", "))")
    }
    try refuseUnknown(fields, nodeKeys, at: place + ".", path)
    func text(_ key: String) throws -> String {
      guard let text = fields[key]?.string, !text.isEmpty else {
        throw wrong(path, "\(place).\(key)", "is missing")
      }
      return text
    }
    func pem(_ key: String) throws -> String {
      let text = try text(key)
      guard text.contains("-----BEGIN ") else {
        throw wrong(path, "\(place).\(key)", "must be embedded PEM text, which starts with -----BEGIN")
      }
      return text
    }
    let address = try text("address")
    guard isAddress(address) else {
      throw wrong(
        path, "\(place).address",
        "'\(address.prefix(100))' is not host:port, like node1.example.com:50051 or [::1]:50051")
    }
    return Node(address: address, cert: try pem("cert"), key: try pem("key"), ca: try pem("ca"))
  }

  /// `host:port` with nothing in it that could turn a URL into another one.
  static func isAddress(_ text: String) -> Bool {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
      return false
    }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      return !host.isEmpty && host.utf8.allSatisfy { isHexDigit($0) || $0 == 0x3A || $0 == 0x2E || $0 == 0x25 }
    }
    return !host.isEmpty
      && host.unicodeScalars.allSatisfy {
        $0.properties.isAlphabetic || ("0"..."9").contains($0) || $0 == "." || $0 == "-" || $0 == "_"
      }
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (48...57).contains(byte) || (65...70).contains(byte) || (97...102).contains(byte)
  }

  private static func refuseUnknown(_ mapping: YAMLNode.Mapping, _ known: [String], at place: String, _ path: String)
    throws
  {
    for key in mapping.keys {
      let name = key.string ?? "?"
      if !known.contains(name) {
        throw wrong(path, place + name.prefix(100), "is not known; known here: \(known.joined(separator: ", "))")
      }
    }
  }

  private static func wrong(_ path: String, _ key: String, _ why: String) -> Failure {
    Failure(
      "the configuration \(path) is not right", why: key.isEmpty ? "it \(why)" : "\(key) \(why)",
      next: "correct it, or copy rnx-config.yml anew from the node's /opt/joblet/config")
  }

  /// A node by name.
  public func node(_ name: String) throws -> Node {
    guard let node = nodes[name] else {
      throw Failure(
        "there is no node '\(name)' in \(path)",
        why: "it names \(nodes.keys.sorted().map { "'\($0)'" }.joined(separator: ", "))",
        next: "choose one of them with --node, or add it to the file")
    }
    return node
  }
}
