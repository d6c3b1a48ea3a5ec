import JobletModel
import LocalStore
import LogStore
import Testing

/// The format as ``LocalStore/MemberHeader`` documents it, byte by byte.
@Suite struct FormatTests {
  static let job = LocalBench.job

  static let stdout = """
    1F 8B 08 04 00 00 00 00 04 03 54 00 4A 4C 50 00 01 01 03 00 73 44 19 DF AA 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 4E 00 00 00
    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
    AB 56 2A 4E 2D 54 B2 32 D4 51 2A 29 56 B2 52 32 B4 34 37 D0 35 30 04 A2 10 03 03 2B 30 D2 33 80
    02 C3 28 25 1D A5 E2 92 A2 D4 C4 5C A0 CA E2 92 94 FC D2 12 A0 48 4E 66 5E 2A 90 9F 91 A9 54 CB
    05 00 92 EE 78 A4 4E 00 00 00
    """
  static let metrics = """
    1F 8B 08 04 00 00 00 00 04 03 54 00 4A 4C 50 00 01 03 03 00 9C 11 EA 2F 97 00 00 00 00 00 00 00
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 39 00 00 00
    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
    AB 56 2A 4E 2D 54 B2 32 D4 51 2A 29 56 B2 52 32 B4 34 37 D0 35 30 04 A2 10 03 03 2B 30 D2 33 80
    02 C3 28 25 1D A5 82 CC 14 A0 3A C3 5A 2E 00 E9 E5 8F 16 39 00 00 00
    """

  static func bytes(_ hex: String) -> [UInt8] {
    hex.split { $0 == " " || $0 == "\n" }.compactMap { UInt8($0, radix: 16) }
  }

  static func header(_ stream: StoredStream, length: UInt64, json: UInt32) -> MemberHeader {
    MemberHeader(
      stream: stream, memberLength: length, previousLength: 0, skip: 0, index: 0, count: 1, jsonLength: json,
      firstSeq: 1, lastSeq: 1, earliest: Timestamp(nanoseconds: 1), latest: Timestamp(nanoseconds: 1),
      flags: [.inOrderOfTime, .isPlain])
  }

  static let cases: [(StoredStream, String, String)] = [
    (.stdout, stdout, #"{"seq":1,"ts":"1970-01-01T00:00:00.000000001Z","stream":"stdout","line":"hi"}"# + "\n"),
    (.metrics, metrics, #"{"seq":1,"ts":"1970-01-01T00:00:00.000000001Z","pids":1}"# + "\n"),
  ]

  @Test(arguments: cases) func theDocumentedMembersAreReadAndWritten(stream: StoredStream, hex: String, json: String)
    throws
  {
    let bytes = Self.bytes(hex)
    let expected = Self.header(stream, length: UInt64(bytes.count), json: UInt32(json.utf8.count))
    #expect(bytes.withUnsafeBytes { MemberHeader($0) } == expected)
    var encoded = [UInt8](repeating: 0xAA, count: MemberHeader.byteCount)
    encoded.withUnsafeMutableBytes { expected.encode(into: $0) }
    #expect(encoded == Array(bytes.prefix(MemberHeader.byteCount)))

    let bench = LocalBench()
    let store = try bench.open()
    try store.append([Self.chunk(stream, json)], job: Self.job, stream: stream)
    let file = stream == .metrics ? bench.metricsFile : bench.file
    var written = try #require(bench.bytes(file).withUnsafeBytes { MemberHeader($0) })
    written.memberLength = expected.memberLength  // another zlib may make other bytes of it
    #expect(written == expected)

    try bench.write(bytes, to: file)
    #expect(try MetricStreamConformance.read(store.pages(Self.job, stream, LogRange(), .ascending)) == Array(json.utf8))
    #expect(try store.verify(Self.job)?.isSound == true)
  }

  private static func chunk(_ stream: StoredStream, _ json: String) throws -> LogChunk {
    guard stream == .metrics else {
      let info = LogChunkInfo(
        stream: .stdout, firstSeq: 1, count: 1, timestamp: Timestamp(nanoseconds: 1), isPartial: false)
      return Array("hi\n".utf8).withUnsafeBytes { LogChunk(info, copying: $0) }
    }
    return try Array(json.utf8).withUnsafeBytes {
      LogChunk(try StoredChunkInfo(metrics: $0, firstSeq: 1, count: 1), copying: $0)
    }
  }
}
