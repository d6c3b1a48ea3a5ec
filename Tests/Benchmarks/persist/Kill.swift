import BenchmarkKit
import FoundationEssentials
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `kill_lost` and `kill_doubled`: persist is killed with SIGKILL every half second while eight jobs write numbered lines. What
/// writes behaves as exec does: it keeps what is not acknowledged and sends it anew. In the end every line must be in the
/// files once and in order, and a query must give the same; so must every metrics sample, and the job's last record.
func measureKills(_ options: Options) throws {
  let jobs = 8
  let interval: Int64 = 500_000_000
  try Store.run(options.bin, state: "local") { store in
    let writer = Writer(store.writeSocket, jobs: jobs, lines: .max / 2)
    let began = monotonicNow()
    // A pace that leaves something to write at every moment of the run and can be read back in a minute.
    let pace = { (perSecond: Int64) in UInt64((monotonicNow() - began) / 1000 * perSecond / 1_000_000) + 1 }
    writer.written = { pace(Int64(options.killRate / jobs)) }
    writer.sampled = { pace(10) }
    writer.recorded = { pace(2) }
    let end = began + Int64(options.killSeconds) * 1_000_000_000
    var next = began + interval
    var kills = 0
    var stalled = 0
    var before: UInt64 = 0
    try writer.run(until: { monotonicNow() >= end }) {
      guard monotonicNow() >= next else { return }
      try store.killAndRestart()
      kills += 1
      next = monotonicNow() + interval
      if writer.acknowledgedLines == before { stalled += 1 }
      before = writer.acknowledgedLines
    }
    writer.finish()
    let (samples, version) = (writer.sampled(), writer.recorded())
    writer.sampled = { samples }
    writer.recorded = { version }
    try writer.run(until: { writer.isDone })
    try store.waitUntilReady()
    try store.waitUntilSealed(writer.jobs)
    let total = writer.jobs.reduce(0) { $0 + $1.total }
    say(
      "\(kills) kills, \(writer.reconnects) reconnects, \(total) lines, nothing acknowledged between \(stalled) kills")
    guard total > UInt64(options.killRate / 10 * options.killSeconds), stalled * 2 < max(kills, 1) else {
      throw BenchmarkError(
        "hardly anything was written between the kills: \(total) lines, \(stalled) of \(kills) in vain")
    }
    let files = try store.checkFiles(writer.jobs)
    var lost = files.lost
    var doubled = files.doubled
    for job in writer.jobs {
      var checker = LineChecker(job: job.number)
      defer { checker.free() }
      _ = try query(store.querySocket, LogQuery(job: job.id)) { try checker.take($0) }
      try checker.end(total: job.total)
      lost = max(lost, checker.lost)
      doubled = max(doubled, checker.doubled)
      try checkRest(store, job, samples: samples, version: version)
    }
    for (name, value) in [("kill_lost", lost), ("kill_doubled", doubled)] {
      var figure = Figure(name, Double(value), "lines", count: Int(total))
      figure.note = "\(kills) kills in \(options.killSeconds) s"
      figure.print()
    }
    guard lost == 0, doubled == 0 else { throw BenchmarkError("\(lost) lines are lost and \(doubled) doubled") }
  }
}

/// Throws unless the job's samples are in its file and in a query's answer, each once and in order, and its record is the last.
private func checkRest(_ store: Store, _ job: Writer.Job, samples: UInt64, version: UInt64) throws {
  let wanted = (1...samples).map { Lines.sample($0).line }.joined()
  let file = "\(store.directory)/metrics/\(job.id)/metrics.jsonl.gz"
  try waitUntil("\(file) is sealed", seconds: 60) { try sealedSeq(file) >= samples }
  guard try measured("zcat '\(file)'").text == wanted else {
    throw BenchmarkError("\(file) has not the \(samples) samples that were written")
  }
  guard try ask(store.querySocket, .queryMetrics, job.id, MetricQuery(job: job.id)) == Array(wanted.utf8) else {
    throw BenchmarkError("a query gives other samples of job \(job.number) than were written")
  }
  let record = try ask(store.querySocket, .getRecord, job.id, nil as MetricQuery?)
  guard try JSONDecoder().decode(JobRecord.self, from: Data(record)).version == version else {
    throw BenchmarkError(
      "the record of job \(job.number) is not version \(version): \(String(decoding: record, as: UTF8.self))")
  }
}
