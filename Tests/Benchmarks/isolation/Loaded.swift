import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// What many running jobs cost: memory of the daemons a job, and the start of one more.
func measureLoaded(_ options: Options) throws {
  try Bed.run(options.programs) { bed in
    let client = try bed.client()
    let short = bed.job("first-instruction")
    for _ in 0..<20 { _ = try measureJob(client, short) }
    let idleMemory = try Footprint(bed)
    let idle = options.includes("loaded") ? try Race(bed, peers: [], count: options.starts, every: []) : nil
    let sleeper = "{\"command\":\"/bin/sleep\",\"args\":[\"3600\"]\(bed.limits)}"
    let jobs = try (0..<options.running).map { _ in try client.post(sleeper) }
    for job in jobs {
      try waitUntil("job \(job) runs", seconds: 120) {
        let reply = try client.request("GET", "/v1/jobs/\(job)").body
        guard let status = stringField("status", in: reply), ["INITIALIZING", "RUNNING"].contains(status) else {
          throw BenchmarkError("job \(job) does not run: \(reply)")
        }
        return status == "RUNNING"
      }
    }
    if options.includes("memory") { try reportMemory(bed, idle: idleMemory, jobs: jobs.count) }
    if let idle {
      let loaded = try Race(bed, peers: [], count: options.starts, every: [])
      for percent in [50.0, 99.0] {
        var figure = Figure(
          percent == 50 ? "start_loaded_ratio" : "start_loaded_ratio_p99", loaded.ours(percent) / idle.ours(percent),
          "",
          count: options.starts, limits: bed.hasLimits)
        figure.note =
          "p\(Int(percent)) with \(jobs.count) jobs running \(loaded.ours(percent)) ms, without \(idle.ours(percent)) ms"
        figure.print()
      }
    }
    for job in jobs { _ = try client.request("POST", "/v1/jobs/\(job)/stop", body: "{\"grace\":\"0s\"}") }
    try waitUntil("every job has ended", seconds: 120) { try JobsLeft(bed).isNone }
  }
}

/// The daemons' proportional set sizes, in KiB, without the mapped rings: those are a job's own memory, told apart.
struct Footprint {
  var api: Double
  var exec: Double
  var persist: Double
  var rings: Double
  var sum: Double { api + exec + persist }

  init(_ bed: Bed) throws {
    api = try Memory.mapped(["Pss"], of: bed.api.pid)
    persist = try Memory.mapped(["Pss"], of: bed.persist.pid)
    exec = try Memory.mapped(["Pss"], of: bed.exec.pid, leavingOut: ["/ring"])
    rings = try Memory.mapped(["Pss"], of: bed.exec.pid) - exec
  }
}

private func reportMemory(_ bed: Bed, idle: Footprint, jobs: Int) throws {
  let now = try Footprint(bed)
  let each = { (after: Double, before: Double) in (after - before) / Double(jobs) }
  var figure = Figure("exec_kib_per_job", each(now.sum, idle.sum), "KiB", count: jobs, limits: bed.hasLimits)
  figure.note =
    "PSS beyond idle of \(Int(idle.sum)) KiB: exec \(rounded(each(now.exec, idle.exec))), api \(rounded(each(now.api, idle.api))), persist \(rounded(each(now.persist, idle.persist))); a job's ring beside it: \(rounded(each(now.rings, idle.rings))) mapped by exec"
  figure.print()
  let inits = try JobsLeft(bed).initProcesses()
  guard inits.count >= jobs else { throw BenchmarkError("\(inits.count) joblet-init for \(jobs) jobs") }
  let sizes = try inits.map {
    try Memory.mapped(["Private_Clean", "Private_Dirty"], of: $0, leavingOut: ["/ring", "/ring (deleted)"])
  }
  var memory = Figure("init_private_kib", percentile(50, of: sizes), "KiB", count: sizes.count)
  memory.note = "median of joblet-init with a running job, ring apart; largest \(rounded(sizes.max() ?? 0))"
  memory.print()
}

private func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }

/// What is there of jobs: all of it goes when a job is done, its output stored and its record with persist.
struct JobsLeft {
  private let bed: Bed
  init(_ bed: Bed) { self.bed = bed }

  /// No job has a state directory or a workspace. Sandboxes that are kept ready for jobs to come have both.
  var isNone: Bool {
    get throws {
      guard try names(in: "\(bed.state)/jobs").isEmpty else { return false }
      let workspaces = try names(in: "\(bed.directory)/jobs")
      // Looked at last: what is made ready meanwhile has its state directory before its workspace.
      return workspaces.subtracting(try names(in: "\(bed.state)/prepared")).isEmpty
    }
  }

  /// PID 1 of every job, from exec's note.
  func initProcesses() throws -> [pid_t] {
    try names(in: "\(bed.state)/jobs").compactMap { job in
      let note = try readFile("\(bed.state)/jobs/\(job)/launch")
      return numberField("pid", in: note).map { pid_t($0) }
    }
  }

  /// A job's ID, and a sandbox's name, is a UUID.
  private func names(in directory: String) throws -> Set<String> {
    guard let handle = opendir(directory) else { throw BenchmarkError("\(directory): errno \(errno)") }
    defer { closedir(handle) }
    var names: Set<String> = []
    while let entry = readdir(handle) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.utf8.count == 36, name.utf8.count(where: { $0 == UInt8(ascii: "-") }) == 4 { names.insert(name) }
    }
    return names
  }
}
