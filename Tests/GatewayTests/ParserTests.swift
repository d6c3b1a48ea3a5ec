import Gateway
import JobletModel
import NIOCore
import Testing

/// A small deterministic generator (the constants are Knuth's MMIX).
struct Seeded {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }
}

@Suite struct ParserTests {
  @Test func targetsAreDecodedOnce() throws {
    let target = try RequestTarget("/v1/jobs/a%2Fb%25?x=1+2&y=%2B&z")
    #expect(target.segments == ["v1", "jobs", "a/b%"])
    #expect(target.query.map(\.name) == ["x", "y", "z"])
    #expect(target.query.map(\.value) == ["1 2", "+", ""])
    #expect(try RequestTarget("/").segments == [""])
  }

  @Test(arguments: [
    "", "*", "http://x/", "/a/../b", "/%2e%2e/b", "/a/%00", "/a%", "/a%4", "/a%4g", "/%ff", "/a?b=%c3", "/a?b=1&b=2",
  ])
  func badTargetsAreRefused(_ text: String) {
    #expect(throws: Problem.self) { try RequestTarget(text) }
  }

  @Test func targetsOfAnyBytesAreReadOrRefused() {
    var random = Seeded(state: 20_261_121)
    let seeds = ["/v1/jobs?status=RUNNING&limit=10", "/v1/jobs/019aa5f0-4e7b-7c31-9d2e-5f3a00000001/logs?follow=true"]
    for round in 0..<100_000 {
      var bytes = Array(seeds[round % 2].utf8)
      for _ in 0...(random.next() % 5) {
        let index = Int(random.next()) % bytes.count
        switch random.next() % 3 {
        case 0: bytes[index] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.insert(UInt8(ascii: "%"), at: index)
        default: bytes.removeSubrange(index..<min(bytes.count, index + Int(random.next() % 8)))
        }
        if bytes.isEmpty { bytes = [0x2F] }
      }
      guard let target = try? RequestTarget(String(decoding: bytes, as: UTF8.self)) else { continue }
      #expect(!target.segments.contains(".."))
      #expect(target.segments.allSatisfy { !$0.utf8.contains(0) })
      _ = try? LogParameters(target, lastEventID: target.segments.last)
    }
  }

