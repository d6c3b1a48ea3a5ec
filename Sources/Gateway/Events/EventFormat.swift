import JobletModel
import NIOCore

/// How events that are no job's lines are written: as server-sent events, or a JSON object a line.
enum EventFormat: String, Sendable, CaseIterable {
  case sse = "text/event-stream"
  case ndjson = "application/x-ndjson"

  /// Where a client that lost the stream should wait before it comes again; sent once.
  func begin(_ out: inout ByteBuffer) {
    if self == .sse { out.writeStaticString("retry: 2000\n\n") }
  }

  /// - Parameters:
  ///   - id: where a client goes on that has this event.
  ///   - data: JSON without a newline.
  func event(_ name: StaticString, id: EventCursor? = nil, _ data: ByteBuffer, _ out: inout ByteBuffer) {
    switch self {
    case .sse:
      out.writeStaticString("event: ")
      out.writeStaticString(name)
      if let id { out.writeString("\nid: \(id)") }
      out.writeStaticString("\ndata: ")
      out.writeImmutableBuffer(data)
      out.writeStaticString("\n\n")
    case .ndjson:
      out.writeStaticString("{\"")
      out.writeStaticString(name)
      out.writeStaticString("\":")
      out.writeImmutableBuffer(data)
      out.writeStaticString("}\n")
    }
  }

  func event(_ name: StaticString, id: EventCursor? = nil, json: some Encodable, _ out: inout ByteBuffer) {
    event(name, id: id, JSONText.encodeFragment(json), &out)
  }

  /// A comment that keeps proxies and clients from giving up a silent stream. NDJSON has no place for one.
  func heartbeat(_ out: inout ByteBuffer) {
    if self == .sse { out.writeStaticString(": still here\n\n") }
  }

  func reconnect(_ out: inout ByteBuffer) {
    if self == .sse { event("reconnect", json: ["reason": "the gateway is restarting"], &out) }
  }
}
