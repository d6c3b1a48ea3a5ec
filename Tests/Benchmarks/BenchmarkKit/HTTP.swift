import CBenchmark

/// One warm connection, used by one thread: see `benchmark_http.h`.
public final class HTTP {
  private let client: OpaquePointer
  private let base: String

  public init(base: String, ca: String? = nil, certificate: String? = nil, key: String? = nil) throws {
    guard let client = benchmark_http_open(ca, certificate, key) else { throw BenchmarkError("libcurl can't start") }
    self.client = client
    self.base = base
  }

  deinit { benchmark_http_close(client) }

  /// Connections made so far.
  public var connections: Int { benchmark_http_connections(client) }

  /// Sends a request and reads its reply whole.
  public func request(
    _ method: String, _ path: String, body: String? = nil, accept: String? = nil
  ) throws -> (status: Int, body: String) {
    let status = benchmark_http_request(client, method, base + path, body, accept)
    guard status >= 0 else {
      throw BenchmarkError("\(method) \(path): libcurl \(-status): \(String(cString: benchmark_http_error(client)))")
    }
    var length = 0
    let bytes = benchmark_http_body(client, &length)
    return (status, String(decoding: UnsafeRawBufferPointer(start: bytes, count: length), as: UTF8.self))
  }

  /// Posts a job; its ID.
  public func post(_ body: String) throws -> String {
    let reply = try request("POST", "/v1/jobs", body: body)
    guard reply.status == 201, let id = stringField("id", in: reply.body) else {
      throw BenchmarkError("POST /v1/jobs: \(reply.status) \(reply.body)")
    }
    return id
  }
}

/// The value of the first `"name":"…"` in a JSON text; enough for IDs and states, which need no unescaping.
public func stringField(_ name: String, in json: String) -> String? {
  let key = "\"\(name)\":"
  guard let range = json.firstRange(of: key) else { return nil }
  let rest = json[range.upperBound...].drop { $0 == " " }
  guard rest.first == "\"" else { return nil }
  return String(rest.dropFirst().prefix { $0 != "\"" })
}

/// The value of the first `"name":number` in a JSON text.
public func numberField(_ name: String, in json: String) -> Int64? {
  guard let range = json.firstRange(of: "\"\(name)\":") else { return nil }
  return Int64(json[range.upperBound...].drop { $0 == " " }.prefix { $0.isNumber })
}
