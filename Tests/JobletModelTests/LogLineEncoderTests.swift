import FoundationEssentials
import JobletModel
import Testing

@Suite struct LogLineEncoderTests {
  static let time = Timestamp(nanoseconds: 1_795_292_155_123_456_789)

  struct Line: Decodable {
    var seq: UInt64
    var ts: String
    var stream: String
    var line: String?
    var b64: String?
    var partial: Bool?
    var bytes: [UInt8] { line.map { Array($0.utf8) } ?? b64.flatMap { Data(base64Encoded: $0) }.map(Array.init) ?? [] }
  }

  static func encode(_ info: LogChunkInfo, _ payload: [UInt8], after: UInt64 = 0) -> [UInt8] {
    var encoder = LogLineEncoder(capacity: 1)
    payload.withUnsafeBytes { _ = encoder.append(info, payload: $0, after: after) }
    return Array(encoder.bytes)
  }

  static func decode(_ bytes: [UInt8]) throws -> [Line] {
    try bytes.split(separator: 0x0A).map { try JSONDecoder().decode(Line.self, from: Data($0)) }
  }

  @Test func isExactlyTheDocumentedForm() {
    let info = LogChunkInfo(stream: .stdout, firstSeq: 17, count: 2, timestamp: Self.time, isPartial: false)
    let text = String(decoding: Self.encode(info, Array("a\"b\\c\té\n\u{1}\n".utf8)), as: UTF8.self)
    #expect(
      text == """
        {"seq":17,"ts":"2026-11-21T20:15:55.123456789Z","stream":"stdout","line":"a\\"b\\\\c\\té"}
        {"seq":18,"ts":"2026-11-21T20:15:55.123456789Z","stream":"stdout","line":"\\u0001"}

        """)
  }

  @Test(arguments: [
    [UInt8](), Array("plain".utf8), [0], [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
    [0xE2, 0x82],
    Array("€ and 🎉 and \r progress\r".utf8), Array(repeating: 0x80, count: 70_000),
    Array(repeating: 0x01, count: 65_536),
    Array("12345678\u{7F}".utf8),
  ])
  func roundTripsEveryByte(line: [UInt8]) throws {
    for isPartial in [false, true] {
      let info = LogChunkInfo(stream: .stderr, firstSeq: 1, count: 1, timestamp: Self.time, isPartial: isPartial)
      let lines = try Self.decode(Self.encode(info, isPartial ? line : line + [0x0A]))
      #expect(lines.map(\.bytes) == [line])
      #expect(lines.first?.partial == (isPartial ? true : nil))
      #expect(lines.first?.stream == "stderr")
      let back = try #require(LogLine(json: Self.encode(info, isPartial ? line : line + [0x0A])))
      #expect(back.bytes == line && back.isPartial == isPartial && back.stream == .stderr && back.seq == 1)
      #expect(back.timestamp == Self.time.description)
    }
  }

  @Test func randomChunksRoundTrip() throws {
    var random = SplitMix(state: 42)
    for _ in 0..<2000 {
      let lines = (0..<Int(random.next() % 5 + 1)).map { _ in
        (0..<Int(random.next() % 40)).map { _ in
          let byte = UInt8(truncatingIfNeeded: random.next() % (random.next() % 2 == 0 ? 128 : 256))
          return byte == 0x0A ? 0x20 : byte
        }
      }
      let info = LogChunkInfo(
        stream: .stdout, firstSeq: 5, count: UInt32(lines.count), timestamp: Self.time, isPartial: false)
      let decoded = try Self.decode(Self.encode(info, lines.flatMap { $0 + [0x0A] }))
      #expect(decoded.map(\.bytes) == lines)
      #expect(decoded.map(\.seq) == lines.indices.map { UInt64($0) + 5 })
    }
  }

  @Test func theDecoderSurvivesAnything() {
    let info = LogChunkInfo(stream: .stdout, firstSeq: 9, count: 1, timestamp: Self.time, isPartial: true)
    let valid = [Self.encode(info, Array("a\u{1}\"é".utf8)), Self.encode(info, [0xFF, 0xFE, 0x00])]
    var random = SplitMix(state: 3)
    for round in 0..<50_000 {
      var bytes = valid[round % 2]
      for _ in 0...random.next() % 4 {
        bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
      }
      bytes.removeLast(Int(random.next() % 8) == 0 ? Int(random.next() % UInt64(bytes.count)) : 0)
      _ = LogLine(json: bytes)
    }
  }

  @Test func leavesOutWhatWasSeen() throws {
    let info = LogChunkInfo(stream: .stdout, firstSeq: 10, count: 3, timestamp: Self.time, isPartial: false)
    #expect(try Self.decode(Self.encode(info, Array("a\nb\nc\n".utf8), after: 11)).map(\.seq) == [12])
  }
}

/// A small seeded generator (splitmix64), so that every run tests the same cases.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
