import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `ingest_lines_per_s` and `ingest_mib_per_s_per_core`: eight jobs write as fast as persist takes it, `fsync: interval`. The
/// clock runs until the last line is acknowledged and sealed; the lines exist before it starts.
func measureIngest(_ options: Options) throws {
  let jobs = 8
  let each = options.lines / UInt64(jobs)
  let content = Double(each) * Double(jobs * Lines.length) / 1048576
  let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(each) * jobs * Lines.length, alignment: 4096)
  defer { memory.deallocate() }
  for job in 0..<jobs {
    let size = Int(each) * Lines.length
    Lines.fill(UnsafeMutableRawBufferPointer(rebasing: memory[(job * size)..<((job + 1) * size)]), job, from: 1)
  }
  try Store.run(options.bin) { store in
    let writer = Writer(store.writeSocket, jobs: jobs, lines: each)
    writer.memory = UnsafeRawBufferPointer(memory)
    let cpuBefore = try store.cpuSeconds()
    let began = monotonicNow()
    try writer.run(until: { writer.isDone })
    let acknowledged = Double(monotonicNow() - began) / 1e9
    try store.waitUntilSealed(writer.jobs)
    let seconds = Double(monotonicNow() - began) / 1e9
    let cpu = try store.cpuSeconds() - cpuBefore
    say(
      "ingest: acknowledged after \(acknowledged) s, sealed after \(seconds) s, \(cpu) s of CPU; comparing every line")
    try store.requireWhole(writer.jobs)

    let count = Int(each) * jobs
    let lines = Figure("ingest_lines_per_s", Double(count) / seconds, "lines/s", count: count)
    let bytes = Figure("ingest_mib_per_s_per_core", content / cpu, "MiB/s", count: count)
    // gzip gets one job's JSON from a file in the page cache.
    let json = "\(store.directory)/json"
    _ = try measured("zcat '\(store.file(Lines.job(0)))' >'\(json)'")
    let gzip = try measured("gzip -1 -c '\(json)' | wc -c")
    lines.print(beside: .measured("gzip -1", Double(each) / gzip.seconds))
    bytes.print(beside: .measured("gzip -1", content / Double(jobs) / gzip.cpu))
    do {
      let journald = try measureJournald(
        store.directory, memory: UnsafeRawBufferPointer(memory), jobs: jobs, each: each)
      lines.print(beside: .measured("journald", journald.linesPerSecond))
      bytes.print(beside: .measured("journald", journald.mebibytesPerCore))
    } catch {
      lines.print(beside: .absent("journald", why: "\(error)"))
      bytes.print(beside: .absent("journald", why: "\(error)"))
    }
  }
}

/// The same lines (fewer: it is slower) through one systemd-cat a job, until the journal has them all. The journal lies in
/// memory (`Storage=volatile`), which spares journald the disk.
private func measureJournald(
  _ directory: String, memory: UnsafeRawBufferPointer, jobs: Int, each: UInt64
) throws -> (linesPerSecond: Double, mebibytesPerCore: Double) {
  let folder = "\(directory)/journald"
  guard mkdir(folder, 0o755) == 0 else { throw BenchmarkError("\(folder): errno \(errno)") }
  let count = min(each, 25_000)
  for job in 0..<jobs {
    let file = open("\(folder)/lines.\(job)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw BenchmarkError("\(folder)/lines.\(job): errno \(errno)") }
    defer { close(file) }
    let from = job * Int(each) * Lines.length
    let length = Int(count) * Lines.length
    guard write(file, memory.baseAddress.map { $0 + from }, length) == length else {
      throw BenchmarkError("\(folder)/lines.\(job): short write")
    }
  }
  guard let script = getenv("JOBLET_BENCH_JOURNALD") else {
    throw BenchmarkError("JOBLET_BENCH_JOURNALD is not set; contrib/bench sets it")
  }
  _ = try measured("cp '\(String(cString: script))' '\(folder)/run'")
  var command = "'\(folder)/run' '\(folder)'"
  if access("/run/systemd/system", F_OK) != 0 {
    guard let host = getenv("JOBLET_BENCH_SYSTEMD_HOST"), let image = getenv("JOBLET_BENCH_SYSTEMD_IMAGE") else {
      throw BenchmarkError("systemd is not PID 1 here and there is no image to start it from (contrib/testhost image)")
    }
    command = "'\(String(cString: host))' '\(String(cString: image))' '\(folder)' \(command)"
  }
  let numbers = try measured(command).text.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
  guard numbers.count == 3 else { throw BenchmarkError("the measurement printed \(numbers.count) numbers, not 3") }
  guard numbers[0] == Double(count) * Double(jobs) else {
    throw BenchmarkError("the journal has \(Int(numbers[0])) of \(Int(count) * jobs) lines")
  }
  let content = numbers[0] * Double(Lines.length) / 1048576
  return (numbers[0] / (numbers[1] / 1e9), content / numbers[2])
}
