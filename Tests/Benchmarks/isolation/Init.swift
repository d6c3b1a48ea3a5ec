import BenchmarkKit
import CBenchmark

#if canImport(Glibc)
  import Glibc
#endif

/// joblet-init as a program: its size, and how long it takes from execve to its first words. Started without a plan and a ring
/// it says on stderr what it is, and that takes it the same way through the kernel as a job's start.
func measureInit(_ options: Options) throws {
  let path = "\(options.programs.daemons)/joblet-init"
  let linked = try Child(["readelf", "--wide", "--program-headers", path], output: .pipe)
  let headers = String(decoding: linked.readAll(), as: UTF8.self)
  guard linked.wait() == 0 else { throw BenchmarkError("readelf could not read \(path)") }
  guard !headers.contains("INTERP"), !headers.contains("DYNAMIC") else {
    throw BenchmarkError("\(path) is not static: it needs a loader")
  }
  var info = stat()
  guard stat(path, &info) == 0 else { throw BenchmarkError("\(path): errno \(errno)") }
  Figure("init_kib", Double(info.st_size) / 1024, "KiB", count: 1).print()

  func firstWord(_ path: String) throws -> Double {
    let time = benchmark_first_word(path)
    guard time > 0 else { throw BenchmarkError("\(path) said nothing (errno \(-time))") }
    return Double(time) / 1e6
  }
  // A static C program of the distribution's libc that writes a line: what the kernel and a libc take.
  let plain = "\(options.programs.jobs)/say"
  var times: [Double] = []
  var plainTimes: [Double] = []
  for _ in 0..<500 {
    times.append(try firstWord(path))
    plainTimes.append(try firstWord(plain))
  }
  let figure = Figure("init_start_ms", percentile(50, of: times), "ms", count: times.count)
  figure.print(beside: .measured("static C program", percentile(50, of: plainTimes)))
}
