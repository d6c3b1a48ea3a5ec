import Glibc
import JobletModel
import YAML

extension Configuration {
  /// A larger file is refused unread.
  static let largestFile = 4 << 20

  /// Reads the configuration of this node: the file at `path`, else at `$JOBLET_CONFIG_PATH`, else the installed one; then the
  /// environment's overrides (`JOBLET_LOG_LEVEL`, `JOBLET_SERVER_ADDRESS`, `JOBLET_SERVER_PORT`, `JOBLET_NODE_ID`, `JOBLET_MAX_JOBS`).
  ///
  /// It blocks on the disk: call it at start and on reload only.
  /// - Throws: ``ConfigurationError`` with every problem found.
  public static func load(path: String? = nil, environment: [String: String]) throws -> Configuration {
    let file: String
    if let path {
      file = path
    } else if let given = environment["JOBLET_CONFIG_PATH"], !given.isEmpty {
      file = given
    } else {
      file = try installedFile(installedPath, alternativePath)
    }
    var configuration = try parse(try readText(file), file: file)
    try configuration.apply(environment)
    return configuration
  }

  /// Reads a configuration from YAML text. `file` is its name in errors.
  /// - Throws: ``ConfigurationError`` with every problem found.
  public static func parse(_ yaml: String, file: String) throws -> Configuration {
    let report = ReadReport()
    let configuration = read(try compose(yaml, file: file), report)
    guard report.problems.isEmpty else {
      throw ConfigurationError(file: file, problems: report.problems.sorted { ($0.line ?? 0) < ($1.line ?? 0) })
    }
    var result = configuration
    result.origin = Origin(path: file, warnings: report.warnings)
    return result
  }

  /// Every key there is, as `section.key`, in the order of the file.
  public static let keys: [String] = {
    let report = ReadReport()
    _ = read(nil, report)
    return report.keys
  }()

  /// One of the two installed places. Both may exist if they are one file: a node whose settings depend on who reads them is broken.
  package static func installedFile(_ main: String, _ alternative: String) throws -> String {
    var first = stat()
    var second = stat()
    let hasMain = stat(main, &first) == 0
    let hasAlternative = stat(alternative, &second) == 0
    if hasMain, hasAlternative, first.st_ino != second.st_ino || first.st_dev != second.st_dev {
      let message = "and \(alternative) are two different files; keep one and make the other a link to it"
      throw ConfigurationError(file: main, problems: [.init(line: nil, key: "", message: message)])
    }
    return hasMain || !hasAlternative ? main : alternative
  }

  private static func read(_ root: YAMLNode?, _ report: ReadReport) -> Configuration {
    var configuration = Configuration()
    var section = SectionReader(root, path: "", report: report)
    var version = Configuration.version
    if root != nil {
      section.choice("version", into: &version, [Configuration.version])
      if !section.has("version") {
        report.add("is missing; write version: \"\(Configuration.version)\"", key: "version", line: nil)
      }
    }
    configuration.read(&section)
    section.refuseUnknownKeys()
    return configuration
  }

  private static func compose(_ yaml: String, file: String) throws -> YAMLNode? {
    func problem(_ message: String, _ line: Int?) -> ConfigurationError {
      ConfigurationError(file: file, problems: [.init(line: line, key: "", message: message)])
    }
    let root: YAMLNode?
    do {
      root = try YAMLNode.parse(yaml)
    } catch {
      throw problem("not YAML: \(error.message)\(error.mark.map { " at column \($0.column)" } ?? "")", error.mark?.line)
    }
    guard let root else { throw problem("the file is empty; write version: \"3.0\"", nil) }
    return root
  }

  private mutating func apply(_ environment: [String: String]) throws {
    var problems: [ConfigurationError.Problem] = []
    func refuse(_ name: String, _ value: String, _ allowed: String) {
      problems.append(.init(line: nil, key: name, message: "'\(value)' is not allowed; allowed: \(allowed)"))
    }
    func number(_ name: String, _ range: ClosedRange<Int>, _ set: (Int) -> Void) {
      guard let text = environment[name], !text.isEmpty else { return }
      guard let value = Int(text), range.contains(value) else {
        return refuse(name, text, "a whole number from \(range.lowerBound) to \(range.upperBound)")
      }
      set(value)
    }
    if let text = environment["JOBLET_LOG_LEVEL"], !text.isEmpty {
      if let level = Logging.Level(rawValue: text.uppercased()) {
        logging.level = level
        persist.logging.level = nil  // what is set for this run goes before every section
      } else {
        refuse("JOBLET_LOG_LEVEL", text, Logging.Level.allCases.map(\.rawValue).joined(separator: ", "))
      }
    }
    if let text = environment["JOBLET_SERVER_ADDRESS"], !text.isEmpty {
      if isIPAddress(text) {
        server.address = text
      } else {
        refuse("JOBLET_SERVER_ADDRESS", text, "an IPv4 or IPv6 address")
      }
    }
    number("JOBLET_SERVER_PORT", 1...65535) { server.port = $0 }
    if let text = environment["JOBLET_NODE_ID"], !text.isEmpty {
      if Server.isNodeID(text) { server.nodeID = text } else { refuse("JOBLET_NODE_ID", text, Server.nodeIDAllowed) }
    }
    number("JOBLET_MAX_JOBS", 0...Configuration.largest) { joblet.maxConcurrentJobs = $0 }
    guard problems.isEmpty else { throw ConfigurationError(file: "environment", problems: problems) }
  }
}

/// An IPv4 or IPv6 literal (inet_pton(3)).
func isIPAddress(_ text: String) -> Bool {
  var bytes = in6_addr()
  return inet_pton(AF_INET, text, &bytes) == 1 || inet_pton(AF_INET6, text, &bytes) == 1
}

private func readText(_ path: String) throws -> String {
  func problem(_ message: String) -> ConfigurationError {
    ConfigurationError(file: path, problems: [.init(line: nil, key: "", message: message)])
  }
  let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  guard descriptor >= 0 else {
    throw problem(
      "can't be read: \(String(cString: strerror(errno))); name another with --config or JOBLET_CONFIG_PATH")
  }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while true {
    let count = read(descriptor, &buffer, buffer.count)
    if count == 0 { break }
    if count < 0 {
      if errno == EINTR { continue }
      throw problem("can't be read: \(String(cString: strerror(errno)))")
    }
    bytes.append(contentsOf: buffer[..<count])
    guard bytes.count <= Configuration.largestFile else { throw problem("is larger than 4 MiB") }
  }
  guard let text = String(validating: bytes, as: UTF8.self) else { throw problem("is not UTF-8") }
  return text
}
