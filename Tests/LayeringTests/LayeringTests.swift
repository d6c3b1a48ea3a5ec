import FoundationEssentials
import Testing

/// Who may enter which room. CONTRIBUTING.md shows the same table; a change of one is a change of both.
private let mayImport: [String: Set<String>] = [
  // Headers and what no Swift may do.
  "CInitABI": [], "CLinux": [], "CEvents": [], "CSystemd": [], "CSeccomp": [], "CIsal": [], "CGNU": [], "CZlib": [],
  "CPCRE2": [],
  "CCurl": [], "CCurlShim": ["CCurl"], "CLibYAML": [], "CCertificate": [],
  "joblet-init": ["CInitABI"],
  // What everyone speaks.
  "JobletModel": [],
  "JobletWire": ["JobletModel"],
  "YAML": ["CLibYAML"],
  "JobletConfig": ["JobletModel", "YAML"],
  "DaemonKit": ["JobletConfig", "JobletModel", "CSystemd"],
  // The isolation worker.
  "LinuxKernel": ["CLinux"],
  "Cgroups": ["LinuxKernel"],
  "Sandbox": ["JobletModel", "CInitABI", "CSeccomp"],
  "Worker": [
    "Sandbox", "Cgroups", "LinuxKernel", "JobletWire", "JobletConfig", "JobletModel", "DaemonKit", "CInitABI",
    "CEvents",
  ],
  // Storage.
  "LogStore": ["JobletModel", "CGNU", "CPCRE2"],
  "LocalStore": ["LogStore", "JobletModel", "CIsal", "CZlib", "CGNU"],
  "StateStore": ["JobletModel"],
  "Persist": [
    "LogStore", "LocalStore", "StateStore", "JobletWire", "JobletConfig", "JobletModel", "DaemonKit", "CIsal", "CGNU",
  ],
  // The gateway.
  "Gateway": ["JobletWire", "JobletConfig", "JobletModel", "DaemonKit", "CZlib"],
  "Certificates": ["JobletModel", "JobletConfig", "YAML"],
  // The client.
  "HTTPClient": ["CCurl", "CCurlShim"],
  "JobletClient": ["JobletModel", "HTTPClient"],
  "RnxCommands": ["JobletClient", "HTTPClient", "JobletModel", "YAML", "CCertificate"],
  // The programs: composition only.
  "joblet-api": ["Gateway", "DaemonKit", "JobletConfig", "JobletModel"],
  "joblet-exec": ["Worker", "DaemonKit", "JobletConfig", "JobletModel"],
  "joblet-persist": ["Persist", "DaemonKit", "JobletConfig", "JobletModel"],
  "joblet-certs": ["Certificates", "JobletConfig", "JobletModel"],
  "rnx": ["RnxCommands"],
]

private let programs = ["joblet-api", "joblet-exec", "joblet-persist", "joblet-certs", "rnx"]

@Suite struct LayeringTests {
  let declared: [String: DeclaredTarget]

  init() throws { declared = try declaredTargets() }

  @Test func `the table has every folder of Sources, and they are declared`() throws {
    let folders = try FileManager.default.contentsOfDirectory(atPath: "\(projectFolder)/Sources").filter {
      !$0.hasPrefix(".")
    }
    #expect(Set(folders) == Set(mayImport.keys))
    #expect(Set(folders).isSubset(of: declared.keys))
  }

  @Test func `the table itself goes down`() {
    // Taking away, again and again, what imports nothing that is left: a cycle would remain.
    var left = mayImport
    while let bottom = left.first(where: { target in target.value.allSatisfy { left[$0] == nil } }) {
      left[bottom.key] = nil
    }
    #expect(left.isEmpty)
  }

  @Test(arguments: mayImport.keys.sorted()) func `declared dependencies are in the table`(target: String) throws {
    let own = try #require(declared[target]).dependencies
    #expect(own.subtracting(mayImport[target] ?? []).isEmpty)
  }

