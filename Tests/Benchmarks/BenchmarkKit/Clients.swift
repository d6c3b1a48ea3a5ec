import CBenchmark

/// Many HTTPS clients on one thread, the same for whoever is measured: see `benchmark_tls.h`.
public struct Clients {
  public let port: Int
  private let ca: String
  private let certificate: String
  private let key: String

  public init(port: Int, ca: String, certificate: String, key: String) {
    self.port = port
    self.ca = ca
    self.certificate = certificate
    self.key = key
  }

  /// The same clients for another server with the same certificates.
  public func at(port: Int) -> Clients { Clients(port: port, ca: ca, certificate: certificate, key: key) }

  /// `connections` that each send a request when the last reply has come.
  public func requests(_ path: String, connections: Int, seconds: Double) throws -> benchmark_load {
    try load {
      benchmark_requests($0, Int32(connections), 1, seconds, $1)
    } request: {
      "GET \(path) HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
    }
  }

  /// `connections` that each connect, shake hands in full, get one reply and begin anew.
  public func handshakes(_ path: String, connections: Int, seconds: Double) throws -> benchmark_load {
    try load {
      benchmark_handshakes($0, Int32(connections), seconds, $1)
    } request: {
      "GET \(path) HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    }
  }

  /// `count` connections that follow a stream of events.
  /// - Parameter stalled: they take the head of the reply, and then nothing.
  public func followers(_ path: String, count: Int, stalled: Bool = false) throws -> Followers {
    let request = "GET \(path) HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    return try with(request) { target in
      guard let followers = benchmark_followers_open(target, Int32(count), stalled ? 1 : 0) else { throw failure() }
      return Followers(followers)
    }
  }

  private func load(
    _ body: (UnsafePointer<benchmark_target>, UnsafeMutablePointer<benchmark_load>) -> Int32, request: () -> String
  ) throws -> benchmark_load {
    try with(request()) { target in
      var load = benchmark_load()
      guard body(target, &load) == 0 else { throw failure() }
      return load
    }
  }

  private func with<Result>(_ request: String, _ body: (UnsafePointer<benchmark_target>) throws -> Result) throws
    -> Result
  {
    try "127.0.0.1".withCString { address in
      try ca.withCString { ca in
        try certificate.withCString { certificate in
          try key.withCString { key in
            try request.withCString { request in
              var target = benchmark_target(
                address: address, port: Int32(port), ca: ca, certificate: certificate, key: key, request: request)
              return try body(&target)
            }
          }
        }
      }
    }
  }
}

/// Clients with an open stream.
public final class Followers {
  private let followers: OpaquePointer

  fileprivate init(_ followers: OpaquePointer) { self.followers = followers }
  deinit { benchmark_followers_close(followers) }

  /// Reads what comes for so long.
  /// - Parameter lines: lines are looked at, not only bytes counted.
  public func read(seconds: Double, lines: Bool = true) throws -> benchmark_load {
    var load = benchmark_load()
    guard benchmark_followers_read(followers, seconds, lines ? 1 : 0, &load) == 0 else { throw failure() }
    return load
  }
}

private func failure() -> BenchmarkError { BenchmarkError(String(cString: benchmark_tls_error())) }
