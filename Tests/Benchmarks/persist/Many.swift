import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `persist_rss_500_jobs`: the peak of persist's memory while 500 jobs write as fast as it takes it.
func measureMemory(_ options: Options) throws {
  let jobs = 500
  let each: UInt64 = 20_000
  try Store.run(options.bin) { store in
    let writer = Writer(store.writeSocket, jobs: jobs, lines: each)
    try Memory.resetPeak(of: store.daemon.pid)
    try writer.run(until: { writer.isDone })
    try store.waitUntilSealed(writer.jobs)
    let peak = try Memory.peak(of: store.daemon.pid)
    try store.requireWhole(writer.jobs)
    Figure("persist_rss_500_jobs", peak, "MiB", count: jobs * Int(each)).print()
  }
}

/// `fsync_always_lines_per_s`: 500 jobs under `fsync: always`, until the last line is acknowledged; and what the disk takes
/// when every job syncs each batch for itself.
func measureAlways(_ options: Options) throws {
  let jobs = 500
  let each: UInt64 = 10_000
  let batch = 100
  try Store.run(options.bin, fsync: "always") { store in
    let latency = try syncEach("\(store.directory)/latency", files: 1, batches: 200, lines: 1)
    Figure("fdatasync_ms", latency.milliseconds, "ms", count: 200).print()

    let writer = Writer(store.writeSocket, jobs: jobs, lines: each)
    writer.chunk = batch
    let began = monotonicNow()
    try writer.run(until: { writer.isDone })
    let seconds = Double(monotonicNow() - began) / 1e9
    try store.waitUntilSealed(writer.jobs)
    try store.requireWhole(writer.jobs)

    let alone = try syncEach("\(store.directory)/alone", files: jobs, batches: 2 * jobs, lines: batch)
    Figure("fsync_always_lines_per_s", Double(each) * Double(jobs) / seconds, "lines/s", count: jobs * Int(each)).print(
      beside: .measured("one fsync a job and batch", alone.linesPerSecond))
  }
}

/// Appends batches of lines to files in turn, each followed by fdatasync(2).
private func syncEach(
  _ folder: String, files: Int, batches: Int, lines: Int
) throws -> (milliseconds: Double, linesPerSecond: Double) {
  guard mkdir(folder, 0o700) == 0 else { throw BenchmarkError("\(folder): errno \(errno)") }
  var descriptors: [CInt] = []
  defer { for descriptor in descriptors { close(descriptor) } }
  for number in 0..<files {
    let file = open("\(folder)/\(number)", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard file >= 0 else { throw BenchmarkError("\(folder)/\(number): errno \(errno)") }
    descriptors.append(file)
  }
  let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: lines * Lines.length, alignment: 16)
  defer { bytes.deallocate() }
  var times: [Double] = []
  let began = monotonicNow()
  for index in 0..<batches {
    let file = descriptors[index % files]
    Lines.fill(bytes, index % files, from: UInt64(index / files * lines + 1))
    guard write(file, bytes.baseAddress, bytes.count) == bytes.count else {
      throw BenchmarkError("write: errno \(errno)")
    }
    let start = monotonicNow()
    guard fdatasync(file) == 0 else { throw BenchmarkError("fdatasync: errno \(errno)") }
    times.append(Double(monotonicNow() - start) / 1e6)
  }
  let seconds = Double(monotonicNow() - began) / 1e9
  return (percentile(50, of: times), Double(batches * lines) / seconds)
}

/// `trickle_ratio`: a hundred jobs write a line a second; bytes on disk against gzip of the same JSON, file by file.
func measureTrickle(_ options: Options) throws {
  let jobs = 100
  let each = UInt64(options.trickleSeconds)
  try Store.run(options.bin) { store in
    let writer = Writer(store.writeSocket, jobs: jobs, lines: each)
    writer.chunk = 1
    writer.timestamp = { _ in .now() }
    let began = monotonicNow()
    writer.written = { UInt64((monotonicNow() - began) / 1_000_000_000) + 1 }
    try writer.run(until: { writer.isDone })
    try store.waitUntilSealed(writer.jobs)
    try store.requireWhole(writer.jobs)
    var stored: UInt64 = 0
    var plain = 0.0
    for job in writer.jobs {
      stored += try fileSize(store.file(job.id))
      let gzip = try measured("zcat '\(store.file(job.id))' | gzip -c | wc -c").text
      plain += Double(gzip.filter(\.isNumber)) ?? .nan
    }
    var figure = Figure("trickle_ratio", Double(stored) / plain, "", count: jobs * Int(each))
    figure.note = "\(each) s, \(stored) bytes on disk, gzip \(Int(plain))"
    figure.print()
  }
}
