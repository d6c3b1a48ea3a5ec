/// One event of a stream (WHATWG HTML, "Server-sent events").
public struct SSEEvent: Hashable, Sendable {
  /// `message` where the stream names none.
  public var name: String
  /// The data lines, joined by newlines.
  public var data: [UInt8]
  /// The last `id` seen so far, of this event or an earlier one.
  public var lastID: String?

  public init(name: String, data: [UInt8], lastID: String?) {
    self.name = name
    self.data = data
    self.lastID = lastID
  }
}

/// Cuts a byte stream into events, whatever the pieces it arrives in. It is pure: no clock, no network.
public struct SSEParser: Sendable {
  /// The longest line or event that is taken, in bytes.
  public static let defaultLimit = 4 << 20

  /// A stream whose line or event passes the limit.
  public struct TooLong: Error, Hashable, Sendable, CustomStringConvertible {
    public var limit: Int
    public var description: String { "an event of the stream is longer than \(limit) bytes" }
  }

  /// The server's wish for the pause before a reconnect, in milliseconds.
  public private(set) var retryMilliseconds: Int?
  /// The `id` to resume from.
  public private(set) var lastID: String?

  private let limit: Int
  private var line: [UInt8] = []
  private var data: [UInt8] = []
  private var hasData = false
  private var name = ""
  private var skipsLineFeed = false
  private var isAtStart = true

  public init(limit: Int = SSEParser.defaultLimit) { self.limit = limit }

  /// Takes the next bytes and appends the events they complete.
  /// - Throws: ``TooLong``; the parser is of no use after that.
  public mutating func feed(_ bytes: [UInt8], into events: inout [SSEEvent]) throws(TooLong) {
    var start = 0
    var index = 0
    // A line ends with LF, CR or CRLF; a CRLF may be cut in two by the pieces.
    if skipsLineFeed, let first = bytes.first {
      skipsLineFeed = false
      if first == 0x0A {
        start = 1
        index = 1
      }
    }
    while index < bytes.count {
      let byte = bytes[index]
      guard byte == 0x0A || byte == 0x0D else {
        index += 1
        continue
      }
      if line.isEmpty {
        try take(bytes[start..<index], into: &events)
      } else {
        line += bytes[start..<index]
        let whole = line
        line.removeAll(keepingCapacity: true)
        try take(whole[...], into: &events)
      }
      index += 1
      if byte == 0x0D {
        if index < bytes.count {
          if bytes[index] == 0x0A { index += 1 }
        } else {
          skipsLineFeed = true
        }
      }
      start = index
    }
    line += bytes[start...]
    if line.count > limit { throw TooLong(limit: limit) }
  }

  private mutating func take(_ piece: ArraySlice<UInt8>, into events: inout [SSEEvent]) throws(TooLong) {
    var line = piece
    if isAtStart {
      isAtStart = false
      if line.starts(with: [0xEF, 0xBB, 0xBF]) { line = line.dropFirst(3) }
    }
    guard let first = line.first else {
      dispatch(into: &events)
      return
    }
    if first == UInt8(ascii: ":") { return }  // a comment: the heartbeat
    let colon = line.firstIndex(of: UInt8(ascii: ":"))
    let field = line[..<(colon ?? line.endIndex)]
    var value = colon.map { line[($0 + 1)...] } ?? []
    if value.first == UInt8(ascii: " ") { value = value.dropFirst() }
    if field.elementsEqual("data".utf8) {
      if hasData { data.append(0x0A) }
      hasData = true
      data += value
      if data.count > limit { throw TooLong(limit: limit) }
    } else if field.elementsEqual("event".utf8) {
      name = String(decoding: value, as: UTF8.self)
    } else if field.elementsEqual("id".utf8) {
      if !value.contains(0) { lastID = String(decoding: value, as: UTF8.self) }
    } else if field.elementsEqual("retry".utf8) {
      let text = String(decoding: value, as: UTF8.self)
      if !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }), let wish = Int(text) {
        retryMilliseconds = wish
      }
    }
  }

  /// An empty line: what was gathered is an event, unless it has no data.
  private mutating func dispatch(into events: inout [SSEEvent]) {
    defer {
      name = ""
      data = []
      hasData = false
    }
    guard hasData else { return }
    events.append(SSEEvent(name: name.isEmpty ? "message" : name, data: data, lastID: lastID))
  }
}
