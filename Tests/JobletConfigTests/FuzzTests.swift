import FoundationEssentials
import JobletConfig
import Testing

/// A small deterministic generator (xorshift64*), so that a failure can be had again.
private struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 2_685_821_657_736_338_717
  }
}

@Suite struct FuzzTests {
  /// Any bytes give a configuration or a ``ConfigurationError`` with words, never a crash, and in bounded time.
  @Test(arguments: 1...4) func `mutated files are read or refused`(seed: UInt64) throws {
    let whole = Array(try String(contentsOfFile: "\(projectFolder)/config/joblet-config.yml", encoding: .utf8).utf8)
    var generator = Generator(state: seed &* 0x9E37_79B9_7F4A_7C15)
    let tokens = [
      "{", "}", "[", "]", ": ", "\n", "  ", "- ", "&a ", "*a", "!!int ", "\"", "'", "|\n", "? ", "<<: *a", "\t",
      "99999999999999999999", "~",
    ]
    var refused = 0
    for _ in 0..<300 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        let at = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...200, using: &generator)))
        case 2: bytes.insert(contentsOf: tokens[Int.random(in: 0..<tokens.count, using: &generator)].utf8, at: at)
        default: bytes.append(contentsOf: bytes[at..<min(bytes.count, at + 400)])
        }
        if bytes.isEmpty { bytes = [0x0a] }
      }
      do {
        _ = try Configuration.parse(String(decoding: bytes, as: UTF8.self), file: "fuzz")
      } catch {
        #expect(error is ConfigurationError)
        #expect("\(error)".hasPrefix("fuzz"))
        refused += 1
      }
    }
    #expect(refused > 50)
  }

  @Test(arguments: ["[", "{a: ", "- ", "? "]) func `deep nesting is refused`(opening: String) {
    #expect(throws: ConfigurationError.self) {
      try Configuration.parse("server: " + String(repeating: opening, count: 20_000), file: "deep")
    }
  }
}
