import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `kill_lost` and `kill_doubled`: persist is killed with SIGKILL every half second while eight jobs write numbered lines. What
/// writes behaves as exec does: it keeps what is not acknowledged and sends it anew. In the end every line must be in the
/// files once and in order, and a query must give the same.
func measureKills(_ options: Options) throws {
  let jobs = 8
  let interval: Int64 = 500_000_000
  try Store.run(options.bin) { store in
    let writer = Writer(store.writeSocket, jobs: jobs, lines: .max / 2)
    let began = monotonicNow()
    // A pace that leaves something to write at every moment of the run and can be read back in a minute.
    writer.written = { UInt64((monotonicNow() - began) / 1000 * Int64(options.killRate / jobs) / 1_000_000) + 1 }
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
    }
    for (name, value) in [("kill_lost", lost), ("kill_doubled", doubled)] {
      var figure = Figure(name, Double(value), "lines", count: Int(total))
      figure.note = "\(kills) kills in \(options.killSeconds) s"
      figure.print()
    }
    guard lost == 0, doubled == 0 else { throw BenchmarkError("\(lost) lines are lost and \(doubled) doubled") }
  }
}
