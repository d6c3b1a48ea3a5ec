import Glibc
import JobletModel

/// What this process uses: of its daemon's own metrics. What can't be read is nil, never 0.
public struct ProcessFigures: Sendable, Hashable {
  /// User and system time since its start (getrusage(2)), in seconds.
  public var cpuSeconds: Double?
  /// Resident memory (proc_pid_statm(5)).
  public var residentBytes: Int64?
  public var openFiles: Int?

  public init() {}

  /// Of this process, now. Reads `/proc/self`; blocks for microseconds.
  public static func own() -> ProcessFigures {
    var figures = ProcessFigures()
    var usage = rusage()
    if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
      let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
      let microseconds = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec
      figures.cpuSeconds = Double(seconds) + Double(microseconds) / 1e6
    }
    figures.residentBytes = residentPages().map { $0 * Int64(sysconf(Int32(_SC_PAGESIZE))) }
    figures.openFiles = countOpenFiles()
    return figures
  }

  private static func residentPages() -> Int64? {
    let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = read(file, &bytes, bytes.count)
    guard count > 0 else { return nil }
    let words = bytes[..<count].split(separator: UInt8(ascii: " "))
    return words.count > 1 ? Int64(String(decoding: words[1], as: UTF8.self)) : nil
  }

  private static func countOpenFiles() -> Int? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return max(0, count - 3)  // `.`, `..`, and the one that reads them
  }

  /// Writes them as `process_*`, below the daemon's prefix.
  package func write(to out: inout PrometheusText) {
    if let cpuSeconds { out.counter("process_cpu_seconds_total", "CPU time of the process.", cpuSeconds) }
    out.gauge("process_resident_bytes", "Resident memory of the process.", ifKnown: residentBytes)
    out.gauge("process_open_files", "Descriptors the process holds.", ifKnown: openFiles)
  }
}
