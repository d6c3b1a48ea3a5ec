import JobletModel
import LogStore
import Testing

/// Regular expressions over lines' own bytes: what matches, what is refused, what they may cost.
@Suite struct RegexTests {
  static func chunk(_ lines: [[UInt8]]) -> LogChunk {
    let info = LogChunkInfo(
      stream: .stdout, firstSeq: 1, count: UInt32(lines.count), timestamp: Timestamp(nanoseconds: 1), isPartial: false)
    let payload = lines.reduce(into: [UInt8]()) { $0 += $1 + [0x0A] }
    return payload.withUnsafeBytes { LogChunk(info, copying: $0) }
  }

  static func scanner(_ lines: [[UInt8]], _ regex: String, filter: String? = nil) throws -> LogScanner {
    let chunk = chunk(lines)
    return try LogScanner(LogQuery(job: LogStoreConformance.job, stream: .stdout, filter: filter, regex: regex)) {
      [ChunkPages([chunk], range: $1, order: $2)]
    }
  }

  /// The numbers of the lines that match.
  static func matches(_ lines: [[UInt8]], _ regex: String, filter: String? = nil) throws -> [UInt64] {
    let scanner = try scanner(lines, regex, filter: filter)
    var found: [UInt64] = []
    while true {
      switch try scanner.next() {
      case .lines(_, _, let bytes):
        found += bytes.split(separator: 0x0A).compactMap { LogLine(json: Array($0))?.seq }
      case .gap, .working: continue
      case .end: return found
      }
    }
  }

  static func utf8(_ texts: String...) -> [[UInt8]] { texts.map { Array($0.utf8) } }

  @Test func matchesTheLinesOwnText() throws {
    let lines = Self.utf8("a \"b\"", "a b", "tab\there", "back\\slash", "\u{1}x", "gr\u{FC}n")
    #expect(try Self.matches(lines, #""b""#) == [1])
    #expect(try Self.matches(lines, #"\t"#) == [3])
    #expect(try Self.matches(lines, #"k\\s"#) == [4])
    #expect(try Self.matches(lines, #"^\x01x$"#) == [5])
    #expect(try Self.matches(lines, "^gr.n$") == [6])
    // Not JSON's: neither the quotes around the text nor what the record says beside it.
    #expect(try Self.matches(lines, "stdout|seq|u0001").isEmpty)
    #expect(try Self.matches(lines, "(?i)^A", filter: "\"") == [1])
  }

  @Test func bytesThatAreNotUTF8MatchNothingAndBreakNothing() throws {
    let lines: [[UInt8]] = [
      [0xFF, 0xFE], Array("before ".utf8) + [0xFF] + Array(" after".utf8), [0xC3], Array("a".utf8) + [0xC3, 0x28],
      Array("needle".utf8) + [0x80],
    ]
    #expect(try Self.matches(lines, "before") == [2])
    #expect(try Self.matches(lines, "after$") == [2])
    #expect(try Self.matches(lines, "before.*after").isEmpty)
    #expect(try Self.matches(lines, "needle") == [5])
    #expect(try Self.matches(lines, "\\xFF").isEmpty)
  }

  @Test(arguments: ["(", "a{2,1}", "[z-a]", "(?<n>a)(?<n>b)", "\\C", "*a", "\\p{Nonsense}", "(?", "\\"])
  func saysWhatIsWrongWithAPattern(pattern: String) throws {
    let problem = try #require(throws: Problem.self) { try Self.scanner([], pattern) }
    #expect(
      problem.kind == .invalidField && problem.field == "regex" && problem.detail.contains("offset"), "\(problem)")
  }

  @Test func patternsHaveALength() throws {
    _ = try Self.scanner([], String(repeating: "a", count: 4096))
    let problem = try #require(throws: Problem.self) { try Self.scanner([], String(repeating: "a", count: 4097)) }
    #expect(problem.field == "regex")
    #expect(throws: Problem.self) { try Self.scanner([], String(repeating: "(", count: 200)) }
  }

  /// No match within the limits is not the same as no match.
  @Test func aRunawayMatchIsAProblem() throws {
    let lines = [Array(repeating: UInt8(ascii: "a"), count: 60) + [UInt8(ascii: "b")]]
    for pattern in ["^(a+)+$", "(*NO_JIT)^(a+)+$", "^(a|aa)+$", "(*LIMIT_MATCH=100)^(a+)+$"] {
      let problem = try #require(throws: Problem.self, "\(pattern)") { try Self.matches(lines, pattern) }
      #expect(problem.field == "regex" && problem.detail.contains("line 1"))
    }
  }

  /// A pattern can't raise the limits itself.
  @Test func aPatternCantRaiseTheLimits() throws {
    let lines = [Array(repeating: UInt8(ascii: "a"), count: 60) + [UInt8(ascii: "b")]]
    #expect(throws: Problem.self) { try Self.matches(lines, "(*LIMIT_MATCH=4000000000)^(a+)+$") }
  }

  /// Lines that cost much each, but not too much: the work comes in pieces, so that it can be cancelled.
  @Test(arguments: QueryOrder.allCases) func costlyLinesAreMatchedInPieces(order: QueryOrder) throws {
    let line = Array(repeating: UInt8(ascii: "a"), count: 18) + [UInt8(ascii: "b")]
    let chunk = Self.chunk([[UInt8]](repeating: line, count: 100) + [Array("aaa".utf8)])
    let query = LogQuery(job: LogStoreConformance.job, stream: .stdout, regex: "(*NO_JIT)^(a+)+$", order: order)
    let scanner = try LogScanner(query) { [ChunkPages([chunk], range: $1, order: $2)] }
    var pieces = 0
    var lines = 0
    loop: while true {
      switch try scanner.next() {
      case .working: pieces += 1
      case .lines(let seq, let count, _):
        #expect(seq == 101)
        lines += count
      case .gap: Issue.record("a gap")
      case .end: break loop
      }
    }
    #expect(pieces >= 2 && lines == 1)
  }

  @Test func aLongLineFitsTheLimits() throws {
    var long = [UInt8](repeating: UInt8(ascii: "x"), count: 64 << 10)
    long += Array("end".utf8)
    #expect(try Self.matches([long], "x.*end$") == [1])
    #expect(try Self.matches([long], "^(?:x|y)*end") == [1])
    #expect(try Self.matches([long], "(x+)(end)") == [1])
  }

  @Test func fuzzedPatternsNeverTrap() throws {
    var random = SeededNumbers(41)
    let alphabet = Array("ab(|)[]{}*+?.^$\\d,1=!<>:#xPQE\u{E9}".unicodeScalars)
    let lines = Self.utf8("abba", "aab1", "") + [[0xFF, 0x61]]
    for _ in 0..<3000 {
      var pattern = ""
      for _ in 0..<Int.random(in: 1...14, using: &random) {
        pattern.unicodeScalars.append(alphabet.randomElement(using: &random) ?? "a")
      }
      do { _ = try Self.matches(lines, pattern) } catch let problem as Problem { #expect(problem.field == "regex") }
    }
  }
}
