import CCurl
import CCurlShim

/// A transfer with its libcurl handle, as the loop's thread holds it. Never leaves that thread.
struct ActiveTransfer {
  let easy: UnsafeMutableRawPointer
  private let transfer: Unmanaged<Transfer>
  private let headers: UnsafeMutablePointer<curl_slist>?
  private let errorText: UnsafeMutablePointer<CChar>

  /// Sets a handle up and adds it to the loop.
  static func make(
    _ transfer: Transfer, _ credentials: TLSCredentials, _ multi: UnsafeMutableRawPointer
  ) -> Result<ActiveTransfer, HTTPError> {
    guard let easy = curl_easy_init() else { return .failure(HTTPError(.other, "libcurl has no memory")) }
    let errorText = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    var headers: UnsafeMutablePointer<curl_slist>?
    for (name, value) in transfer.request.headers {
      headers = curl_slist_append(headers, value.isEmpty ? "\(name);" : "\(name): \(value)")
    }
    // libcurl would ask for leave (100 Continue) before a larger body and wait a second for it.
    headers = curl_slist_append(headers, "Expect:")
    // And it would call every POST a form.
    if !transfer.request.headers.contains(where: { $0.name.lowercased() == "content-type" }) {
      headers = curl_slist_append(headers, "Content-Type:")
    }
    let active = ActiveTransfer(
      easy: easy, transfer: .passRetained(transfer), headers: headers, errorText: errorText)
    do {
      try active.configure(transfer.request)
      try active.configure(credentials)
    } catch {
      active.release()
      return .failure(error)
    }
    guard curl_multi_add_handle(multi, easy) == CURLM_OK else {
      active.release()
      return .failure(HTTPError(.other, "libcurl can't take another transfer"))
    }
    return .success(active)
  }

