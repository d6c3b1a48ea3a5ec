import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

// One job writes ten million lines of 100 bytes as fast as its pipe takes them. The clock runs from the request until the
// last line is acknowledged and visible to a query; the peaks of the three daemons' memory are those of that time.
// Afterwards the stored lines are counted: a figure for lines that were lost is none.

let count = 10_000_000

benchmarkMain {
  try Bed.run(try programs()) { bed in
    let client = try bed.client()
    // The path is warm, and the daemons' memory is what they need when idle.
    let warm = try client.post(bed.job("line-writer", ["1000"]))
    try waitUntil("the first job ended", seconds: 60) {
      stringField("status", in: try client.request("GET", "/v1/jobs/\(warm)").body) == "COMPLETED"
    }
    let daemons = [("api", bed.api), ("exec", bed.exec), ("persist", bed.persist)]
    for (_, daemon) in daemons { try Memory.resetPeak(of: daemon.pid) }

    let started = monotonicNow()
    let id = try client.post(bed.job("line-writer", ["\(count)"]))
    var record = ""
    try waitUntil("the job ended", seconds: 600, pause: 5000) {
      record = try client.request("GET", "/v1/jobs/\(id)").body
      return ["COMPLETED", "FAILED", "STOPPED"].contains(stringField("status", in: record) ?? "")
    }
    guard stringField("status", in: record) == "COMPLETED" else { throw BenchmarkError("the job failed: \(record)") }
    // Records: lines, and one more for each that was read in two parts.
    guard let records = numberField("last_seq", in: record), records >= count else {
      throw BenchmarkError("the job ended with too few lines: \(record)")
    }
    try waitUntil("the last line is visible", seconds: 120, pause: 5000) {
      let last = try client.request("GET", "/v1/jobs/\(id)/logs?tail=1", accept: "application/x-ndjson").body
      return numberField("seq", in: last) == records
    }
    let seconds = Double(monotonicNow() - started) / 1e9
    var peaks: [(String, Double)] = []
    for (name, daemon) in daemons { peaks.append((name, try Memory.peak(of: daemon.pid))) }

    let file = "\(bed.directory)/logs/\(id)/stdout.log.gz"
    var stored = 0
    try waitUntil("all lines are in \(file)", seconds: 300, pause: 1_000_000) {
      let counted = try Child(["bash", "-c", "zcat '\(file)' | grep -vc '\"partial\":true'"], output: .pipe)
      stored = Int(String(decoding: counted.readAll(), as: UTF8.self).filter(\.isNumber)) ?? 0
      counted.wait()
      return stored >= count
    }
    guard stored == count else { throw BenchmarkError("\(stored) lines are stored, \(count) were written") }

    Figure("ingest_one_job", Double(count) / seconds, "lines/s", count: count, limits: bed.hasLimits).print()
    for (name, peak) in peaks { Figure("peak_rss_\(name)", peak, "MiB", count: 1).print() }
  }
}
