import FoundationEssentials
import JobletConfig
import Testing

/// The project's folder, from this file's own place in it.
let projectFolder = String(#filePath.dropLast("/Tests/JobletConfigTests/DefaultFileTests.swift".count))

@Suite struct DefaultFileTests {
  let text: String

  init() throws {
    text = try String(contentsOfFile: "\(projectFolder)/config/joblet-config.yml", encoding: .utf8)
  }

  @Test func `the commented file says what the code's defaults say`() throws {
    #expect(try Configuration.parse(text, file: "default") == Configuration())
  }

  @Test func `every key stands in the commented file`() throws {
    // A file that says each key's path and nothing else differs from one that lacks it: change each line's value, expect an error or another value.
    var found: [String] = []
    var path: [(indent: Int, name: Substring)] = []
    for line in text.split(separator: "\n") {
      let body = line.drop { $0 == " " }
      guard let colon = body.firstIndex(of: ":"), !body.hasPrefix("#") else { continue }
      let indent = line.count - body.count
      while let last = path.last, last.indent >= indent { path.removeLast() }
      path.append((indent, body[..<colon]))
      found.append(path.map { String($0.name) }.joined(separator: "."))
    }
    let missing = Configuration.keys.filter { !found.contains($0) }
    #expect(missing.isEmpty)
  }

  @Test func `no key is read twice, and the schema has them all`() {
    #expect(Configuration.keys.count == Set(Configuration.keys).count)
    #expect(Configuration.keys.count > 90)
  }

  @Test(arguments: [
    "version: \"3.0\"", "version: \"3.0\"\nserver:\npersist:\n  wal:\n", "{version: '3.0', joblet: {}}",
  ])
  func `empty sections mean their defaults`(yaml: String) throws {
    #expect(try Configuration.parse(yaml, file: "short") == Configuration())
  }
}
