/// `rnx-config.yml`: where a node is, and a client's certificate, key and CA as embedded PEM.
public enum ClientConfigFile {
  /// - Parameters:
  ///   - address: `host:port` of the gateway.
  ///   - client: the client's certificate and key.
  ///   - authorityPEM: the CA the client trusts.
  ///   - comment: a line on top that says what the file is for.
  public static func render(address: String, client: Identity, authorityPEM: String, comment: String) -> String {
    var lines = ["# \(comment)", "version: \"3.0\"", "nodes:", "  default:"]
    lines.append("    address: \(YAMLText.quoted(address))")
    for (key, pem) in [("cert", client.certificatePEM), ("key", client.keyPEM), ("ca", authorityPEM)] {
      lines.append("    \(key): |")
      lines += YAMLText.blockLines(pem, indent: "      ")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The address clients on this machine reach the gateway by: a wildcard becomes its loopback address.
  public static func address(_ listen: String, port: Int) -> String {
    let host = listen.hasPrefix("[") && listen.hasSuffix("]") ? String(listen.dropFirst().dropLast()) : listen
    if ServerNames.isWildcard(host) { return host.contains(":") ? "[::1]:\(port)" : "127.0.0.1:\(port)" }
    return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
  }
}
