import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// A program that was started, with its output going to files: nothing it prints can block it or be lost, and a test may
/// look at what is there so far while it runs.
final class RunningProgram {
  let pid: pid_t
  let name: String
  private let directory: URL
  private var status: Int32?

  /// Starts `arguments[0]`, looked up in PATH.
  init(
    _ arguments: [String], environment: [String: String] = [:], directory working: String? = nil, input: String? = nil
  )
    throws
  {
    let arguments = (working.map { ["env", "-C", $0] } ?? []) + arguments
    name = arguments.joined(separator: " ")
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("joblet-system-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    let stdin = directory.appendingPathComponent("stdin")
    try Data((input ?? "").utf8).write(to: stdin)

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, stdin.path, O_RDONLY, 0)
    for (descriptor, file) in [(Int32(1), "stdout"), (2, "stderr")] {
      posix_spawn_file_actions_addopen(
        &actions, descriptor, directory.appendingPathComponent(file).path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A group of its own, so that a time-out ends a shell together with what it started.
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))

    let merged = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var envp: [UnsafeMutablePointer<CChar>?] = merged.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer {
      for pointer in argv + envp { free(pointer) }
    }
    var child: pid_t = 0
    let error = posix_spawnp(&child, arguments[0], &actions, &attributes, &argv, &envp)
    guard error == 0 else { throw TimedOut(description: "\(arguments[0]): \(String(cString: strerror(error)))") }
    pid = child
  }

  deinit {
    if status == nil {
      kill(-pid, SIGKILL)
      var ignored: Int32 = 0
      waitpid(pid, &ignored, 0)
    }
    do { try FileManager.default.removeItem(at: directory) } catch { print("left behind: \(directory.path): \(error)") }
  }

  /// What it printed so far.
  func bytes(_ stream: String = "stdout") throws -> Data {
    try Data(contentsOf: directory.appendingPathComponent(stream))
  }

  func text(_ stream: String = "stdout") throws -> String { String(decoding: try bytes(stream), as: UTF8.self) }

  var isRunning: Bool {
    guard status == nil else { return false }
    var raw: Int32 = 0
    guard waitpid(pid, &raw, WNOHANG) == pid else { return true }
    status = raw
    return false
  }

  /// Its exit code as a shell gives it: 128 + the number of the signal that ended it.
  func wait(within limit: Duration = .seconds(180)) async throws -> Int32 {
    do {
      try await eventually("the end of \(name)", within: limit, pause: .milliseconds(20)) { !isRunning }
    } catch {
      kill(-pid, SIGKILL)
      throw TimedOut(
        description: "\(error)\nstdout: \(try text().suffix(2000))\nstderr: \(try text("stderr").suffix(2000))")
    }
    let raw = status ?? 0
    return raw & 0x7F == 0 ? (raw >> 8) & 0xFF : 128 + (raw & 0x7F)
  }

  func terminate() { kill(-pid, SIGKILL) }
}

/// A program that has ended.
struct Output {
  var status: Int32
  var bytes: Data
  var errors: String
  var text: String { String(decoding: bytes, as: UTF8.self) }
  var lines: [String] { text.split(separator: "\n", omittingEmptySubsequences: true).map(String.init) }
}

enum Shell {
  static func run(
    _ arguments: [String], environment: [String: String] = [:], directory: String? = nil, input: String? = nil,
    within limit: Duration = .seconds(180)
  ) async throws -> Output {
    let program = try RunningProgram(arguments, environment: environment, directory: directory, input: input)
    let status = try await program.wait(within: limit)
    return Output(status: status, bytes: try program.bytes(), errors: try program.text("stderr"))
  }

  /// A line of shell.
  static func run(_ script: String, within limit: Duration = .seconds(180)) async throws -> Output {
    try await run(["bash", "-c", script], within: limit)
  }

  /// A line of shell that must succeed; its output without the last newline.
  @discardableResult
  static func must(_ script: String, within limit: Duration = .seconds(180)) async throws -> String {
    let output = try await run(script, within: limit)
    guard output.status == 0 else {
      throw TimedOut(description: "\(script): exit \(output.status): \(output.text)\(output.errors)")
    }
    return output.text.trimmingCharacters(in: .newlines)
  }
}