  /// Whatever a client writes there: it is a set of parameters that hold, or a problem that names one of them.
  @Test func parametersOfAnyBytesAreReadOrRefused() {
    var random = Seeded(state: 20_261_122)
    let names = LogParameters.names + MetricParameters.names + ["", "x"]
    let values = [
      "true", "0", "1", "stdout", "asc", "desc", "avg", "p95", "1m", "1h", "now", "10", "1795309200.5", "-1",
      "2026-11-22T01:00:00Z", "99999999999999999999", "9223372036854775807", "9223372036854775807d", "(a|b)*", "%00",
      "é",
    ]
    var (read, refused) = (0, 0)
    for round in 0..<100_000 {
      var query = ""
      for _ in 0...(random.next() % 4) {
        var value = Array(values[Int(random.next()) % values.count].utf8)
        if random.next() % 3 == 0 {
          value[Int(random.next()) % value.count] = UInt8(truncatingIfNeeded: random.next())
        }
        query +=
          (query.isEmpty ? "?" : "&") + names[Int(random.next()) % names.count] + "="
          + String(decoding: value, as: UTF8.self)
      }
      let header = random.next() % 4 == 0 ? values[Int(random.next()) % values.count] : nil
      do {
        let target = try RequestTarget("/v1/jobs/x/\(query)")
        if round % 2 == 0 {
          let parameters = try LogParameters(target, lastEventID: header)
          #expect(!parameters.follow || parameters.limit == nil && parameters.until == nil && parameters.offset == nil)
          #expect(!parameters.follow || parameters.order == .ascending)
          #expect(parameters.regex?.isEmpty != true && parameters.filter?.isEmpty != true)
        } else {
          let parameters = try MetricParameters(target, lastEventID: header)
          #expect(!parameters.follow || !parameters.needsStore)
          #expect(parameters.interval == nil || parameters.aggregate != nil)
          if let interval = parameters.interval { #expect(MetricParameters.intervalRange.contains(interval)) }
        }
        read += 1
      } catch {
        // A target that is none at all has no field to name.
        #expect(error.kind == .badRequest || error.field != nil)
        refused += 1
      }
    }
    #expect(read > 1000 && refused > 1000)
  }

  @Test(
    arguments: [
      (nil, "application/json"), ("*/*", "application/json"), ("application/*", "application/json"),
      ("text/event-stream", "text/event-stream"), ("text/html, text/event-stream;q=0.5", "text/event-stream"),
      ("application/json;q=0.1, text/*;q=0.2", "text/event-stream"), ("text/html", nil), ("*/*;q=0", nil),
      ("application/json;q=0, */*", "text/event-stream"), ("", "application/json"), (";;,,/", nil),
      ("APPLICATION/JSON", "application/json"),
    ] as [(String?, String?)])
  func acceptIsNegotiated(_ header: String?, _ choice: String?) {
    #expect(AcceptHeader.choose(header, from: ["application/json", "text/event-stream"]) == choice)
  }

  @Test(
    arguments: [
      ("{", .broken(at: 1, "a field's name in quotes is expected")),
      ("", .broken(at: 0, "it ends where a value is expected")),
      (#"{"a":}"#, .broken(at: 5, "a value is expected")),
      (#"{"a":1,}"#, .broken(at: 7, "a field's name in quotes is expected")),
      (#"{"a":1} x"#, .broken(at: 8, "something follows the value")),
      ("[1 2]", .broken(at: 3, "',' or ']' is expected")),
      (#"["a"#, .broken(at: 3, "a string has no end")), ("nul", .broken(at: 0, "a value is expected")),
      (#"{"a":{"b":[0,1.5]}}"#, .notWhole(field: "a.b.[1]", number: "1.5")),
      ("9999999999999999999", .notWhole(field: "", number: "9999999999999999999")),
      ("1e--", .broken(at: 0, "'1e--' is no number")), (#" {"a":[true,false,null,-3,"\"x"]} "#, nil),
    ] as [(String, JSONScanner.Finding?)])
  func whatIsWrongWithJSONIsFound(_ text: String, _ finding: JSONScanner.Finding?) {
    #expect(JSONScanner.firstFinding(in: Array(text.utf8)) == finding)
  }

  @Test func anyBytesAreJSONOrNot() {
    var random = Seeded(state: 41)
    let seed = Array(#"{"command":"x","args":["a\u00e9"],"limits":{"pids":32},"merge":true,"name":null}"#.utf8)
    for _ in 0..<50_000 {
      var bytes = seed
      for _ in 0...(random.next() % 4) {
        bytes[Int(random.next()) % bytes.count] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.next() % 4 == 0 { bytes.removeLast(Int(random.next()) % bytes.count) }
      if case .broken(let offset, _) = JSONScanner.firstFinding(in: bytes) { #expect(offset <= bytes.count + 1) }
    }
    #expect(JSONScanner.firstFinding(in: [UInt8](repeating: UInt8(ascii: "["), count: 1_000_000)) != nil)
  }

  /// Text made of a line's JSON is the line, for any bytes.
  @Test func anyLineComesBackFromItsJSON() {
    var random = Seeded(state: 7)
    var encoder = LogLineEncoder()
    for round in 0..<20_000 {
      let isUTF8 = round % 3 != 0
      let length = Int(random.next() % 90)
      let bytes: [UInt8] =
        isUTF8
        ? Array(String((0..<length).map { _ in Character(Unicode.Scalar(UInt32(random.next() % 0x1FF)) ?? "x") }).utf8)
        : (0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let isPartial = random.next() % 4 == 0
      encoder.removeAll()
      bytes.withUnsafeBytes { line in
        encoder.appendLine(
          seq: random.next(), timestamp: .now(), stream: round % 2 == 0 ? .stdout : .stderr, isPartial: isPartial,
          line: line)
      }
      let text = [UInt8](unsafeUninitializedCapacity: encoder.count) { out, count in
        let json = UnsafeRawBufferPointer(rebasing: encoder.bytes.dropLast())
        count = StoredLine(json)?.writeText(to: UnsafeMutableRawBufferPointer(out)) ?? 0
      }
      #expect(text == bytes + (isPartial ? [] : [0x0A]))
    }
  }

  @Test func brokenLinesAreRefusedAndNothingElseHappens() {
    var random = Seeded(state: 99)
    var encoder = LogLineEncoder()
    Array("a \"line\" with\tescapes \u{1}".utf8).withUnsafeBytes { line in
      encoder.appendLine(seq: 1234, timestamp: .now(), stream: .stdout, isPartial: true, line: line)
    }
    let good = [UInt8](encoder.bytes.dropLast())
    for _ in 0..<100_000 {
      var bytes = good
      for _ in 0...(random.next() % 4) {
        bytes[Int(random.next()) % bytes.count] = UInt8(truncatingIfNeeded: random.next())
      }
      if random.next() % 3 == 0 { bytes.removeLast(Int(random.next()) % bytes.count) }
      bytes.withUnsafeBytes { raw in
        guard let line = StoredLine(raw) else { return }
        withUnsafeTemporaryAllocation(byteCount: line.maxTextLength, alignment: 1) { out in
          if let count = line.writeText(to: out) { #expect(count <= line.maxTextLength) }
        }
      }
    }
  }
}

@Suite struct LogFormatterTests {
  static func chunk(_ first: UInt64, _ text: String, stream: LogStream = .stdout) -> (LogChunkInfo, ByteBuffer) {
    let isPartial = !text.hasSuffix("\n")
    let count = isPartial ? 1 : text.utf8.count { $0 == 0x0A }
    return (
      LogChunkInfo(
        stream: stream, firstSeq: first, count: UInt32(count), timestamp: FakePersist.time, isPartial: isPartial),
      ByteBuffer(string: text)
    )
  }

  static func format(
    _ format: StreamFormat, _ change: (inout LogParameters) -> Void = { _ in }, _ chunks: [(LogChunkInfo, ByteBuffer)]
  ) -> String {
    var parameters = LogParameters()
    change(&parameters)
    var formatter = LogFormatter(format, parameters)
    for (info, payload) in chunks { formatter.append(live: info, payload: payload) }
    return String(buffer: formatter.out)
  }

  @Test func sseFramesEachLine() {
    let text = Self.format(.sse, [Self.chunk(9, "a\nb\n")].map { $0 }, after: 8)
    let time = "\(FakePersist.time)"
    #expect(
      text == """
        event: log
        id: 9
        data: {"seq":9,"ts":"\(time)","stream":"stdout","line":"a"}

        event: log
        id: 10
        data: {"seq":10,"ts":"\(time)","stream":"stdout","line":"b"}


        """)
  }

  static func format(_ format: StreamFormat, _ chunks: [(LogChunkInfo, ByteBuffer)], after: UInt64) -> String {
    Self.format(format, { $0.after = after }, chunks)
  }

  @Test func aChunkThatBeginsBeforeTheCursorIsCut() {
    #expect(Self.format(.text, [Self.chunk(1, "a\nb\nc\n")], after: 2) == "c\n")
    #expect(Self.format(.text, [Self.chunk(1, "a\nb\nc\n"), Self.chunk(2, "b\nc\nd\n")], after: 0) == "a\nb\nc\nd\n")
    #expect(
      Self.format(.sse, [Self.chunk(1, "a\nb\n"), Self.chunk(1, "a\nb\n")], after: 0).split(separator: "id: ").count
        == 3)
  }

  @Test func linesAreChosen() {
    let chunks = [Self.chunk(1, "ab\nxx\nabab\n"), Self.chunk(4, "err ab\n", stream: .stderr), Self.chunk(5, "a")]
    #expect(Self.format(.text, { $0.filter = "ab" }, chunks) == "ab\nabab\nerr ab\n")
    #expect(Self.format(.text, { $0.stream = .stderr }, chunks) == "err ab\n")
    #expect(Self.format(.text, { $0.limit = 2 }, chunks) == "ab\nxx\n")
    #expect(Self.format(.text, { $0.since = .now() }, chunks) == "")
    #expect(Self.format(.text, { $0.filter = "aba" }, chunks) == "abab\n")
    #expect(
      Self.format(
        .ndjson,
        {
          $0.filter = "ab"; $0.limit = 1
        }, chunks
      ).split(separator: "\n").count == 1)
  }

  /// A reply is made in pieces, for an empty line is a hundred times as long as an event: together they are what it would be in one.
  @Test(arguments: StreamFormat.allCases, ["", "1"])
  func aChunkIsTakenInPieces(_ format: StreamFormat, _ filter: String) {
    let lines = (1...2000).map { $0 % 3 == 0 ? "" : "\($0)" }
    let chunks = [
      Self.chunk(1, lines[..<1500].map { $0 + "\n" }.joined()), Self.chunk(1501, "1 and no newline"),
      Self.chunk(1502, lines[1500...].map { $0 + "\n" }.joined()),
    ]
    let whole = Self.format(format, { $0.filter = filter.isEmpty ? nil : filter }, chunks)
    for room in [1, 500, 4096] {
      var parameters = LogParameters()
      parameters.filter = filter.isEmpty ? nil : filter
      var formatter = LogFormatter(format, parameters)
      var text = ""
      for (info, payload) in chunks {
        var isTaken = false
        while !isTaken {
          isTaken = formatter.append(live: info, payload: payload, upTo: room)
          let piece = String(buffer: formatter.out)
          // One line may go beyond it.
          #expect(piece.utf8.count < room + 200)
          #expect(isTaken || !piece.isEmpty, "it goes on")
          guard isTaken || !piece.isEmpty else { return }
          text += piece
          formatter.out = ByteBuffer()
        }
      }
      #expect(text == whole, "room for \(room)")
    }
  }

  @Test func whatIsMissingBetweenChunksIsSaid() {
    #expect(
      Self.format(.ndjson, [Self.chunk(1, "a\n"), Self.chunk(5, "b\n")], after: 0).contains(
        #"{"gap":{"from":2,"to":4}}"#))
    // Where lines were chosen, a missing number means nothing.
    #expect(!Self.format(.ndjson, { $0.filter = "a" }, [Self.chunk(1, "a\n"), Self.chunk(5, "a\n")]).contains("gap"))
  }
}
