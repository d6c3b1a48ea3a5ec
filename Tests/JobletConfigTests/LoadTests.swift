import FoundationEssentials
import JobletConfig
import Testing

@Suite final class LoadTests {
  let folder: String

  init() throws {
    folder = FileManager.default.temporaryDirectory.path + "/joblet-config-\(UUID())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: folder) } catch { Issue.record(error) }
  }

  func write(_ text: String, _ name: String = "c.yml") throws -> String {
    try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    return "\(folder)/\(name)"
  }

  @Test func `the environment overrides the file`() throws {
    let path = try write("version: \"3.0\"\nserver: {port: 1, nodeId: file}\n")
    let environment = [
      "JOBLET_CONFIG_PATH": path, "JOBLET_LOG_LEVEL": "debug", "JOBLET_SERVER_ADDRESS": "127.0.0.1",
      "JOBLET_SERVER_PORT": "443", "JOBLET_NODE_ID": "env", "JOBLET_MAX_JOBS": "7", "PATH": "/bin",
    ]
    let configuration = try Configuration.load(environment: environment)
    #expect(configuration.origin.path == path)
    #expect(configuration.logging.level == .debug)
    #expect(configuration.server.address == "127.0.0.1")
    #expect(configuration.server.port == 443)
    #expect(configuration.server.nodeID == "env")
    #expect(configuration.joblet.maxConcurrentJobs == 7)
  }

  @Test func `an option goes before the environment`() throws {
    let path = try write("version: \"3.0\"\nserver: {port: 2}")
    let configuration = try Configuration.load(path: path, environment: ["JOBLET_CONFIG_PATH": "/nowhere"])
    #expect(configuration.server.port == 2)
  }

  @Test(arguments: [
    ["JOBLET_LOG_LEVEL": "LOUD"], ["JOBLET_SERVER_ADDRESS": "host"], ["JOBLET_SERVER_PORT": "0"],
    ["JOBLET_NODE_ID": "a b"], ["JOBLET_MAX_JOBS": "-1"],
  ])
  func `a wrong override names the variable and what is allowed`(environment: [String: String]) throws {
    let path = try write("version: \"3.0\"")
    #expect {
      try Configuration.load(path: path, environment: environment)
    } throws: { error in
      "\(error)".contains(environment.keys.first ?? "?") && "\(error)".contains("allowed: ")
    }
  }

  @Test func `an empty variable is as none`() throws {
    let path = try write("version: \"3.0\"")
    #expect(
      try Configuration.load(path: path, environment: ["JOBLET_SERVER_PORT": "", "JOBLET_LOG_LEVEL": ""])
        == Configuration())
  }

  @Test func `files that can't be read say why`() throws {
    #expect { try Configuration.load(path: "\(self.folder)/none.yml", environment: [:]) } throws: {
      "\($0)".contains("No such file")
    }
    #expect { try Configuration.load(path: self.folder, environment: [:]) } throws: { "\($0)".contains("directory") }
    let bytes = "\(folder)/bytes.yml"
    try Data([0xff, 0xfe, 0x80]).write(to: URL(filePath: bytes))
    #expect { try Configuration.load(path: bytes, environment: [:]) } throws: { "\($0)".contains("UTF-8") }
    let large = try write(String(repeating: "# long\n", count: 700_000))
    #expect { try Configuration.load(path: large, environment: [:]) } throws: { "\($0)".contains("4 MiB") }
  }

  @Test func `two installed files must be one`() throws {
    let main = try write("version: \"3.0\"", "main.yml")
    let other = "\(folder)/other.yml"
    #expect(try Configuration.installedFile(main, other) == main)
    #expect(try Configuration.installedFile(other, main) == main)
    #expect(try Configuration.installedFile(other, other) == other)
    try FileManager.default.createSymbolicLink(atPath: other, withDestinationPath: main)
    #expect(try Configuration.installedFile(main, other) == main)
    try FileManager.default.removeItem(atPath: other)
    _ = try write("version: \"3.0\"", "other.yml")
    #expect { try Configuration.installedFile(main, other) } throws: { "\($0)".contains("two different files") }
  }
}
