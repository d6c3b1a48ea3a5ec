import JobletModel
import NIOCore

/// How a job's records, log lines or samples, are written to a client; and what is written that is no record.
public enum StreamFormat: String, Sendable, CaseIterable {
  case text = "text/plain"
  case ndjson = "application/x-ndjson"
  case sse = "text/event-stream"

  /// The media type with its charset where that is not implied.
  var contentType: String { self == .text ? "text/plain; charset=utf-8" : rawValue }

  /// Where a client that lost the stream should wait before it comes again; sent once.
  func begin(_ out: inout ByteBuffer) {
    if self == .sse { out.writeStaticString("retry: 2000\n\n") }
  }

  /// A comment that keeps proxies and clients from giving up a silent stream. The other formats have no place for one.
  func heartbeat(_ out: inout ByteBuffer) {
    if self == .sse { out.writeStaticString(": still here\n\n") }
  }

  /// Records that are lost for good. In plain text it is said in a line of our own, since there is no other place for it.
  /// - Parameter what: what the text calls them, `lines` or `samples`, with what they are of.
  func gap(_ missing: ClosedRange<UInt64>, of what: (records: String, whole: String), _ out: inout ByteBuffer) {
    let (first, last) = (missing.lowerBound, missing.upperBound)
    switch self {
    case .sse: out.writeString("event: gap\ndata: {\"from\":\(first),\"to\":\(last)}\n\n")
    case .ndjson: out.writeString("{\"gap\":{\"from\":\(first),\"to\":\(last)}}\n")
    case .text: out.writeString("[joblet: \(what.records) \(first) to \(last) of the \(what.whole) are missing]\n")
    }
  }

  /// The one terminal event. Plain text has none: its end is the body's; NDJSON has it where it was followed, so that a
  /// query's lines are those of the stored file and no other.
  func end(_ end: JobEnd, isFollowed: Bool, _ out: inout ByteBuffer) {
    switch self {
    case .sse:
      out.writeStaticString("event: end\ndata: ")
      out.writeImmutableBuffer(JSONText.encodeFragment(end))
      out.writeStaticString("\n\n")
    case .ndjson:
      guard isFollowed else { return }
      out.writeStaticString("{\"end\":")
      out.writeImmutableBuffer(JSONText.encodeFragment(end))
      out.writeStaticString("}\n")
    case .text: break
    }
  }

  /// Why the stream breaks off here, where its head has gone out already. Plain text has no place for it: there the missing
  /// end of the body is all that says so.
  func problem(_ problem: Problem, requestID: String, _ out: inout ByteBuffer) {
    let document = JSONText.encodeFragment(ProblemDocument(problem: problem, requestID: requestID))
    switch self {
    case .sse:
      out.writeStaticString("event: problem\ndata: ")
      out.writeImmutableBuffer(document)
      out.writeStaticString("\n\n")
    case .ndjson:
      out.writeStaticString("{\"problem\":")
      out.writeImmutableBuffer(document)
      out.writeStaticString("}\n")
    case .text: break
    }
  }

  func reconnect(_ out: inout ByteBuffer) {
    if self == .sse {
      out.writeStaticString("event: reconnect\ndata: {\"reason\":\"the gateway is restarting\"}\n\n")
    }
  }
}
