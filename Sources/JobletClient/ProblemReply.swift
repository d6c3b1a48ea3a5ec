import FoundationEssentials
import HTTPClient
import JobletModel

/// An RFC 9457 document as it stands in a reply; every member may be missing.
private struct ProblemDocument: Decodable {
  var type: String?
  var title: String?
  var detail: String?
  var field: String?
  var status: Int?
  var request_id: String?
  var retry_after: Int?
}

extension JobletError.Refusal {
  static let typePrefix = "urn:joblet:problem:"

  /// Reads a problem that came in the middle of a stream.
  /// - Throws: what makes it unreadable.
  init(event data: [UInt8]) throws {
    let document = try JSONDecoder().decode(ProblemDocument.self, from: Data(data))
    self.init(
      document, status: document.status ?? 500, retryAfter: document.retry_after, requestID: document.request_id)
  }

  /// Reads an error reply: `application/problem+json`, or whatever else came.
  init(_ response: HTTPResponse, body: [UInt8]) {
    let isProblem = response.header("content-type")?.lowercased().hasPrefix("application/problem+json") ?? false
    var document = ProblemDocument()
    if isProblem {
      do {
        document = try JSONDecoder().decode(ProblemDocument.self, from: Data(body))
      } catch {
        document.detail = "the node's error can't be read: \(error)"
      }
    } else {
      // Somebody else's page: a little of it, printable, says most.
      let text = String(decoding: body.prefix(300), as: UTF8.self)
      document.detail = String(text.unicodeScalars.filter { $0.value >= 0x20 || $0 == "\n" }.map { Character($0) })
    }
    self.init(
      document, status: response.status, retryAfter: response.header("retry-after").flatMap { Int($0) },
      requestID: response.header("x-request-id"))
  }

  private init(_ document: ProblemDocument, status: Int, retryAfter: Int?, requestID: String?) {
    self.status = status
    self.retryAfter = retryAfter
    self.requestID = requestID
    if let type = document.type, type.hasPrefix(Self.typePrefix) {
      kind = Problem.Kind(rawValue: String(type.dropFirst(Self.typePrefix.count)))
    }
    title = document.title ?? kind?.title ?? "HTTP status \(status)"
    detail = document.detail ?? ""
    field = document.field
  }
}
