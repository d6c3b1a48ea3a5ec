import FoundationEssentials
import HTTPTypes
import JobletModel
import NIOCore

/// RFC 9457's members in the order people read them; `detail` says what to do.
struct ProblemDocument: Encodable {
  var problem: Problem
  var requestID: String

  enum CodingKeys: String, CodingKey {
    case type, title, status, detail, field
    case requestID = "request_id"
    case retryAfter = "retry_after"
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(problem.kind.type, forKey: .type)
    try container.encode(problem.kind.title, forKey: .title)
    try container.encode(problem.kind.status, forKey: .status)
    try container.encode(problem.detail, forKey: .detail)
    try container.encodeIfPresent(problem.field, forKey: .field)
    try container.encodeIfPresent(problem.retryAfter, forKey: .retryAfter)
    try container.encode(requestID, forKey: .requestID)
  }
}

extension Reply {
  static func problem(_ problem: Problem, requestID: String) -> Reply {
    var problem = problem
    // Whoever refuses for now knows best for how long; where nobody said, a moment.
    if problem.retryAfter == nil, [429, 503].contains(problem.kind.status) { problem.retryAfter = 2 }
    let body = JSONText.encode(ProblemDocument(problem: problem, requestID: requestID))
    var reply = Reply(
      HTTPResponse.Status(code: problem.kind.status), .bytes(body), type: "application/problem+json")
    if let seconds = problem.retryAfter { reply.headers[.retryAfter] = "\(seconds)" }
    // RFC 9110, section 15.5.16: the format that would be understood.
    if problem.kind == .unsupportedMediaType { reply.headers[.accept] = "application/json" }
    // RFC 9110, section 15.5.2, wants a challenge; the answer to this one is another certificate.
    if problem.kind == .unauthenticated { reply.headers[.wwwAuthenticate] = "ClientCertificate realm=\"joblet\"" }
    return reply
  }
}

/// JSON as replies carry it: keys sorted, slashes plain, one newline at the end for people with curl.
enum JSONText {
  static func encode(_ value: some Encodable) -> ByteBuffer { line(encodeFragment(value)) }
  static func encode(_ record: JobRecord) -> ByteBuffer { line(encodeFragment(record)) }

  private static func line(_ fragment: ByteBuffer) -> ByteBuffer {
    var buffer = fragment
    buffer.writeStaticString("\n")
    return buffer
  }

  // Without the newline, to stand inside other JSON.

  static func encodeFragment(_ record: JobRecord) -> ByteBuffer { ByteBuffer(bytes: record.json()) }

  static func encodeFragment(_ value: some Encodable) -> ByteBuffer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      return ByteBuffer(bytes: try encoder.encode(value))
    } catch {
      // The model's types are strings, whole numbers and lists of them: JSON has a form for each.
      preconditionFailure("a reply can't be encoded: \(error)")
    }
  }
}
