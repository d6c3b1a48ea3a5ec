import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

// A job floods its output for a minute; twenty clients follow it as Server-Sent Events, read until their pipes are full
// (64 KiB) and never again. The figure is the gateway's peak of memory in that minute.

let followers = 20
let seconds: Int64 = 60

/// Bytes that wait in a pipe.
func waiting(_ pipe: CInt) -> Int {
  var count: CInt = 0
  return ioctl(pipe, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
}

benchmarkMain {
  try Bed.run(try programs()) { bed in
    let client = try bed.client()
    let id = try client.post(bed.job("line-writer", ["0"]))
    try waitUntil("the job runs", seconds: 30) {
      stringField("status", in: try client.request("GET", "/v1/jobs/\(id)").body) == "RUNNING"
    }
    try Memory.resetPeak(of: bed.api.pid)
    let stalled = try (0..<followers).map { _ in
      try Child(
        bed.curl + ["-H", "Accept: text/event-stream", "\(bed.base)/v1/jobs/\(id)/logs?follow=true"], output: .pipe)
    }
    defer {
      for child in stalled {
        child.signal(SIGKILL)
        child.wait()
      }
    }
    try waitUntil("every follower is stalled", seconds: 60) {
      stalled.allSatisfy { $0.output.map { waiting($0) >= 60_000 } ?? false }
    }
    /// Whether the job has written so many lines.
    func hasReached(_ seq: Int64) throws -> Bool {
      let line = try client.request(
        "GET", "/v1/jobs/\(id)/logs?after=\(seq - 1)&limit=1", accept: "application/x-ndjson")
      return numberField("seq", in: line.body) == seq
    }
    var goal: Int64 = 1 << 16
    while try hasReached(goal) { goal *= 2 }
    let deadline = monotonicNow() + seconds * 1_000_000_000
    while monotonicNow() < deadline { usleep(500_000) }
    let peak = try Memory.peak(of: bed.api.pid)
    guard stalled.allSatisfy(\.isRunning) else { throw BenchmarkError("a follower did not stay for the whole time") }
    guard try hasReached(goal) else { throw BenchmarkError("the job did not go on: line \(goal) is not there") }
    _ = try client.request("POST", "/v1/jobs/\(id)/stop", body: "{\"grace\":\"1s\"}")
    try waitUntil("the job is stopped", seconds: 60) {
      stringField("status", in: try client.request("GET", "/v1/jobs/\(id)").body) == "STOPPED"
    }
    Figure("stalled_followers_rss", peak, "MiB", count: followers, limits: bed.hasLimits).print()
  }
}
