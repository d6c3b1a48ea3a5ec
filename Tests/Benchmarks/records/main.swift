import BenchmarkKit
import FoundationEssentials
import Glibc
import JobletModel
import StateStore

// The page of a job list: 100 records of one status among a million, from the store that joblet-persist uses, on a real disk.
// Every page is compared with what was put, so that a page that leaves something out has no figure.
//
//   records [--records N] [--folder PATH]

/// What the generator knows about the records without keeping them.
struct Population {
  let count: Int
  /// One day of a busy node: a job every 86 ms.
  let start: Int64 = 1_795_000_000_000
  let step: Int64 = 86

  static let commands = ["python3", "/bin/sh", "npm", "go", "make"]
  static let owners = ["alice", "bob", "ci-runner", "agent-7", "nightly"]
  static let teams = ["red", "green", "blue", "violet"]

  func id(_ number: Int) -> JobID {
    let mixed = UInt64(number) &* 0x9E37_79B9_7F4A_7C15
    return JobID(
      now: Timestamp(nanoseconds: (start + Int64(number) * step) * 1_000_000), node: 7, random: mixed ^ (mixed >> 29))
  }

  /// Most jobs complete, one in ten fails, one in a hundred is stopped, the newest few run.
  func status(_ number: Int) -> JobStatus {
    if number >= count - 200 { return .running }
    if number % 100 == 50 { return .stopped }
    return number % 10 == 3 ? .failed : .completed
  }

  func record(_ number: Int) -> JobRecord {
    var request = JobRequest(command: Population.commands[number % 5])
    request.name = "job-\(number)"
    request.args = ["/work/main.py", "--shard", "\(number % 997)", "--seed", "\(number &* 7919 % 1_000_003)"]
    request.env = ["CI": "1", "PATH": "/usr/local/bin:/usr/bin:/bin"]
    request.labels = ["team": Population.teams[number % 4], "build": "b\(number / 1000)"]
    request.limits.memoryMB = 512
    let created = Timestamp(nanoseconds: (start + Int64(number) * step) * 1_000_000 + 400_000)
    var record = JobRecord(
      id: id(number), request: request, status: status(number), createdAt: created, nodeID: "node-1",
      owner: Population.owners[number % 5])
    record.version = 4
    record.startedAt = created
    if record.status.isEnded {
      record.endedAt = Timestamp(nanoseconds: created.nanoseconds + 5_000_000_000)
      record.exitCode = record.status == .completed ? 0 : 1
      record.reason = record.status == .failed ? .exitCode : nil
      record.lastSeq = UInt64(number % 1000)
      record.usage = JobUsage(cpuUsec: 1_000_000, memoryPeakBytes: 100 << 20, ioReadBytes: 0, ioWriteBytes: 4096)
    }
    return record
  }

  /// The numbers of a page of some status, newest first, from below `number` on.
  func page(_ statuses: [JobStatus], below number: Int, limit: Int) -> [Int] {
    var found: [Int] = []
    var number = number
    while number > 0, found.count < limit {
      number -= 1
      if statuses.contains(status(number)) { found.append(number) }
    }
    return found
  }
}

func fill(_ store: SQLiteStateStore, _ population: Population) throws {
  let batch = 5000
  let begin = monotonicNow()
  for first in stride(from: 0, to: population.count, by: batch) {
    try store.put((first..<min(first + batch, population.count)).map(population.record))
  }
  try store.sync()
  let seconds = Double(monotonicNow() - begin) / 1e9
  Figure("records_put_per_s", Double(population.count) / seconds, "1/s", count: population.count).print()
}

/// A page as a client has it: a search whose time was up goes on.
func fullPage(_ store: SQLiteStateStore, _ query: RecordQuery) throws -> (page: StoredPage, milliseconds: Double) {
  var query = query
  let begin = monotonicNow()
  var page = try store.page(query)
  while let next = page.next, page.records.count < query.limit {
    query.before = next
    query.limit -= page.records.count
    let more = try store.page(query)
    page.records += more.records
    page.next = more.next
  }
  return (page, Double(monotonicNow() - begin) / 1e6)
}

/// Times a query and holds its page against the numbers it must have.
func timed(_ store: SQLiteStateStore, _ query: RecordQuery, _ wanted: [JobID]) throws -> Double {
  let (page, milliseconds) = try fullPage(store, query)
  guard page.records.map(\.id) == wanted else { throw BenchmarkError("a page is not what was put: \(query)") }
  return milliseconds
}

