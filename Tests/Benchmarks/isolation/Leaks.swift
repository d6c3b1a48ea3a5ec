import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// What is left of many thousands of jobs: of everything that a job is made of there must be as much as before them.
func measureLeaks(_ options: Options) throws {
  var settings = Bed.Settings()
  settings.state = "local"
  try Bed.run(options.programs, settings) { bed in
    let program = try ownProgram(bed)
    // What is allocated once and kept is there after these, and the stock of sandboxes has been through their IDs.
    _ = try ownRate(bed, seconds: 3, program: program)
    let before = try settled(bed, than: nil)
    let (count, _, _) = try ownRate(bed, seconds: options.seconds, program: program)
    let after = try settled(bed, than: before)
    var left = 0
    for (before, after) in zip(before.counts, after.counts) {
      let more = max(0, after.value - before.value)
      left += more
      var figure = Figure("left_\(before.key)", Double(more), "", count: count)
      figure.note = "before \(before.value), after \(after.value)"
      figure.print()
    }
    for (before, after) in zip(before.kernel, after.kernel) {
      var figure = Figure("kernel_objects_\(before.key)", Double(after.value - before.value), "", count: count)
      figure.note = "slab objects of the whole machine: before \(before.value), after \(after.value)"
      figure.print()
    }
    Figure("left_after_jobs", Double(left), "", count: count).print()
  }
}

/// Counts once they stand still, or are no more than before: teardown goes on behind a job's end, and so does the stock's refill.
private func settled(_ bed: Bed, than before: Held?) throws -> Held {
  var last = try Held(bed)
  for _ in 0..<40 {
    usleep(500_000)
    let next = try Held(bed)
    let isStill = next.counts.elementsEqual(last.counts) { $0 == $1 }
    last = next
    let isDown = before.map { old in zip(old.counts, next.counts).allSatisfy { $0.value >= $1.value } } ?? true
    if isStill, isDown { break }
  }
  return last
}

/// How many there are of the things that jobs are made of: the bed's own.
private struct Held {
  var counts: KeyValuePairs<String, Int> = [:]
  /// Active objects of the kernel's caches, by /proc/slabinfo (slabinfo(5)); of the whole machine, and let go of late.
  var kernel: KeyValuePairs<String, Int> = [:]

  init(_ bed: Bed) throws {
    func lines(_ command: String) throws -> Int {
      let child = try Child(["bash", "-c", command], output: .pipe)
      let text = String(decoding: child.readAll(), as: UTF8.self)
      guard child.wait() == 0 else { throw BenchmarkError("failed: \(command)") }
      return text.utf8.count { $0 == UInt8(ascii: "\n") }
    }
    let daemons = [bed.api.pid, bed.exec.pid, bed.persist.pid]
    func each(_ path: String) throws -> Int { try daemons.reduce(0) { try $0 + lines("ls /proc/\($1)/\(path)") } }
    let processes = "find '\(bed.cgroup)' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u"
    counts = [
      "state_directories": try lines("ls '\(bed.state)/jobs'; ls '\(bed.state)/prepared'"),
      "workspaces": try lines("ls '\(bed.directory)/jobs'"),
      "cgroups": try lines("find '\(bed.cgroup)' -type d"),
      "processes": try lines(processes),
      "namespaces": try lines("for p in $(\(processes)); do readlink /proc/$p/ns/*; done | sort -u"),
      "mounts": try daemons.reduce(0) { try $0 + lines("cat /proc/\($1)/mounts") },
      "descriptors": try each("fd"),
      "threads": try each("task"),
    ]
    let slabs = try readFile("/proc/slabinfo")
    func objects(_ name: String) -> Int {
      for line in slabs.split(separator: "\n") {
        let fields = line.split(separator: " ")
        if fields.count > 2, fields[0] == name { return Int(fields[1]) ?? 0 }
      }
      return 0
    }
    kernel = [
      "user_namespace": objects("user_namespace"), "net_namespace": objects("net_namespace"),
      "pid_namespace": objects("pid_namespace"), "mnt_cache": objects("mnt_cache"), "nsproxy": objects("nsproxy"),
    ]
  }
}
