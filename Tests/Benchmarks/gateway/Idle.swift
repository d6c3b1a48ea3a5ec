import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// `idle_pss_mib`: the three daemons' memory when nothing runs, pages they share counted once (proc(5), `smaps_rollup`).
func measureIdle(_ bed: Bed, _ options: Options) throws {
  let daemons = [("joblet-api", bed.api), ("joblet-exec", bed.exec), ("joblet-persist", bed.persist)]
  func pss() throws -> [(name: String, mebibytes: Double)] {
    try daemons.map { ($0.0, try Memory.mapped(["Pss"], of: $0.1.pid) / 1024) }
  }
  // What a start leaves behind is gone by then.
  sleep(5)
  let idle = try pss()
  // And after work: what jobs needed is given back.
  let client = try bed.client()
  for _ in 0..<50 {
    let id = try client.post(bed.job("first-instruction"))
    try waitUntil("the job ends", seconds: 30) {
      stringField("ended_at", in: try client.request("GET", "/v1/jobs/\(id)").body) != nil
    }
  }
  sleep(5)
  let after = try pss()
  func text(_ all: [(name: String, mebibytes: Double)]) -> String {
    all.map { "\($0.name) \(Int($0.mebibytes.rounded()))" }.joined(separator: ", ")
  }
  func sum(_ all: [(name: String, mebibytes: Double)]) -> Double { all.map(\.mebibytes).reduce(0, +) }
  var figure = Figure("idle_pss_mib", sum(idle), "MiB", count: daemons.count)
  figure.note = "\(text(idle)); after 50 jobs \(Int(sum(after).rounded())): \(text(after))"
  figure.print()
}