func report(_ name: String, _ samples: [Double], _ note: String) {
  var figure = Figure(name, percentile(50, of: samples), "ms", count: samples.count)
  figure.note = "\(note); max \(((samples.max() ?? .nan) * 100).rounded() / 100) ms"
  figure.print()
}

func measure(_ store: SQLiteStateStore, _ population: Population) throws {
  let count = population.count
  var all: [Double] = []
  for (place, depth) in [("newest", 0.0), ("middle", 0.5), ("end", 0.99)] {
    var samples: [Double] = []
    for round in 0..<200 {
      let statuses: [JobStatus] = [[.completed], [.failed], [.stopped], [.failed, .stopped]][round % 4]
      let below = count - Int(Double(count) * depth) - round * 37 % (count / 1000 + 1)
      let query = RecordQuery(
        statuses: statuses, before: below < count ? population.id(below) : nil, limit: 100)
      let wanted = population.page(statuses, below: min(below, count), limit: 100)
      samples.append(try timed(store, query, wanted.map(population.id)))
    }
    report("list_page_\(place)_ms", samples, "100 of \(count) records by status, warm")
    all += samples
  }
  report("list_page_ms", all, "100 of \(count) records by status, newest, middle and end of the list, warm")

  var ranges: [Double] = []
  for round in 0..<100 {
    let first = count / 2 + round * 11
    let query = RecordQuery(
      statuses: [.completed, .failed], since: population.record(first).createdAt,
      until: population.record(first + 500).createdAt, limit: 100)
    let wanted = population.page([.completed, .failed], below: first + 501, limit: 100)
    ranges.append(try timed(store, query, wanted.map(population.id)))
  }
  report("list_range_page_ms", ranges, "100 of \(count) records by status and time")

  for (name, text) in [
    ("rare", "job-\(count / 3)"), ("common", "--SHARD 7"), ("none", "no such job at all"), ("every", "main.py"),
    ("short", "e "),
  ] {
    var samples: [Double] = []
    for _ in 0..<20 {
      let (page, milliseconds) = try fullPage(store, RecordQuery(text: text, limit: 100))
      samples.append(milliseconds)
      let found = try page.records.map { try JSONDecoder().decode(JobRecord.self, from: $0.json) }
      guard found.allSatisfy({ RecordQuery(text: text).matches($0) }), found.isEmpty == (name == "none") else {
        throw BenchmarkError("a search for '\(text)' gave \(page.records.count) records")
      }
    }
    report("list_search_\(name)_ms", samples, "first page of a search for '\(text)' among \(count) records")
  }
}

benchmarkMain {
  var count = 1_000_000
  var folder = "\(getenv("JOBLET_BENCH_TMP").map { String(cString: $0) } ?? "/var/tmp")"
  var arguments = CommandLine.arguments.dropFirst()
  while let option = arguments.popFirst() {
    switch (option, arguments.popFirst()) {
    case ("--records", let text?) where (Int(text) ?? 0) >= 10_000: count = Int(text) ?? count
    case ("--folder", let path?): folder = path
    case ("--bin", _?), ("--jobs", _?): continue  // contrib/bench tells every benchmark where the programs are
    default: throw BenchmarkError("'\(option)': usage: records [--records N (10000 or more)] [--folder PATH]")
    }
  }
  var template = Array("\(folder)/joblet-records-XXXXXX".utf8CString)
  guard let made = mkdtemp(&template) else { throw BenchmarkError("no temporary folder in \(folder)") }
  let path = String(cString: made) + "/state.db"
  defer {
    for end in ["", "-wal", "-shm"] { unlink(path + end) }
    rmdir(made)
  }
  let population = Population(count: count)
  let store = try SQLiteStateStore(path: path)
  try fill(store, population)
  var status = stat()
  stat(path, &status)
  Figure("records_bytes_each", Double(status.st_size) / Double(count), "bytes", count: count).print()
  try measure(store, population)
  Figure("records_rss_mib", try residentMiB(), "MiB", count: 1).print()
  try store.close()
}

/// This process's resident memory, of which the store is nearly all.
func residentMiB() throws -> Double {
  guard let file = fopen("/proc/self/statm", "r") else { throw BenchmarkError("no /proc/self/statm") }
  defer { fclose(file) }
  var buffer = [CChar](repeating: 0, count: 256)
  guard fgets(&buffer, 256, file) != nil else { throw BenchmarkError("/proc/self/statm is empty") }
  let text = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  let pages = text.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? .nan
  return pages * Double(sysconf(CInt(_SC_PAGESIZE))) / 1_048_576
}
