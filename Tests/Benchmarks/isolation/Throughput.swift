import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

// Short jobs a second, sustained, their lines persisted, and nothing left to do at the end; beside the bare sequence of system
// calls that makes such a sandbox (before and after, so that a machine that slows down weighs on both), runc and Docker.

/// Clients, and jobs of each that are under way: enough that both cores always have work.
private let posters = 4
private let window = 4
private let peerSeconds = 15

func measureThroughput(_ options: Options) throws {
  let filter = try PayloadFilter()
  var settings = Bed.Settings()
  settings.state = "local"
  try Bed.run(options.programs, settings) { bed in
    let program = "\(bed.directory)/bin/payload.bpf"
    try filter.write(to: program)
    let own = try ownProgram(bed)
    let client = try bed.client()
    for _ in 0..<20 { _ = try measureJob(client, bed.job("first-instruction")) }

    let floorBefore = try floorRate(bed, options, filter: program)
    let before = try [bed.api, bed.exec, bed.persist].map { try CPUTime.own(of: $0.pid) }
    let (count, rate, backlog) = try ownRate(bed, seconds: options.seconds, program: own)
    let spent = try zip([bed.api, bed.exec, bed.persist], before).map { child, before in
      let milliseconds = (try CPUTime.own(of: child.pid) - before) / Double(count)
      return (milliseconds * 100).rounded() / 100
    }
    let floorAfter = try floorRate(bed, options, filter: program)

    let floor = (floorBefore + floorAfter) / 2
    var floorFigure = Figure("jobs_per_s_floor", floor, "1/s", count: Int(floor * Double(2 * peerSeconds)))
    floorFigure.limits = bed.hasLimits
    floorFigure.note = "\(workers) workers; before \(Int(floorBefore)), after \(Int(floorAfter))"
    floorFigure.print()
    var figure = Figure("jobs_per_s", rate, "1/s", count: count, limits: bed.hasLimits)
    figure.note =
      "all ended, stored and cleared away \(Int(backlog)) ms after the last client saw its last job end; CPU time a job: api \(spent[0]) ms, exec \(spent[1]) ms, persist \(spent[2]) ms"
    figure.print(beside: .measured("jobs_per_s_floor", floor))

    do {
      let bundle = "\(bed.directory)/runc"
      if let why = try Peer.runc(bed, filter: filter).warmUp() { throw why }
      let runs = try loops(own, ["runc", "--root", "\(bundle)/state", "run", "--bundle", bundle, "%"])
      figure.print(beside: .measured("runc", runs))
    } catch { figure.print(beside: .absent("runc", why: "\(error)")) }
    do { figure.print(beside: .measured("docker", try dockerRate(bed, own))) } catch {
      figure.print(beside: .absent("docker", why: "\(error)"))
    }
  }
}

/// This program where a bed's processes find it.
func ownProgram(_ bed: Bed) throws -> String {
  let own = "\(bed.directory)/bin/isolation-benchmark"
  guard try Child(["cp", "/proc/\(getpid())/exe", own]).wait() == 0 else {
    throw BenchmarkError("can't copy the program")
  }
  return own
}

/// How many jobs, how many a second until the last trace of them was gone, and how many milliseconds that took after the last end.
func ownRate(_ bed: Bed, seconds: Int, program: String) throws -> (count: Int, rate: Double, backlog: Double) {
  let begin = monotonicNow()
  let clients = try (0..<posters).map { _ in
    try Child(
      [
        program, "--post", bed.directory, bed.base, "\(seconds)", "\(window)",
        bed.job("first-instruction"),
      ], output: .pipe)
  }
  let counts = try clients.map { client in
    let text = String(decoding: client.readAll(), as: UTF8.self)
    guard client.wait() == 0, let count = Int(text.prefix { $0.isNumber }) else {
      throw BenchmarkError("a client failed")
    }
    return count
  }
  let ended = monotonicNow()
  let left = JobsLeft(bed)
  try waitUntil("no trace of a job is left", seconds: 60, pause: 2000) { try left.isNone }
  let gone = monotonicNow()
  let count = counts.reduce(0, +)
  return (count, Double(count) / (Double(gone - begin) / 1e9), Double(gone - ended) / 1e6)
}

private let workers = max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN)))

/// Jobs a second of the bare sequence: one worker a core, each job made, run, its line written to a file, and cleared away.
private func floorRate(_ bed: Bed, _ options: Options, filter: String) throws -> Double {
  let folder = "\(bed.directory)/floor"
  let group = "\(bed.cgroup)-floor"
  guard mkdir(folder, 0o755) == 0 || errno == EEXIST else { throw BenchmarkError("\(folder): errno \(errno)") }
  guard mkdir(group, 0o755) == 0 || errno == EEXIST else { throw BenchmarkError("\(group): errno \(errno)") }
  defer { shell("find '\(group)' -depth -type d -exec rmdir {} + 2>/dev/null") }
  if bed.hasLimits { try writeFile("\(group)/cgroup.subtree_control", "+cpu +memory +pids") }
  var command = [
    "\(options.programs.jobs)/floor", "\(peerSeconds)", "\(workers)", folder, group, filter,
    bed.hasLimits ? "limits" : "none", "\(bed.directory)/bin/first-instruction",
  ]
  command += bed.allowedMounts
  let child = try Child(command, output: .pipe)
  let text = String(decoding: child.readAll(), as: UTF8.self)
  guard child.wait() == 0, let count = Double(text.prefix { $0.isNumber }) else {
    throw BenchmarkError("the bare sequence failed")
  }
  return count / Double(peerSeconds)
}

/// A command's runs a second, four at a time.
private func loops(_ own: String, _ command: [String]) throws -> Double {
  let children = try (0..<posters).map { _ in
    try Child([own, "--loop", "\(peerSeconds)"] + command, output: .pipe)
  }
  let counts = try children.map { child in
    let text = String(decoding: child.readAll(), as: UTF8.self)
    guard child.wait() == 0, let count = Int(text.prefix { $0.isNumber }) else { throw BenchmarkError("a run failed") }
    return count
  }
  return Double(counts.reduce(0, +)) / Double(peerSeconds)
}

/// Docker's, where its daemon runs, from an image of nothing but the program.
private func dockerRate(_ bed: Bed, _ own: String) throws -> Double {
  func run(_ script: String) throws -> Int32 {
    try Child(["bash", "-c", script], output: .file("/dev/null"), errors: .file("/dev/null")).wait()
  }
  guard try run("docker info") == 0 else { throw BenchmarkError("no Docker daemon answers here") }
  let image = "joblet-bench-\(getpid())"
  guard try run("tar -C '\(bed.directory)/bin' -c first-instruction | docker import - \(image)") == 0 else {
    throw BenchmarkError("docker import failed")
  }
  defer { shell("docker rmi -f \(image) >/dev/null 2>&1") }
  return try loops(
    own, ["docker", "run", "--rm", "--network", "none", "--read-only", "--name", "%", image, "/first-instruction"])
}
