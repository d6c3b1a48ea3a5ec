import Foundation
import RnxCommands
import Testing

@Suite struct RnxConfigTests {
  static let pem = "-----BEGIN X-----\n      AA==\n      -----END X-----"
  static let good = """
    version: "3.0"
    nodes:
      default:
        address: "node1.example.com:50051"
        cert: |
          \(pem)
        key: |
          \(pem)
        ca: |
          \(pem)
      second:
        address: "[::1]:443"
        cert: "-----BEGIN A"
        key: "-----BEGIN B"
        ca: "-----BEGIN C"
    """

  @Test func `a good file`() throws {
    let config = try RnxConfig(Self.good, path: "f.yml")
    #expect(config.nodes.keys.sorted() == ["default", "second"])
    #expect(try config.node("default").address == "node1.example.com:50051")
    #expect(try config.node("default").cert.hasPrefix("-----BEGIN X-----\n"))
    #expect(try config.node("second").ca == "-----BEGIN C")
    let failure = #expect(throws: Failure.self) { try config.node("third") }
    #expect(failure?.what.contains("'third'") == true && failure?.why == "it names 'default', 'second'")
  }

  static let wrong: [(String, String)] = [
    ("", "'version' and 'nodes'"), ("[]", "'version' and 'nodes'"), ("nodes: {}", "version is missing"),
    ("version: \"2.0\"", "version is '2.0'; known here: \"3.0\""), ("version: \"3.0\"", "nodes must name"),
    ("version: \"3.0\"\nnodes: {}", "nodes must name"),
    ("version: \"3.0\"\nnode: {}", "node is not known; known here: version, nodes"),
    ("version: \"3.0\"\nnodes: {a: 1}", "nodes.a must hold address, cert, key, ca"),
    ("version: \"3.0\"\nnodes: {a: {adress: x}}", "nodes.a.adress is not known; known here: address, cert, key, ca"),
    ("version: \"3.0\"\nnodes: {a: {address: x}}", "'x' is not host:port"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x:1\"}}", "nodes.a.cert is missing"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x:1\", cert: /file}}", "nodes.a.cert must be embedded PEM"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x@y:1\"}}", "is not host:port"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x/y:1\"}}", "is not host:port"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x:0\"}}", "is not host:port"),
    ("version: \"3.0\"\nnodes: {a: {address: \"x:65536\"}}", "is not host:port"),
    ("version: [", "not valid YAML"), ("a: 1\na: 2", "not valid YAML"), ("a: *b", "not valid YAML"),
  ]

  @Test(arguments: wrong)
  func `a wrong file names itself, the key and what is allowed`(text: String, why: String) {
    let failure = #expect(throws: Failure.self) { try RnxConfig(text, path: "/x/f.yml") }
    #expect(failure?.what.contains("/x/f.yml") == true)
    #expect(failure?.why.contains(why) == true, "\(String(describing: failure))")
  }

  @Test func `any bytes are read or refused, never a crash`() {
    var random = SplitMix(seed: 42)
    let base = Array(Self.good.utf8)
    let spice = Array("{}[]:|>&*!-\"'\n\t #%@?,\u{0}é".utf8)
    var isRead = 0
    for _ in 0..<3000 {
      var bytes = base
      for _ in 0...(random.next() % 6) {
        let at = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 4 {
        case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.insert(spice[Int(random.next() % UInt64(spice.count))], at: at)
        case 2: bytes.remove(at: at)
        default: bytes.removeSubrange(at..<min(bytes.count, at + Int(random.next() % 40)))
        }
        if bytes.isEmpty { bytes = [0x0A] }
      }
      do {
        _ = try RnxConfig(String(decoding: bytes, as: UTF8.self), path: "f")
        isRead += 1
      } catch {
        #expect(error is Failure)
      }
    }
    #expect(isRead > 0)
  }

  @Test func `the places and their order`() {
    #expect(
      ConfigSearch.places(home: "/home/u") == [
        "./rnx-config.yml", "./config/rnx-config.yml", "/home/u/.rnx/rnx-config.yml", "/etc/joblet/rnx-config.yml",
        "/opt/joblet/config/rnx-config.yml",
      ])
    #expect(ConfigSearch.places(home: nil).count == 4)
  }

  @Test func `the first file there is counts, also a broken one`() throws {
    let folder = NSTemporaryDirectory() + "rnx-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let places = ["a", "b", "c"].map { "\(folder)/\($0).yml" }
    let none = #expect(throws: Failure.self) { try ConfigSearch.first(of: places) }
    #expect(none?.why == "looked for \(places.joined(separator: ", "))")
    try Self.good.write(toFile: places[2], atomically: true, encoding: .utf8)
    #expect(try ConfigSearch.first(of: places).path == places[2])
    try Self.good.write(toFile: places[1], atomically: true, encoding: .utf8)
    #expect(try ConfigSearch.first(of: places).path == places[1])
    try "nonsense".write(toFile: places[0], atomically: true, encoding: .utf8)
    let broken = #expect(throws: Failure.self) { try ConfigSearch.first(of: places) }
    #expect(broken?.what.contains(places[0]) == true)
    #expect(try ConfigSearch.load(named: places[2], home: nil).path == places[2])
    let missing = #expect(throws: Failure.self) { try ConfigSearch.load(named: "\(folder)/no.yml", home: nil) }
    #expect(missing?.what.contains("\(folder)/no.yml") == true)
    #expect(throws: Failure.self) { try ConfigSearch.load(named: folder, home: nil) }
    try Data([0xFF, 0xFE]).write(to: URL(fileURLWithPath: places[0]))
    #expect(throws: Failure.self) { try ConfigSearch.first(of: places) }
  }

  @Test(.enabled(if: geteuid() != 0, "root may enter and read everything"))
  func `a directory that can't be entered holds no file, and nobody is told to loosen a file's rights`() throws {
    let folder = NSTemporaryDirectory() + "rnx-\(UUID().uuidString)"
    let closed = "\(folder)/closed"
    try FileManager.default.createDirectory(atPath: closed, withIntermediateDirectories: true)
    defer {
      chmod(closed, 0o700)
      try? FileManager.default.removeItem(atPath: folder)
    }
    let places = ["\(closed)/a.yml", "\(folder)/b.yml"]
    for place in places { try Self.good.write(toFile: place, atomically: true, encoding: .utf8) }
    #expect(chmod(closed, 0) == 0)
    #expect(try ConfigSearch.first(of: places).path == places[1])
    #expect(chmod(places[1], 0) == 0)
    let unreadable = #expect(throws: Failure.self) { try ConfigSearch.first(of: places) }
    #expect(unreadable?.what.contains(places[1]) == true)
    #expect(unreadable?.next.contains("ask for a client file of your role") == true)
  }
}
