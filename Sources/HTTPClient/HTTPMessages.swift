/// What is sent.
public struct HTTPRequest: Sendable {
  public var method: String
  /// An absolute `https://` (or `http://`) URL.
  public var url: String
  public var headers: [(name: String, value: String)]
  /// Nil sends none.
  public var body: [UInt8]?
  /// For name lookup, TCP and TLS together.
  public var connectTimeout: Duration
  /// For the whole exchange; nil for a stream that may last.
  public var timeout: Duration?
  /// The longest silence of the server, once connected; a transfer that waits for its own reader does not count. Whole
  /// seconds.
  public var idleTimeout: Duration?

  public init(
    method: String = "GET", url: String, headers: [(name: String, value: String)] = [], body: [UInt8]? = nil,
    connectTimeout: Duration = .seconds(10), timeout: Duration? = nil, idleTimeout: Duration? = nil
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
    self.connectTimeout = connectTimeout
    self.timeout = timeout
    self.idleTimeout = idleTimeout
  }
}

/// What came back: the head at once, the body as it arrives.
public struct HTTPResponse: Sendable {
  public var status: Int
  /// In the order of arrival, names in lower case.
  public var headers: [(name: String, value: String)]
  public var body: HTTPBody

  /// The first value of a header; the name's case does not matter.
  public func header(_ name: String) -> String? {
    let name = name.lowercased()
    return headers.first { $0.name == name }?.value
  }
}

/// Who the client is and whom it trusts: PEM text in memory, never files.
public struct TLSCredentials: Sendable {
  /// The client's certificate and key; nil for none.
  public var certificatePEM: String?
  public var keyPEM: String?
  /// The only CAs trusted. Nil trusts the system's.
  public var authorityPEM: String?

  public init(certificatePEM: String? = nil, keyPEM: String? = nil, authorityPEM: String? = nil) {
    self.certificatePEM = certificatePEM
    self.keyPEM = keyPEM
    self.authorityPEM = authorityPEM
  }
}

/// Why an exchange failed below HTTP; a reply with an error status is no such failure.
public struct HTTPError: Error, Hashable, Sendable, CustomStringConvertible {
  public enum Kind: Sendable, Hashable {
    /// The URL or an option was wrong.
    case badRequest
    case cannotResolve
    case cannotConnect
    case timedOut
    /// The server's certificate was not accepted.
    case serverNotTrusted
    /// Our certificate or key can't be used.
    case badCredentials
    /// Any other TLS failure; the server refusing our certificate among them.
    case tls
    /// The connection ended before the reply did.
    case interrupted
    case other
  }

  public var kind: Kind
  /// libcurl's own words.
  public var message: String

  public init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  public var description: String { message }
}
