import JobletModel
import Testing

@Suite struct CPUListTests {
  @Test(arguments: [
    ("0", [0], "0"), ("0-3,6", [0, 1, 2, 3, 6], "0-3,6"), ("6,0-3", [0, 1, 2, 3, 6], "0-3,6"),
    ("1,2,3", [1, 2, 3], "1-3"),
    ("5-5", [5], "5"), ("8191", [8191], "8191"), ("0007", [7], "7"),
  ])
  func reads(text: String, cpus: [Int], shortest: String) throws {
    let list = try CPUList(text)
    #expect(list.cpus == cpus)
    #expect(list.description == shortest)
    #expect(try CPUList(list.description) == list)
  }

  @Test(arguments: [
    ("", "empty"), ("a", "'a'"), ("-1", "'-1'"), ("1-", "'1-'"), ("1--2", "'1--2'"), (",", "''"), ("1,", "''"),
    ("1, 2", "' 2'"),
    ("0-3,2", "CPU 2 twice"), ("1,1", "CPU 1 twice"), ("6-0", "reversed range '6-0'"), ("8192", "'8192'"),
    ("0-4294967296", "'0-4294967296'"), ("0-99999999999999999999", "range"), ("1-2-3", "'1-2-3'"), ("٣", "'٣'"),
    ("+1", "'+1'"),
  ])
  func refuses(text: String, part: String) {
    #expect {
      _ = try CPUList(text)
    } throws: {
      "\($0)".contains(part)
    }
  }

  @Test func whatIsLongIsRefusedUnread() {
    #expect(throws: CPUList.Invalid.self) { try CPUList(String(repeating: "0,", count: 1 << 20)) }
    #expect(throws: CPUList.Invalid.self) { try CPUList(String(repeating: "9", count: 4096)) }
  }

  @Test func knowsWhatIsMissing() throws {
    #expect(try CPUList("0-5").subtracting(CPUList("0,2-3")).description == "1,4-5")
    #expect(CPUList(cpus: [3, 1, 3, -1, 9000]).description == "1,3")
  }

  /// Whatever bytes come: an answer, and one that reads back as itself.
  @Test func anyTextHasAnAnswer() throws {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    let alphabet = Array("0123456789-,- ,x")
    for _ in 0..<20_000 {
      var text = ""
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      for shift in 0..<(state >> 60) {
        text.append(alphabet[Int((state >> (shift * 3 + 4)) & 15)])
      }
      guard let list = try? CPUList(text) else { continue }
      #expect(!list.cpus.isEmpty && list.cpus == Set(list.cpus).sorted())
      #expect(try CPUList(list.description) == list)
    }
  }
}

@Suite struct SeccompProfileTests {
  @Test func theStrictestComesFirst() {
    #expect(SeccompProfile.strict < .default && SeccompProfile.default < .compat)
  }
}
