import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// A joblet-persist of this build with a folder of its own on a real disk; gone without a trace afterwards.
final class Store {
  let directory: String
  private let program: String
  private(set) var daemon: Child

  var writeSocket: String { "\(directory)/ipc.sock" }
  var querySocket: String { "\(directory)/query.sock" }

  private init(directory: String, program: String, daemon: Child) {
    self.directory = directory
    self.program = program
    self.daemon = daemon
  }

  /// Starts it, waits until it answers, runs `body`, and cleans up whatever happened.
  static func run<Result>(
    _ bin: String, fsync: String = "interval", state: String = "memory", _ body: (Store) throws -> Result
  ) throws -> Result {
    let parent = getenv("JOBLET_BENCH_TMP").map { String(cString: $0) } ?? "/var/tmp"
    try requireDisk(parent)
    var template = Array("\(parent)/joblet-bench.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchmarkError("\(parent): \(String(cString: strerror(errno)))") }
    let directory = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { removeTree(directory) }
    try writeFile("\(directory)/joblet-config.yml", configuration(directory, fsync: fsync, state: state))
    let program = "\(bin)/joblet-persist"
    let store = Store(directory: directory, program: program, daemon: try start(program, directory))
    defer { store.daemon.stop() }
    do {
      try store.waitUntilReady()
      return try body(store)
    } catch {
      if let log = try? Child(["tail", "-n", "20", "\(directory)/joblet-persist.log"], output: .pipe) {
        say("joblet-persist's last lines:\n\(String(decoding: log.readAll(), as: UTF8.self))")
        log.wait()
      }
      throw error
    }
  }

  private static func start(_ program: String, _ directory: String) throws -> Child {
    try Child(
      [
        program, "--config", "\(directory)/joblet-config.yml", "--listen", "ipc=unix:\(directory)/ipc.sock",
        "--listen", "query=unix:\(directory)/query.sock",
      ], output: .file("\(directory)/joblet-persist.log"), errors: .file("\(directory)/joblet-persist.log"))
  }

  func waitUntilReady(seconds: Double = 120) throws {
    try waitUntil("joblet-persist answers", seconds: seconds, pause: 5000) {
      guard daemon.isRunning else { throw BenchmarkError("joblet-persist ended before it answered") }
      return answersPing(querySocket)
    }
  }

  /// SIGKILL, and a new one at once.
  func killAndRestart() throws {
    daemon.signal(SIGKILL)
    daemon.wait()
    daemon = try Store.start(program, directory)
  }

  func file(_ job: JobID) -> String { "\(directory)/logs/\(job)/stdout.log.gz" }

  /// User and system time of the daemon so far, in seconds (proc(5), `/proc/pid/stat`, fields 14 and 15).
  func cpuSeconds() throws -> Double {
    let text = try readFile("/proc/\(daemon.pid)/stat")
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      throw BenchmarkError("/proc/\(daemon.pid)/stat can't be read")
    }
    return (user + system) / Double(sysconf(CInt(_SC_CLK_TCK)))
  }

  /// Waits until the jobs' files have every line: sealed, not only acknowledged.
  func waitUntilSealed(_ jobs: [Writer.Job], seconds: Double = 600) throws {
    var left = jobs.filter { $0.total > 0 }
    try waitUntil("the lines are sealed", seconds: seconds, pause: 1000) {
      guard daemon.isRunning else { throw BenchmarkError("joblet-persist ended") }
      while let job = left.last, try sealedSeq(file(job.id)) >= job.total { left.removeLast() }
      return left.isEmpty
    }
  }

  /// Reads every job's file with zcat and compares each line with what was written.
  /// - Returns: lost and doubled lines.
  func checkFiles(_ jobs: [Writer.Job]) throws -> (lines: UInt64, lost: UInt64, doubled: UInt64) {
    var sum: (lines: UInt64, lost: UInt64, doubled: UInt64) = (0, 0, 0)
    for job in jobs where job.total > 0 {
      let zcat = try Child(["zcat", file(job.id)], output: .pipe)
      var checker = LineChecker(job: job.number)
      defer { checker.free() }
      try readPipe(zcat) { try checker.take($0) }
      guard zcat.wait() == 0 else { throw BenchmarkError("zcat finds \(file(job.id)) damaged") }
      try checker.end(total: job.total)
      sum = (sum.lines + checker.lines, sum.lost + checker.lost, sum.doubled + checker.doubled)
    }
    return sum
  }

