import BenchmarkKit
import CBenchmark

#if canImport(Glibc)
  import Glibc
#endif

/// `live_latency_p50` and `live_latency_p99`: from a job's write to the line at a client that follows it.
func measureLatency(_ bed: Bed, _ options: Options) throws {
  let id = try start(bed, "pacer", ["0", "1", "5"])
  let followers = try bed.clients.followers("/v1/jobs/\(id)/logs?follow=true&tail=0", count: 1)
  _ = try followers.read(seconds: 1)
  let load = try followers.read(seconds: Double(options.seconds))
  guard load.count > options.seconds * 100 else {
    throw BenchmarkError("only \(load.count) lines came in \(options.seconds) s; the job writes 200 a second")
  }
  for (name, value) in [("live_latency_p50", load.p50), ("live_latency_p99", load.p99)] {
    var figure = Figure(name, value, "ms", count: Int(load.count))
    figure.note = "write in the job to the line at the client; a line every 5 ms"
    figure.print()
  }
}

/// `follow_mb_per_s`: one client that follows a job which writes as fast as it can.
func measureFollow(_ bed: Bed, _ options: Options) throws {
  let id = try start(bed, "line-writer", ["0"])
  for (name, path, note) in [
    ("follow_mb_per_s", "logs?follow=true", "bytes of Server-Sent Events, two and a half times the job's own")
  ] {
    let followers = try bed.clients.followers("/v1/jobs/\(id)/\(path)", count: 1)
    _ = try followers.read(seconds: 1, lines: false)
    let load = try followers.read(seconds: Double(options.seconds), lines: false)
    var figure = Figure(name, Double(load.bytes) / load.seconds / 1e6, "MB/s", count: 1)
    figure.note = note
    figure.print()
  }
}

/// `followers_1000_rss` and `followers_1000_ratio`: a thousand clients follow one job, a hundred of them stall. The ratio is what
/// the others get then to what they got before.
func measureFollowers(_ bed: Bed, _ options: Options) throws {
  // What the stalled ones have not read is far more than the kernel keeps for them.
  let id = try start(bed, "pacer", ["200000", "5", "250"])
  let client = try bed.client()
  try waitUntil("the first lines are there", seconds: 60) {
    let line = try client.request("GET", "/v1/jobs/\(id)/logs?after=200000&limit=1", accept: "application/x-ndjson")
    return numberField("seq", in: line.body) == 200_001
  }
  try Memory.resetPeak(of: bed.api.pid)
  let live = try bed.clients.followers(
    "/v1/jobs/\(id)/logs?follow=true&after=200000", count: options.followers - options.stalled)
  _ = try live.read(seconds: 2)
  let before = try live.read(seconds: Double(options.seconds))
  let stalled = try bed.clients.followers("/v1/jobs/\(id)/logs?follow=true", count: options.stalled, stalled: true)
  _ = try live.read(seconds: 3)
  let after = try live.read(seconds: Double(options.seconds))
  let peak = try Memory.peak(of: bed.api.pid)
  guard before.count > 0, after.slowest > 0 else {
    throw BenchmarkError("a follower got nothing: \(before), then \(after)")
  }
  func perSecond(_ load: benchmark_load) -> Double { Double(load.count) / load.seconds }
  let limit = "\(options.stalled) of \(options.followers) stalled"
  var rss = Figure("followers_1000_rss", peak, "MiB", count: options.followers)
  rss.note = "peak of the gateway; \(limit)"
  rss.print()
  var ratio = Figure(
    "followers_1000_ratio", perSecond(after) / perSecond(before), "of before", count: options.followers)
  ratio.note =
    "\(Int(perSecond(after))) lines/s to the others, the slowest \(after.slowest) of \(after.count / (options.followers - options.stalled)); "
    + "latency p99 \(before.p99) ms before, \(after.p99) ms with \(limit)"
  ratio.print()
  withExtendedLifetime(stalled) {}
}

/// Starts a job and waits until it runs.
private func start(_ bed: Bed, _ program: String, _ arguments: [String]) throws -> String {
  let client = try bed.client()
  let id = try client.post(bed.job(program, arguments))
  try waitUntil("the job runs", seconds: 30) {
    stringField("status", in: try client.request("GET", "/v1/jobs/\(id)").body) == "RUNNING"
  }
  return id
}
