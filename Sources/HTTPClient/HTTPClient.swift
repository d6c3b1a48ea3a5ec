/// An HTTP client on libcurl: HTTP/1.1 and HTTP/2, TLS with the credentials it is made with, connections kept for the
/// next request. Replies stream, with back-pressure.
///
/// Its work is done by one thread, which ends with the client; bodies still being read then fail.
public final class HTTPClient: Sendable {
  private let loop: CurlLoop

  /// - Throws: ``HTTPError`` if libcurl or its thread can't be started.
  public init(credentials: TLSCredentials = TLSCredentials()) throws { loop = try CurlLoop(credentials) }

  deinit { loop.post(.stop) }

  /// Sends a request and returns when the reply's head has arrived. Redirects are not followed.
  /// - Throws: ``HTTPError``, or `CancellationError` if the task was cancelled.
  public func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    try Task.checkCancellation()
    let transfer = loop.makeTransfer(request)
    // Made before the start: whatever happens below, dropping it ends the transfer.
    let body = HTTPBody(transfer)
    loop.post(.start(transfer))
    let head = try await transfer.awaitHead()
    return HTTPResponse(status: head.status, headers: head.headers, body: body)
  }
}
