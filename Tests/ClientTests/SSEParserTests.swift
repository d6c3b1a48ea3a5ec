import JobletClient
import Testing

@Suite struct SSEParserTests {
  static let stream = """
    \u{FEFF}: welcome
    retry: 1500

    event: log
    id: 1
    data: {"a":1}

    :heartbeat

    id: 2\r
    event:log\r
    data:  two\r
    data\r
    data: three\r
    \r
    event: nothing

    data: unnamed\rid: 7\r\rid: x\0y
    data: last

    event: cut off
    data: never
    """

  static let events = [
    SSEEvent(name: "log", data: Array("{\"a\":1}".utf8), lastID: "1"),
    SSEEvent(name: "log", data: Array(" two\n\nthree".utf8), lastID: "2"),
    SSEEvent(name: "message", data: Array("unnamed".utf8), lastID: "7"),
    SSEEvent(name: "message", data: Array("last".utf8), lastID: "7"),
  ]

  func parse(_ pieces: [[UInt8]]) throws -> (events: [SSEEvent], parser: SSEParser) {
    var parser = SSEParser()
    var events: [SSEEvent] = []
    for piece in pieces { try parser.feed(piece, into: &events) }
    return (events, parser)
  }

  @Test func `a stream in one piece`() throws {
    let (events, parser) = try parse([Array(Self.stream.utf8)])
    #expect(events == Self.events)
    #expect(parser.retryMilliseconds == 1500)
    #expect(parser.lastID == "7")
  }

  @Test func `a stream cut in two anywhere`() throws {
    let bytes = Array(Self.stream.utf8)
    for cut in 0...bytes.count {
      #expect(try parse([Array(bytes[..<cut]), Array(bytes[cut...])]).events == Self.events, "cut at \(cut)")
    }
  }

  @Test func `a stream byte by byte, with empty pieces between`() throws {
    #expect(try parse(Self.stream.utf8.flatMap { [[$0], []] }).events == Self.events)
  }

  @Test func `any pieces give the same events as one, whatever the bytes`() throws {
    var random = SplitMix(seed: 7)
    let alphabet = Array("\n\n\n\r\rdata: eventidretry:1 \0\u{FEFF}é".utf8)
    for _ in 0..<4000 {
      let bytes = (0..<Int(random.next() % 120)).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] }
      var pieces: [[UInt8]] = []
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = Int(random.next() % 9)
        pieces.append(Array(rest.prefix(count)))
        rest = rest.dropFirst(count)
      }
      let whole = try parse([bytes])
      let cut = try parse(pieces)
      #expect(whole.events == cut.events)
      #expect(whole.parser.lastID == cut.parser.lastID)
      #expect(whole.parser.retryMilliseconds == cut.parser.retryMilliseconds)
    }
  }

  @Test func `a line or event without end is refused, not gathered`() throws {
    var parser = SSEParser(limit: 1000)
    var events: [SSEEvent] = []
    #expect(throws: SSEParser.TooLong.self) {
      for _ in 0..<100 { try parser.feed(Array(repeating: 0x61, count: 100), into: &events) }
    }
    var other = SSEParser(limit: 1000)
    #expect(throws: SSEParser.TooLong.self) {
      for _ in 0..<100 { try other.feed(Array("data: 0123456789012345678901234567890123456789\n".utf8), into: &events) }
    }
    #expect(events.isEmpty)
  }
}

/// SplitMix64: the same numbers in every run.
struct SplitMix {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
