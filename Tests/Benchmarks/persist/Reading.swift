import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `scan_lines_per_s`, `range_first_line_ms`, `range_first_line_cold_ms` and `tail_ms`, over one job with 1 GiB of lines.
func measureReading(_ options: Options) throws {
  let total = UInt64(1 << 30) / UInt64(Lines.length)
  try Store.run(options.bin) { store in
    let writer = Writer(store.writeSocket, jobs: 1, lines: total)
    try writer.run(until: { writer.isDone })
    try store.waitUntilSealed(writer.jobs)
    say("1 GiB of lines is sealed; comparing every line")
    try store.requireWhole(writer.jobs)
    let bench = Reading(store: store, job: Lines.job(0), total: total)
    if options.includes("scan") { try bench.scan() }
    if options.includes("range") { try bench.range() }
    if options.includes("tail") { try bench.tail() }
  }
}

private struct Reading {
  let store: Store
  let job: JobID
  let total: UInt64
  var file: String { store.file(job) }

  func scan() throws {
    var expected: UInt64 = 0
    for seq in 1...total where Lines.hasNeedle(0, seq) { expected += 1 }
    var times: [Double] = []
    for round in 0..<4 {
      let answer = try query(store.querySocket, LogQuery(job: job, stream: .stdout, filter: Lines.needle))
      guard answer.lines == expected else {
        throw BenchmarkError("the scan gave \(answer.lines) lines; \(expected) have '\(Lines.needle)'")
      }
      if round > 0 { times.append(answer.all / 1000) }  // the first one warms the cache
    }
    let zgrep = try measured("zgrep -c '\(Lines.needle)' '\(file)'")
    guard UInt64(zgrep.text.filter(\.isNumber)) == expected else {
      throw BenchmarkError("zgrep -c counts \(zgrep.text), not \(expected)")
    }
    Figure("scan_lines_per_s", Double(total) / percentile(50, of: times), "lines/s", count: times.count).print(
      beside: .measured("zgrep -c", Double(total) / zgrep.seconds))
  }

  func range() throws {
    // A second in the middle: a hundred chunks, which one timestamp each.
    let chunks = total / UInt64(Lines.chunk)
    let first = chunks / 2 * UInt64(Lines.chunk) + 1
    let since = Lines.timestamp(first)
    let until = Timestamp(nanoseconds: since.nanoseconds + 999_999_999)
    let count = UInt64(1_000_000_000 / Lines.chunkInterval) * UInt64(Lines.chunk)
    func ask() throws -> Double {
      let answer = try query(store.querySocket, LogQuery(job: job, since: since, until: until))
      guard answer.firstSeq == first, answer.lines == count, answer.lastSeq == first + count - 1 else {
        throw BenchmarkError(
          "the range gave \(answer.lines) lines from \(answer.firstSeq ?? 0) to \(answer.lastSeq), not \(count) from \(first)"
        )
      }
      return answer.firstLine
    }
    _ = try ask()
    let warm = try (0..<20).map { _ in try ask() }
    var cold: [Double] = []
    for _ in 0..<5 {
      try dropCaches()
      cold.append(try ask())
    }
    // The first line out of a pipe that has to go through everything before it.
    let text = "select(.ts >= \\\"\(since)\\\" and .ts <= \\\"\(until)\\\")"
    let jq = try measured("{ zcat '\(file)' || true; } | jq -c \"\(text)\" 2>/dev/null | head -n 1; exit 0")
    guard jq.text.contains("\"seq\":\(first),") else { throw BenchmarkError("jq's first line is \(jq.text)") }
    let peer = Figure.Peer.measured("zcat | jq", jq.seconds * 1000)
    Figure("range_first_line_ms", percentile(50, of: warm), "ms", count: warm.count).print(beside: peer)
    Figure("range_first_line_cold_ms", percentile(50, of: cold), "ms", count: cold.count).print(beside: peer)
  }

  func tail() throws {
    var times: [Double] = []
    for round in 0..<21 {
      let answer = try query(store.querySocket, LogQuery(job: job, tail: 100))
      guard answer.lines == 100, answer.firstSeq == total - 99, answer.lastSeq == total else {
        throw BenchmarkError("the tail gave \(answer.lines) lines from \(answer.firstSeq ?? 0) to \(answer.lastSeq)")
      }
      if round > 0 { times.append(answer.all) }
    }
    let zcat = try measured("zcat '\(file)' | tail -n 100")
    guard zcat.text.contains("{\"seq\":\(total),") else { throw BenchmarkError("zcat | tail ends elsewhere") }
    Figure("tail_ms", percentile(50, of: times), "ms", count: times.count).print(
      beside: .measured("zcat | tail", zcat.seconds * 1000))
  }

  /// Takes the store's file out of the page cache, and where this machine lets us, everything else (proc(5), `drop_caches`).
  private func dropCaches() throws {
    sync()
    let drop = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC)
    if drop >= 0 {
      _ = write(drop, "3", 1)
      close(drop)
    }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BenchmarkError("\(file): errno \(errno)") }
    defer { close(descriptor) }
    guard posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0 else { throw BenchmarkError("posix_fadvise") }
    let size = Int(try fileSize(file))
    guard let map = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor, 0), map != MAP_FAILED else {
      throw BenchmarkError("mmap: errno \(errno)")
    }
    defer { munmap(map, size) }
    var resident = [UInt8](repeating: 0, count: (size + 4095) / 4096)
    guard mincore(map, size, &resident) == 0 else { throw BenchmarkError("mincore: errno \(errno)") }
    let left = resident.count { $0 & 1 == 1 }
    guard left == 0 else { throw BenchmarkError("\(left) pages of \(file) stay in the cache: there is no cold figure") }
  }
}
