import BenchmarkKit
import JobletModel

#if canImport(Glibc)
  import Glibc
#endif

/// `power_cut_lost`: the installed joblet-persist of a test host takes lines under `fsync: always`; what it acknowledged is
/// printed out of that host. Its kernel is then killed with SIGKILL in the middle of the flood, and booted again with the
/// same disk: every line that was acknowledged must be there.
///
/// What that shows: the guest's memory is gone, its page cache and file systems' journals in flight with it, so whatever was
/// acknowledged without a sync that reached the block device is lost. What it does not show: that the device itself kept a
/// sync's promise. Blocks that left the guest are in this machine's page cache and survive, flushed or not.
struct PowerCut {
  let options: Options
  /// The clone, with contrib/testhost in it.
  let root: String
  /// How long lines are written before the cut.
  static let seconds: Int64 = 5
  static let jobs = 8

  static func measure(_ options: Options) throws {
    guard let root = getenv("JOBLET_BENCH_ROOT").map({ String(cString: $0) }) else {
      throw BenchmarkError("JOBLET_BENCH_ROOT is not set; contrib/bench sets it")
    }
    try PowerCut(options: options, root: root).run()
  }

  private func run() throws {
    let parent = getenv("JOBLET_BENCH_TMP").map { String(cString: $0) } ?? "/var/tmp"
    var template = Array("\(parent)/joblet-cut.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchmarkError("\(parent): \(String(cString: strerror(errno)))") }
    let folder = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { removeTree(folder) }
    setenv("JOBLET_TESTHOST_DATA", "\(folder)/data.ext4", 1)

    let acknowledged = try cut()
    let total = acknowledged.values.reduce(0, +)
    guard total > 1000 else { throw BenchmarkError("only \(total) lines were acknowledged before the cut") }
    say("the host is dead; \(total) lines were acknowledged by then. It boots again")
    let argument = acknowledged.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value)" }.joined(separator: ",")
    let check = try Child(
      ["\(root)/contrib/testhost", "run", root, script("--power-cut-check '\(argument)'", isFirst: false)],
      output: .pipe)
    let text = String(decoding: check.readAll(), as: UTF8.self)
    guard check.wait() == 0, let words = text.split(separator: "\n").last(where: { $0.hasPrefix("checked ") }) else {
      throw BenchmarkError("the check on the second boot failed: \(text)")
    }
    let numbers = words.split(separator: " ").compactMap { UInt64($0) }
    guard numbers.count == 2, numbers[0] == total else { throw BenchmarkError("the check says '\(words)' of \(total)") }
    var figure = Figure("power_cut_lost", Double(numbers[1]), "lines", count: Int(total))
    figure.note = "fsync: \(options.cutPolicy); the guest's kernel killed, this machine's page cache kept"
    figure.print()
    guard numbers[1] == 0 || options.cutPolicy != "always" else { throw BenchmarkError("\(numbers[1]) lines are lost") }
  }

  /// What runs in the test host: Joblet's own data is on the disk that stays.
  private func script(_ command: String, isFirst: Bool) -> String {
    let policy =
      isFirst ? "sed -i 's/^    fsync: interval/    fsync: \(options.cutPolicy)/' /opt/joblet/joblet-config.yml" : ":"
    let persist = "\(root)/.build/release/persist-benchmark --bin . --jobs . --only power-cut"
    return """
      set -e
      mkdir -p /opt/joblet
      mount /dev/ubdb /opt/joblet
      JOBLET_JOBS_SIZE=0 contrib/install --no-start >&2
      \(policy)
      grep -q '^    fsync: \(options.cutPolicy)' /opt/joblet/joblet-config.yml
      systemctl start joblet-persist.service
      \(isFirst ? "sync" : "journalctl -q -u joblet-persist -o cat >&2")
      exec \(persist) \(command)
      """
  }