  @Test(arguments: mayImport.keys.sorted()) func `imports are declared and go down`(target: String) throws {
    for file in try sources("Sources/\(target)") {
      let own = Set(imports(try read(file))).filter { mayImport[$0] != nil }
      #expect(own.subtracting(mayImport[target] ?? []).isEmpty, "\(file) imports up")
      #expect(
        own.subtracting(try #require(declared[target]).dependencies).isEmpty,
        "\(file) imports what Package.swift does not declare")
    }
  }

  @Test func `tests import what they declare`() throws {
    let suites = try FileManager.default.contentsOfDirectory(atPath: "\(projectFolder)/Tests").filter {
      // Programs of their own; contrib/fuzz builds those of Fuzz with only the modules they name.
      $0 != "Benchmarks" && $0 != "Fuzz" && !$0.hasPrefix(".")
    }
    for suite in suites {
      let target = try #require(declared[suite], "Tests/\(suite) is no target")
      for file in try sources("Tests/\(suite)") {
        let own = Set(imports(try read(file))).filter { mayImport[$0] != nil }
        #expect(own.subtracting(target.dependencies).isEmpty, "\(file)")
      }
    }
  }

  @Test func `a rule that is broken is seen`() {
    #expect(
      imports("import Worker\n  @_spi(X) public import struct Gateway.Thing\n// import Nothing\nlet x = 1 // import Y")
        == ["Worker", "Gateway"])
  }
}

@Suite struct ProjectRules {
  @Test func `the top-level folders are those that are agreed on`() throws {
    let allowed: Set = ["Sources", "Tests", "units", "openapi", "config", "contrib"]
    let all = try FileManager.default.contentsOfDirectory(atPath: projectFolder).filter { !$0.hasPrefix(".") }
    let folders = all.filter { name in
      var isFolder = false
      return FileManager.default.fileExists(atPath: "\(projectFolder)/\(name)", isDirectory: &isFolder) && isFolder
    }
    #expect(Set(folders) == allowed)
    #expect(
      Set(all).subtracting(folders).subtracting([
        "Package.swift", "Package.resolved", "README.md", "CONTRIBUTING.md", "LICENSE",
      ]).isEmpty)
  }

  @Test func `no source imports the whole of Foundation`() throws {
    // It doubles a program's start time and adds 30 MB; FoundationEssentials has what is needed.
    for file in try sources("Sources") {
      #expect(!imports(try read(file)).contains("Foundation"), "\(file)")
    }
  }

  @Test func `no Swift forks`() throws {
    // A forked Swift process has one thread and everyone's locks. Swift compiles it without a word.
    for file in try sources("Sources") {
      let code = try read(file).split(separator: "\n").filter { !$0.drop { $0 == " " }.hasPrefix("//") }
      let bad = code.filter { line in
        [" fork()", "(fork()", " vfork()", "(vfork()", ".fork()"].contains { line.contains($0) }
      }
      #expect(bad.isEmpty, "\(file)")
    }
  }

  @Test(arguments: programs) func `programs only compose`(program: String) throws {
    let lines = try sources("Sources/\(program)").map {
      try read($0).split(separator: "\n", omittingEmptySubsequences: false).count
    }
    #expect(lines.allSatisfy { $0 <= 80 })
  }

  @Test func `a file is one idea`() throws {
    for file in try sources("Sources", ["swift", "c", "h"]) {
      let text = try read(file)
      // What a tool made of another file is as long as that is.
      if text.hasPrefix("// Made by ") { continue }
      #expect(text.split(separator: "\n", omittingEmptySubsequences: false).count <= 500, "\(file)")
    }
  }

  @Test func `nothing is forced outside tests`() throws {
    for file in try sources("Sources") {
      for (number, line) in try read(file).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        let code = line.drop { $0 == " " }
        #expect(code.hasPrefix("//") || !code.contains("try!"), "\(file):\(number + 1)")
        #expect(code.hasPrefix("//") || !code.contains(" as! "), "\(file):\(number + 1)")
      }
    }
  }
}
