import HTTPClient

/// Where a node is and who we are to it.
public struct Endpoint: Sendable {
  /// Without a slash at the end: `https://node1:50051`.
  public var baseURL: String
  public var credentials: TLSCredentials

  public init(baseURL: String, credentials: TLSCredentials) {
    self.baseURL = baseURL
    self.credentials = credentials
  }

  /// - Parameter address: `host:port`; the node is spoken to over TLS.
  public init(address: String, certificatePEM: String, keyPEM: String, authorityPEM: String) {
    baseURL = "https://\(address)"
    credentials = TLSCredentials(certificatePEM: certificatePEM, keyPEM: keyPEM, authorityPEM: authorityPEM)
  }
}

/// Builds the query part of a URL.
struct URLQuery {
  private(set) var text = ""

  /// Adds `name=value`; nil adds nothing.
  mutating func add(_ name: String, _ value: String?) {
    guard let value else { return }
    text += (text.isEmpty ? "?" : "&") + name + "=" + URLQuery.encoded(value)
  }

  /// Percent-encoding of everything but RFC 3986's unreserved characters.
  static func encoded(_ value: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var out: [UInt8] = []
    for byte in value.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        out.append(byte)
      default: out += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
