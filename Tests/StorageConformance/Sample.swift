import JobletModel
import LogStore

/// Numbers that look random and are the same in every run.
struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A line as the job wrote it.
struct SampleLine {
  var seq: UInt64
  var timestamp: Timestamp
  var stream: LogStream
  var isPartial: Bool
  var bytes: [UInt8]

  var json: [UInt8] {
    var encoder = LogLineEncoder()
    bytes.withUnsafeBytes {
      encoder.appendLine(seq: seq, timestamp: timestamp, stream: stream, isPartial: isPartial, line: $0)
    }
    return Array(encoder.bytes)
  }

  func contains(_ text: String) -> Bool {
    let wanted = Array(text.utf8)
    guard bytes.count >= wanted.count else { return false }
    return (0...(bytes.count - wanted.count)).contains { bytes[$0...].starts(with: wanted) }
  }
}

/// A job's output: chunks as they arrive, and the lines in them.
struct Sample {
  var chunks: [LogChunk] = []
  var lines: [SampleLine] = []

  /// Output of both streams with everything that is hard: empty lines, quotes, control characters, bytes that are not
  /// UTF-8, parts of long lines, a clock that runs back.
  init(seed: UInt64, chunks count: Int) {
    var random = SeededNumbers(seed)
    var seq: UInt64 = 1
    var time: Int64 = 1_700_000_000_000_000_000
    for _ in 0..<count {
      time += Int64.random(in: -50_000_000...2_000_000_000, using: &random)
      let stream: LogStream = Bool.random(using: &random) ? .stdout : .stderr
      let isPartial = Int.random(in: 0..<6, using: &random) == 0
      let lineCount = isPartial ? 1 : Int.random(in: 1...40, using: &random)
      let info = LogChunkInfo(
        stream: stream, firstSeq: seq, count: UInt32(lineCount), timestamp: Timestamp(nanoseconds: time),
        isPartial: isPartial)
      var payload: [UInt8] = []
      for _ in 0..<lineCount {
        let bytes = Sample.line(&random)
        lines.append(
          SampleLine(seq: seq, timestamp: info.timestamp, stream: stream, isPartial: isPartial, bytes: bytes))
        payload += isPartial ? bytes : bytes + [0x0A]
        seq += 1
      }
      chunks.append(payload.withUnsafeBytes { LogChunk(info, copying: $0) })
    }
  }

  private static let words = [
    "error", "needle", "GET /v1/items", "a \"quoted\" word", "back\\slash", "tab\there", "cr\r", "grün", "日本語", "\u{1}",
    "stdout", "100%",
  ]

  private static func line(_ random: inout SeededNumbers) -> [UInt8] {
    switch Int.random(in: 0..<12, using: &random) {
    case 0: return []
    case 1:
      return (0..<Int.random(in: 1...60, using: &random)).map { _ in
        let byte = UInt8.random(in: 0...255, using: &random)
        return byte == 0x0A ? 0 : byte
      }
    case 2: return [UInt8](repeating: UInt8(ascii: "x"), count: Int.random(in: 1...5000, using: &random))
    default:
      let picked = (0..<Int.random(in: 1...8, using: &random)).compactMap { _ in words.randomElement(using: &random) }
      return Array(picked.joined(separator: " ").utf8)
    }
  }

  /// Expressions, and what they must find, told without them.
  static let regexes: [(String, @Sendable (SampleLine) -> Bool)] = [
    ("needle", { $0.contains("needle") }),
    ("^error", { $0.bytes.starts(with: Array("error".utf8)) }),
    ("100%$", { $0.bytes.suffix(4).elementsEqual(Array("100%".utf8)) }),
    ("^$", { $0.bytes.isEmpty }),
    ("gr.n", { $0.contains("gr\u{FC}n") }),
    ("\"quoted\"|back\\\\slash", { $0.contains("\"quoted\"") || $0.contains("back\\slash") }),
    ("tab\\there", { $0.contains("tab\there") }),
    ("(?:x{100}){20}", { $0.contains(String(repeating: "x", count: 2000)) }),
    ("\\x{65E5}", { $0.contains("\u{65E5}") }),
    ("no such line", { _ in false }),
  ]

  /// What a query must answer, found the slow way.
  func answer(_ query: LogQuery) -> [UInt8] {
    var found = lines.filter { line in
      line.seq > query.after && line.seq <= query.through ?? .max
        && (query.stream.map { $0 == line.stream.name } ?? true)
        && (query.since.map { line.timestamp >= $0 } ?? true) && (query.until.map { line.timestamp <= $0 } ?? true)
        && (query.filter.map { line.contains($0) } ?? true)
    }
    if let regex = query.regex {
      found = found.filter { line in Sample.regexes.contains { $0.0 == regex && $0.1(line) } }
    }
    if let tail = query.tail { found = Array(found.suffix(tail)) }
    if query.order == .descending { found.reverse() }
    if let offset = query.offset { found = Array(found.dropFirst(offset)) }
    if let limit = query.limit { found = Array(found.prefix(limit)) }
    return found.flatMap(\.json)
  }

  /// A query of random conditions.
  func query(_ job: JobID, _ random: inout SeededNumbers) -> LogQuery {
    var query = LogQuery(job: job)
    func sometimes() -> Bool { Int.random(in: 0..<3, using: &random) == 0 }
    let last = lines.last?.seq ?? 1
    if sometimes() { query.stream = LogStream.allCases.randomElement(using: &random)?.name }
    if sometimes() { query.after = UInt64.random(in: 0...last + 2, using: &random) }
    if sometimes() { query.through = UInt64.random(in: 0...last + 2, using: &random) }
    if sometimes() { query.since = lines.randomElement(using: &random)?.timestamp }
    if sometimes() { query.until = lines.randomElement(using: &random)?.timestamp }
    if sometimes() {
      query.filter = (Sample.words + ["r", "u0", "\\", "x", "nothing at all"]).randomElement(using: &random)
    }
    if sometimes() { query.regex = Sample.regexes.randomElement(using: &random)?.0 }
    if Bool.random(using: &random) { query.order = QueryOrder.allCases.randomElement(using: &random) }
    if sometimes() { query.tail = Int.random(in: 0...80, using: &random) }
    if sometimes() { query.offset = Int.random(in: 0...20, using: &random) }
    if sometimes() { query.limit = Int.random(in: 0...50, using: &random) }
    return query
  }
}