  private func configure(_ request: HTTPRequest) throws(HTTPError) {
    try set(CURLOPT_URL, request.url)
    // No file:, no ldap:, whatever a URL says.
    try set(CURLOPT_PROTOCOLS_STR, "http,https")
    try set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS))
    try set(CURLOPT_NOSIGNAL, 1)
    try set(CURLOPT_TCP_KEEPALIVE, 1)
    try set(CURLOPT_CONNECTTIMEOUT_MS, request.connectTimeout.wholeMilliseconds)
    if let timeout = request.timeout { try set(CURLOPT_TIMEOUT_MS, timeout.wholeMilliseconds) }
    if let idle = request.idleTimeout {
      try set(CURLOPT_LOW_SPEED_LIMIT, 1)
      try set(CURLOPT_LOW_SPEED_TIME, max(1, Int(idle.components.seconds)))
    }
    try check(joblet_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText))
    try check(joblet_curl_set_headers(easy, headers))
    try setBody(request)
    try check(
      joblet_curl_set_receivers(
        easy,
        { bytes, size, count, context in
          guard let bytes, let context else { return 0 }
          Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
            .receive(headerLine: UnsafeRawBufferPointer(start: bytes, count: size * count))
          return size * count
        },
        { bytes, size, count, context in
          guard let bytes, let context else { return 0 }
          let isTaken = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
            .receive(body: UnsafeRawBufferPointer(start: bytes, count: size * count))
          return isTaken ? size * count : Int(CURL_WRITEFUNC_PAUSE)
        },
        transfer.toOpaque()))
  }

  private func setBody(_ request: HTTPRequest) throws(HTTPError) {
    if let body = request.body {
      try set(CURLOPT_POST, 1)
      // The length first: COPYPOSTFIELDS copies so many bytes, and would stop at a NUL without it.
      try set(CURLOPT_POSTFIELDSIZE, body.count)
      try check(
        body.withUnsafeBytes { bytes in
          joblet_curl_set_pointer(
            easy, CURLOPT_COPYPOSTFIELDS,
            UnsafeMutableRawPointer(mutating: bytes.baseAddress ?? UnsafeRawPointer(errorText)))
        })
    } else if request.method == "POST" {
      try set(CURLOPT_POST, 1)
      try set(CURLOPT_POSTFIELDSIZE, 0)
      try check(joblet_curl_set_string(easy, CURLOPT_COPYPOSTFIELDS, ""))
    }
    if request.method == "HEAD" { try set(CURLOPT_NOBODY, 1) }
    if request.method != "GET" && request.method != "POST" && request.method != "HEAD" {
      try set(CURLOPT_CUSTOMREQUEST, request.method)
    }
  }

  private func configure(_ credentials: TLSCredentials) throws(HTTPError) {
    try set(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
    if let authority = credentials.authorityPEM {
      try set(CURLOPT_CAINFO_BLOB, blob: authority)
      // Without this the system's directory of CAs would be trusted beside the one that was given.
      try check(joblet_curl_set_string(easy, CURLOPT_CAPATH, nil))
    }
    if let certificate = credentials.certificatePEM { try set(CURLOPT_SSLCERT_BLOB, blob: certificate) }
    if let key = credentials.keyPEM { try set(CURLOPT_SSLKEY_BLOB, blob: key) }
  }

  private func set(_ option: CURLoption, _ value: Int) throws(HTTPError) {
    try check(joblet_curl_set_long(easy, option, value))
  }

  private func set(_ option: CURLoption, _ value: String) throws(HTTPError) {
    try check(joblet_curl_set_string(easy, option, value))
  }

  private func set(_ option: CURLoption, blob text: String) throws(HTTPError) {
    var text = text
    try check(text.withUTF8 { joblet_curl_set_blob(easy, option, $0.baseAddress, $0.count) })
  }

  private func check(_ code: CURLcode) throws(HTTPError) {
    guard code == CURLE_OK else { throw HTTPError(.badRequest, String(cString: curl_easy_strerror(code))) }
  }

  /// Reads on after a pause. What libcurl kept back is delivered from inside this call.
  func resume() { curl_easy_pause(easy, CURLPAUSE_CONT) }

  /// Takes the handle off the loop and tells the reader how it ended.
  func end(_ code: CURLcode, _ multi: UnsafeMutableRawPointer) {
    end(code == CURLE_OK ? nil : failure(code), multi)
  }

  func end(_ error: (any Error)?, _ multi: UnsafeMutableRawPointer) {
    curl_multi_remove_handle(multi, easy)
    transfer.takeUnretainedValue().finish(error)
    release()
  }

  private func release() {
    curl_easy_cleanup(easy)
    curl_slist_free_all(headers)
    errorText.deallocate()
    transfer.release()
  }

  private func failure(_ code: CURLcode) -> HTTPError {
    let own = String(cString: errorText)
    let message = own.isEmpty ? String(cString: curl_easy_strerror(code)) : own
    let kind: HTTPError.Kind =
      switch code {
      case CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT: .badRequest
      case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .cannotResolve
      case CURLE_COULDNT_CONNECT: .cannotConnect
      case CURLE_OPERATION_TIMEDOUT: .timedOut
      case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR: .serverNotTrusted
      case CURLE_SSL_CERTPROBLEM: .badCredentials
      case CURLE_SSL_CONNECT_ERROR, CURLE_SSL_CIPHER, CURLE_SSL_ENGINE_NOTFOUND: .tls
      // A TLS 1.3 server's refusal of our certificate comes as an alert at the first read, after the handshake.
      case CURLE_RECV_ERROR, CURLE_SEND_ERROR: message.contains("alert") ? .tls : .interrupted
      case CURLE_GOT_NOTHING, CURLE_PARTIAL_FILE, CURLE_HTTP2, CURLE_HTTP2_STREAM: .interrupted
      default: .other
      }
    return HTTPError(kind, message)
  }
}

extension Duration {
  /// At least 1, for libcurl takes 0 as its own default.
  fileprivate var wholeMilliseconds: Int {
    max(1, Int(components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000))
  }
}
