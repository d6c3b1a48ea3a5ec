import FoundationEssentials
import HTTPClient
import JobletModel

/// An RFC 9457 document as it stands in a reply; every member may be missing.
private struct ProblemDocument: Decodable {
  var type: String?
  var title: String?
  var detail: String?
  var field: String?
}

extension JobletError.Refusal {
  static let typePrefix = "urn:joblet:problem:"

  /// Reads an error reply: `application/problem+json`, or whatever else came.
  init(_ response: HTTPResponse, body: [UInt8]) {
    status = response.status
    requestID = response.header("x-request-id")
    retryAfter = response.header("retry-after").flatMap { Int($0) }
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
    if let type = document.type, type.hasPrefix(Self.typePrefix) {
      kind = Problem.Kind(rawValue: String(type.dropFirst(Self.typePrefix.count)))
    }
    title = document.title ?? kind?.title ?? "HTTP status \(response.status)"
    detail = document.detail ?? ""
    field = document.field
  }
}
