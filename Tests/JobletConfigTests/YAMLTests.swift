import Testing
import YAML

@Suite struct YAMLTests {
  @Test func `a document is a tree with places`() throws {
    let root = try #require(try YAMLNode.parse("a: 1\nb:\n  - x\n  - 'null'\nc:\n  d: |\n    two\n    lines\n"))
    #expect(root["a"]?.string == "1" && root["a"]?.scalar?.isPlain == true)
    #expect(root["b"]?.sequence?.compactMap(\.string) == ["x", "null"])
    #expect(root["b"]?.sequence?.last?.scalar?.isPlain == false)
    #expect(root["b"]?.sequence?.last?.mark == .init(line: 4, column: 5))
    #expect(root["c"]?["d"]?.string == "two\nlines\n" && root["c"]?["d"]?.scalar?.isPlain == false)
    #expect(root.mapping?.keys.compactMap(\.string) == ["a", "b", "c"])
  }

  @Test func `an alias is what it names`() throws {
    let root = try #require(try YAMLNode.parse("a: &x [1, {b: 2}]\nc: *x\n"))
    #expect(root["a"] == root["c"])
  }

  @Test(arguments: ["", "# nothing\n", "---\n# still nothing", "\u{FEFF}"])
  func `what says nothing is nothing`(text: String) throws {
    let root = try YAMLNode.parse(text)
    #expect(root == nil || root?.string == "")
  }

  @Test(arguments: [
    ("a: [", 2), ("a: 1\na: 2", 2), ("{a: 1, a: 2}", 1), ("x: y\nb: *nobody", 2), ("a: 1\n---\nb: 2", 2),
    ("a:\n\t- x", 2),
    ("? [k]\n: 1\n? [k]\n: 2", 3), ("a: 1\n\"a\": 2", 2), ("'a': 1\na: 2", 2), ("'a': 1\n? |-\n  a\n: 2", 2),
    ("&k a: 1\n*k : 2", 2), ("~: 1\n'~': 2", 2), (String(repeating: "[", count: 100), 1),
  ])
  func `what is wrong has its line`(text: String, line: Int) {
    #expect { try YAMLNode.parse(text) } throws: { error in
      (error as? YAMLError)?.mark?.line == line && "\(error)".hasPrefix("line \(line), column ")
    }
  }

  @Test func `aliases can't make much out of little`() {
    // Nine levels of nine: 400 million scalars in 400 bytes.
    var wide = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1..<9 {
      let name = "*a\(level - 1)"
      wide += "a\(level): &a\(level) [\(Array(repeating: name, count: 9).joined(separator: ", "))]\n"
    }
    #expect { try YAMLNode.parse(wide) } throws: { "\($0)".contains("aliases") }
    // And one that is deep instead of wide: each level thirty deeper than the last.
    var deep = "a0: &a0 x\n"
    for level in 1..<10 {
      deep +=
        "a\(level): &a\(level) \(String(repeating: "[", count: 30))*a\(level - 1)\(String(repeating: "]", count: 30))\n"
    }
    #expect { try YAMLNode.parse(deep) } throws: { "\($0)".contains("nested deeper") }
  }

  @Test func `no bytes bring the reader down`() {
    var random = SplitMix(state: 3)
    let pieces = Array("ab:- \n\t[]{},&*!|>'\"%@`#?~\\\u{0}\u{7F}é\u{FEFF}\u{2028}1".unicodeScalars)
    var read = 0
    for _ in 0..<20_000 {
      var text = String.UnicodeScalarView()
      for _ in 0..<Int(random.next() % 40) { text.append(pieces[Int(random.next() % UInt64(pieces.count))]) }
      do { if try YAMLNode.parse(String(text)) != nil { read += 1 } } catch { #expect(!"\(error)".isEmpty) }
    }
    #expect(read > 100)
  }
}

private struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