  /// Writes in the test host until it is killed. Answers the last line of each job whose acknowledgement came out of it.
  private func cut() throws -> [Int: UInt64] {
    let host = try Child(
      ["\(root)/contrib/testhost", "run", root, script("--power-cut-write yes", isFirst: true)], output: .pipe)
    var acknowledged: [Int: UInt64] = [:]
    var rest = ""
    var deadline = Int64.max
    var buffer = [UInt8](repeating: 0, count: 65_536)
    guard let pipe = host.output else { throw BenchmarkError("no pipe") }
    while monotonicNow() < deadline {
      let count = read(pipe, &buffer, buffer.count)
      guard count > 0 else {
        host.wait()
        throw BenchmarkError("the test host ended before it was cut")
      }
      rest += String(decoding: buffer[..<count], as: UTF8.self)
      while let end = rest.firstIndex(of: "\n") {
        let words = rest[..<end].split(separator: " ")
        rest = String(rest[rest.index(after: end)...])
        guard words.count == 3, words[0] == "acknowledged", let job = Int(words[1]), let seq = UInt64(words[2]) else {
          continue
        }
        acknowledged[job] = seq
        if deadline == .max { deadline = monotonicNow() + PowerCut.seconds * 1_000_000_000 }
      }
    }
    for pid in try kernelProcesses(of: host.pid) { kill(pid, SIGKILL) }
    _ = host.readAll()
    guard host.wait() != 0 else { throw BenchmarkError("the test host ended as if nothing had happened") }
    return acknowledged
  }

  /// The guest's kernel and everything it started, among the processes below `ancestor`; the kernel first.
  private func kernelProcesses(of ancestor: pid_t) throws -> [pid_t] {
    var children: [pid_t: [pid_t]] = [:]
    guard let listing = opendir("/proc") else { throw BenchmarkError("/proc: errno \(errno)") }
    defer { closedir(listing) }
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let pid = pid_t(name), let text = try? readFile("/proc/\(pid)/stat") else { continue }  // ended meanwhile
      let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
      if fields.count > 2, let parent = pid_t(fields[2]) { children[parent, default: []].append(pid) }
    }
    func below(_ pid: pid_t) -> [pid_t] { [pid] + (children[pid] ?? []).flatMap(below) }
    let kernel = below(ancestor).first { pid in
      let words = ((try? readFile("/proc/\(pid)/cmdline")) ?? "").split(separator: "\0")
      return words.contains { $0.hasPrefix("joblet.control=") } && words[0].split(separator: "/").last != "timeout"
    }
    guard let kernel else { throw BenchmarkError("the test host's kernel is not among its processes") }
    return below(kernel)
  }

  // MARK: In the test host

  /// Writes as fast as it goes, and prints each job's last acknowledged line again and again, until the host dies.
  static func write() throws {
    let writer = Writer("/opt/joblet/run/persist-ipc.sock", jobs: jobs, lines: .max / 2)
    writer.chunk = 100
    var printed = [UInt64](repeating: 0, count: jobs)
    try writer.run(until: { false }) {
      var text = ""
      for job in writer.jobs where job.acknowledged > printed[job.number] {
        printed[job.number] = job.acknowledged
        text += "acknowledged \(job.number) \(job.acknowledged)\n"
      }
      guard !text.isEmpty else { return }
      let bytes = Array(text.utf8)
      guard Glibc.write(1, bytes, bytes.count) == bytes.count else { throw BenchmarkError("stdout: errno \(errno)") }
    }
  }

  /// Looks for every line up to those of `list`, `JOB:LAST,…`. Prints how many were looked for and how many are missing.
  static func check(_ list: String) throws {
    var total: UInt64 = 0
    var lost: UInt64 = 0
    try waitUntil("joblet-persist answers", seconds: 300) { answersPing("/opt/joblet/run/persist-query.sock") }
    for item in list.split(separator: ",") {
      let numbers = item.split(separator: ":").compactMap { UInt64($0) }
      guard numbers.count == 2 else { throw BenchmarkError("'\(item)' is not JOB:LAST") }
      var checker = LineChecker(job: Int(numbers[0]))
      defer { checker.free() }
      let job = Lines.job(Int(numbers[0]))
      _ = try query("/opt/joblet/run/persist-query.sock", LogQuery(job: job, through: numbers[1])) {
        try checker.take($0)
      }
      try checker.end(total: numbers[1])
      guard checker.doubled == 0 else { throw BenchmarkError("job \(numbers[0]) has \(checker.doubled) lines twice") }
      total += numbers[1]
      lost += checker.lost
    }
    print("checked \(total) \(lost)")
  }
}
