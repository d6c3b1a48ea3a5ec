import HTTPClient
import JobletModel

/// Cuts server-sent events out of bytes, as a browser would.
struct EventParser {
  struct Event: Hashable, Sendable {
    var name: String
    var id: String?
    var data: String
  }

  private var buffer: [UInt8] = []
  private(set) var comments = 0
  private(set) var retry: String?

  mutating func feed(_ bytes: [UInt8]) -> [Event] {
    buffer += bytes
    var events: [Event] = []
    while let block = takeBlock() { if let event = parse(block) { events.append(event) } }
    return events
  }

  private mutating func takeBlock() -> [Substring]? {
    guard let end = buffer.indices.dropLast().first(where: { buffer[$0] == 0x0A && buffer[$0 + 1] == 0x0A }) else {
      return nil
    }
    let text = String(decoding: buffer[..<end], as: UTF8.self)
    buffer.removeSubrange(...(end + 1))
    return text.split(separator: "\n")
  }

  private mutating func parse(_ lines: [Substring]) -> Event? {
    var event = Event(name: "message", data: "")
    for line in lines {
      if line.hasPrefix(":") { comments += 1 }
      if line.hasPrefix("retry: ") { retry = String(line.dropFirst(7)) }
      if line.hasPrefix("event: ") { event.name = String(line.dropFirst(7)) }
      if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
      if line.hasPrefix("data: ") { event.data = String(line.dropFirst(6)) }
    }
    return event.data.isEmpty ? nil : event
  }
}

/// Reads server-sent events from a body.
struct EventReader {
  typealias Event = EventParser.Event

  private let reply: OpenReply
  private var iterator: HTTPBody.AsyncIterator
  private var parser = EventParser()
  private var ready: ArraySlice<Event> = []
  var comments: Int { parser.comments }
  var retry: String? { parser.retry }

  init(_ reply: OpenReply) {
    self.reply = reply
    iterator = reply.body.makeAsyncIterator()
  }

  /// The next event; nil at the stream's end.
  mutating func next() async throws -> Event? {
    while ready.isEmpty {
      guard let more = try await iterator.next() else { return nil }
      ready = parser.feed(more)[...]
    }
    return ready.popFirst()
  }

  mutating func all() async throws -> [Event] {
    var events: [Event] = []
    while let event = try await next() { events.append(event) }
    return events
  }
}

/// A reply that is being read, and the client it needs for as long.
struct OpenReply: Sendable {
  let client: HTTPClient
  let response: HTTPResponse
  var status: Int { response.status }
  var body: HTTPBody { response.body }
  func header(_ name: String) -> String? { response.header(name) }
}

extension Fixture {
  /// Opens a log and returns when its head is here.
  func open(_ path: String, accept: String = "text/event-stream", role: Role = .reader, after: String? = nil)
    async throws -> OpenReply
  {
    var headers = [(name: "Accept", value: accept)]
    if let after { headers.append((name: "Last-Event-ID", value: after)) }
    let client = try client(role)
    let response = try await client.send(
      HTTPRequest(url: "https://127.0.0.1:\(port)\(path)", headers: headers, timeout: .seconds(60)))
    return OpenReply(client: client, response: response)
  }
}