  /// Throws unless the files have every line once.
  func requireWhole(_ jobs: [Writer.Job]) throws {
    let found = try checkFiles(jobs)
    guard found.lost == 0, found.doubled == 0 else {
      throw BenchmarkError("the files lack \(found.lost) lines and have \(found.doubled) twice")
    }
  }

  private static func configuration(_ directory: String, fsync: String, state: String) -> String {
    """
    version: "3.0"
    server: {nodeId: benchmark}
    ipc: {socket: \(directory)/ipc.sock}
    persist:
      server:
        query_socket: \(directory)/query.sock
        grpc_socket: \(directory)/grpc.sock
      ipc: {socket: \(directory)/ipc.sock}
      wal: {fsync: \(fsync)}
      storage:
        type: local
        base_dir: \(directory)
        local:
          logs: {directory: \(directory)/logs}
          metrics: {directory: \(directory)/metrics}
    state: {backend: \(state)}
    logging: {level: WARN}

    """
  }

  /// The figures are those of a real disk.
  private static func requireDisk(_ path: String) throws {
    let type = try measured("stat -fc %T '\(path)'").text
    guard !type.hasPrefix("tmpfs") else {
      throw BenchmarkError("\(path) is a tmpfs: set JOBLET_BENCH_TMP to a folder on a real disk")
    }
  }
}

/// A line about what goes on, on stderr.
func say(_ text: String) {
  let line = Array("persist: \(text)\n".utf8)
  _ = write(2, line, line.count)
}

func removeTree(_ directory: String) {
  do { try Child(["rm", "-rf", "--one-file-system", directory]).wait() } catch {
    say("can't remove \(directory): \(error)")
  }
}

/// Reads a child's piped output, piece by piece.
func readPipe(_ child: Child, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
  guard let pipe = child.output else { return }
  let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
  defer { buffer.deallocate() }
  while true {
    let count = read(pipe, buffer.baseAddress, buffer.count)
    if count < 0, errno == EINTR { continue }
    guard count > 0 else { return }
    try body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
  }
}

func fileSize(_ path: String) throws -> UInt64 {
  var status = stat()
  guard stat(path, &status) == 0 else { throw BenchmarkError("\(path): \(String(cString: strerror(errno)))") }
  return UInt64(status.st_size)
}

/// The last `seq` of a log file's last whole member, read by the published format alone; 0 if there is none yet.
///
/// A member begins `1F 8B 08 04`, has "JL" at 12, its own length at 24 and its last `seq` at 72, little-endian.
func sealedSeq(_ path: String) throws -> UInt64 {
  let file = open(path, O_RDONLY | O_CLOEXEC)
  guard file >= 0 else {
    guard errno == ENOENT else { throw BenchmarkError("\(path): \(String(cString: strerror(errno)))") }
    return 0
  }
  defer { close(file) }
  let size = Int(lseek(file, 0, SEEK_END))
  let start = max(0, size - (2 << 20))
  var bytes = [UInt8](repeating: 0, count: size - start)
  guard pread(file, &bytes, bytes.count, off_t(start)) == bytes.count, bytes.count > 96 else { return 0 }
  return bytes.withUnsafeBytes { bytes in
    for index in stride(from: bytes.count - 96, through: 0, by: -1) where bytes[index] == 0x1F {
      guard bytes[index + 1] == 0x8B, bytes[index + 2] == 8, bytes[index + 3] == 4, bytes[index + 12] == 0x4A,
        bytes[index + 13] == 0x4C
      else { continue }
      let length = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index + 24, as: UInt64.self))
      guard length == UInt64(bytes.count - index) else { continue }
      return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index + 72, as: UInt64.self))
    }
    return 0
  }
}

/// User and system time of the children that were waited for so far, in seconds.
func childrenCPU() -> Double {
  var usage = rusage()
  getrusage(CInt(RUSAGE_CHILDREN.rawValue), &usage)
  func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
  return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Runs a line of shell to its end; what it printed, how long it took, and what CPU.
func measured(_ script: String, output: Child.Output = .pipe) throws -> (text: String, seconds: Double, cpu: Double) {
  let before = childrenCPU()
  let began = monotonicNow()
  let child = try Child(["bash", "-o", "pipefail", "-c", script], output: output)
  let text = String(decoding: child.readAll(), as: UTF8.self)
  let status = child.wait()
  let seconds = Double(monotonicNow() - began) / 1e9
  guard status == 0 else { throw BenchmarkError("\(script): ended with \(status)") }
  return (text, seconds, childrenCPU() - before)
}
