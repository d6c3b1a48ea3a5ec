import FoundationEssentials
import Testing

/// The project's folder, from this file's own place in it.
let projectFolder = String(#filePath.dropLast("/Tests/LayeringTests/Package.swift".count))

func read(_ path: String) throws -> String { try String(contentsOfFile: "\(projectFolder)/\(path)", encoding: .utf8) }

/// Source files below a folder, as paths from the project's folder.
func sources(_ folder: String, _ extensions: Set<String> = ["swift"]) throws -> [String] {
  let all = try FileManager.default.subpathsOfDirectory(atPath: "\(projectFolder)/\(folder)")
  return all.filter { path in extensions.contains(String(path.split(separator: ".").last ?? "")) }.map {
    "\(folder)/\($0)"
  }.sorted()
}

/// A target as Package.swift declares it: `room("Name", [...])`, `program(...)`, `tests(...)`, `.target(name: ...)`.
///
/// Read from the text: a test that asked SwiftPM would wait for the lock of the `swift build` or `swift test` that runs it.
struct DeclaredTarget {
  var name: String
  /// Quoted dependencies: targets of this package.
  var dependencies: Set<String>
}

func declaredTargets() throws -> [String: DeclaredTarget] {
  let manifest = try read("Package.swift")
  let start = try #require(manifest.firstRange(of: "\n  targets: ["))
  var targets: [String: DeclaredTarget] = [:]
  let heads = [
    "room(", "program(", "tests(", "benchmark(", ".target(", ".executableTarget(", ".systemLibrary(", ".testTarget(",
  ]
  var rest = manifest[start.upperBound...].split(separator: "\n").filter { !$0.drop { $0 == " " }.hasPrefix("//") }
    .joined(separator: "\n")[...]
  while let head = heads.compactMap({ rest.firstRange(of: $0) }).min(by: { $0.lowerBound < $1.lowerBound }) {
    rest = rest[head.upperBound...]
    let body = rest.prefix(upToBalanced: ")")
    // What comes from another package is no layer of ours.
    var own = String(body)
    while let product = own.firstRange(of: ".product(") {
      let inner = own[product.upperBound...].prefix(upToBalanced: ")")
      own.removeSubrange(product.lowerBound..<inner.endIndex)
    }
    let quoted = own.split(separator: "\"", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }
      .map { String($0.element) }
    guard let name = quoted.first else { continue }
    targets[name] = DeclaredTarget(name: name, dependencies: Set(quoted.dropFirst()))
    rest = rest[body.endIndex...]
  }
  // Package configurations, paths and apt names are quoted too.
  return targets.mapValues { target in
    DeclaredTarget(name: target.name, dependencies: target.dependencies.filter { targets[$0] != nil })
  }
}

extension Substring {
  /// Up to the bracket that closes the one just before this text.
  fileprivate func prefix(upToBalanced closing: Character) -> Substring {
    var depth = 1
    for index in indices {
      if self[index] == "(" { depth += 1 }
      if self[index] == closing { depth -= 1 }
      if depth == 0 { return self[..<index] }
    }
    return self
  }
}

/// The modules a file imports.
func imports(_ text: String) -> [String] {
  text.split(separator: "\n").compactMap { line in
    var words = line.split(separator: " ")
    while let first = words.first,
      first.hasPrefix("@") || ["public", "package", "internal", "private", "fileprivate"].contains(first)
    {
      words.removeFirst()
    }
    guard words.first == "import", words.count > 1 else { return nil }
    let kinds = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
    let name = kinds.contains(String(words[1])) && words.count > 2 ? words[2] : words[1]
    return String(name.split(separator: ".")[0])
  }
}
