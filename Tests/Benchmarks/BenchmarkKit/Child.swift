#if canImport(Glibc)
  import Glibc
#endif

/// A process of the benchmark: a daemon, a peer, a client.
public final class Child {
  public let pid: pid_t
  /// Where its output can be read, if that was asked for.
  public let output: CInt?

  public enum Output {
    case inherit
    /// A file, written anew.
    case file(String)
    /// A pipe whose read end is ``Child/output``.
    case pipe
  }

  /// Starts `arguments[0]`, looked up in PATH. `files` are opened for it to read, as the descriptors they are named by.
  public init(
    _ arguments: [String], output: Output = .inherit, errors: Output = .inherit, files: [CInt: String] = [:]
  ) throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var ends: [CInt] = [-1, -1]
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    for (descriptor, target) in [(CInt(1), output), (2, errors)] {
      switch target {
      case .inherit: break
      case .file(let path):
        posix_spawn_file_actions_addopen(&actions, descriptor, path, O_WRONLY | O_CREAT | O_APPEND, 0o600)
      case .pipe:
        guard pipe(&ends) == 0 else { throw BenchmarkError("pipe: errno \(errno)") }
        // One thread starts every process here, so nothing is spawned between the two calls.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], descriptor)
      }
    }
    for (descriptor, path) in files { posix_spawn_file_actions_addopen(&actions, descriptor, path, O_RDONLY, 0) }
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for pointer in argv { free(pointer) } }
    var child: pid_t = 0
    let code = posix_spawnp(&child, arguments[0], &actions, nil, &argv, environ)
    if ends[1] >= 0 { close(ends[1]) }
    guard code == 0 else { throw BenchmarkError("\(arguments[0]): \(String(cString: strerror(code)))") }
    pid = child
    self.output = ends[0] >= 0 ? ends[0] : nil
  }

  deinit { if let output { close(output) } }

  /// Reads its piped output to the end.
  public func readAll() -> [UInt8] {
    guard let output else { return [] }
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(output, &buffer, buffer.count)
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return all }
      all += buffer[..<count]
    }
  }

  /// Waits for its end; 128 + the number for a signal.
  @discardableResult
  public func wait() -> Int32 {
    var raw: Int32 = 0
    while waitpid(pid, &raw, 0) < 0 && errno == EINTR {}
    return raw & 0x7F == 0 ? (raw >> 8) & 0xFF : 128 + (raw & 0x7F)
  }

  public var isRunning: Bool {
    var info = siginfo_t()
    return waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_signo == 0
  }

  public func signal(_ number: Int32) { kill(pid, number) }

  /// SIGTERM, and SIGKILL for what does not go.
  public func stop(seconds: Double = 15) {
    signal(SIGTERM)
    do { try waitUntil("the end of \(pid)", seconds: seconds) { !isRunning } } catch { signal(SIGKILL) }
    wait()
  }
}

/// A process's memory as the kernel counts it (proc(5), `/proc/pid/status`), in MiB.
public enum Memory {
  /// Forgets the peak so far, so that ``peak(of:)`` is that of the time since (proc(5), `clear_refs`, 5).
  public static func resetPeak(of pid: pid_t) throws {
    let file = open("/proc/\(pid)/clear_refs", O_WRONLY)
    guard file >= 0 else { throw BenchmarkError("/proc/\(pid)/clear_refs: errno \(errno)") }
    defer { close(file) }
    guard write(file, "5", 1) == 1 else { throw BenchmarkError("/proc/\(pid)/clear_refs: errno \(errno)") }
  }

  public static func peak(of pid: pid_t) throws -> Double { try figure("VmHWM", of: pid) }
  public static func resident(of pid: pid_t) throws -> Double { try figure("VmRSS", of: pid) }

  /// What `keys` of smaps (proc(5)) add up to over all of the process's mappings but those of files whose path ends with one
  /// of `leavingOut`, in KiB.
  public static func mapped(_ keys: [String], of pid: pid_t, leavingOut: [String] = []) throws -> Double {
    var sum = 0.0
    var counts = true
    for line in try readFile("/proc/\(pid)/smaps").split(separator: "\n") {
      // A mapping's first line begins with its addresses, the others with a capital letter and the key.
      guard let first = line.utf8.first, first >= UInt8(ascii: "A"), first <= UInt8(ascii: "Z") else {
        counts = !leavingOut.contains { line.hasSuffix($0) }
        continue
      }
      guard counts, let colon = line.firstIndex(of: ":"), keys.contains(String(line[..<colon])) else { continue }
      guard let value = line[colon...].dropFirst().split(separator: " ").first.flatMap({ Double($0) }) else {
        throw BenchmarkError("/proc/\(pid)/smaps: '\(line)'")
      }
      sum += value
    }
    return sum
  }

  private static func figure(_ name: String, of pid: pid_t) throws -> Double {
    let text = try readFile("/proc/\(pid)/status")
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name + ":") }),
      let kibibytes = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap({ Double($0) })
    else { throw BenchmarkError("/proc/\(pid)/status has no \(name)") }
    return kibibytes / 1024
  }
}

/// CPU time a process has used, in milliseconds (proc_pid_stat(5)).
public enum CPUTime {
  /// Its own threads', in user space and in the kernel; not its children's.
  public static func own(of pid: pid_t) throws -> Double {
    // The second field is a name in brackets, which may hold spaces.
    let text = try readFile("/proc/\(pid)/stat")
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      throw BenchmarkError("/proc/\(pid)/stat: '\(text)'")
    }
    return (user + system) * 1000 / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}

/// A small text file's whole content.
public func readFile(_ path: String) throws -> String {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else { throw BenchmarkError("\(path): \(String(cString: strerror(errno)))") }
  defer { close(file) }
  var all: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 65_536)
  while true {
    let count = read(file, &buffer, buffer.count)
    guard count > 0 else { return String(decoding: all, as: UTF8.self) }
    all += buffer[..<count]
  }
}

/// Writes a small text file, readable by its owner only.
public func writeFile(_ path: String, _ text: String) throws {
  let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
  guard file >= 0 else { throw BenchmarkError("\(path): \(String(cString: strerror(errno)))") }
  defer { close(file) }
  var text = text
  let written = text.withUTF8 { write(file, $0.baseAddress, $0.count) }
  guard written == text.utf8.count else { throw BenchmarkError("\(path): short write") }
}
