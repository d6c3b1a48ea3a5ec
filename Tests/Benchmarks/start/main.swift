import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

// Request sent → the job's first instruction, and request → its `end` event: jobs one after the other on one warm
// connection with client certificate, in turn with bubblewrap on the same machine at the same moment. systemd-run is
// measured on a host where systemd is PID 1: this one, or the one that JOBLET_BENCH_SYSTEMD_HOST can start.
//
// With `--systemd-run FILE COUNT PROBE` the program is that measurement: it prints `first end` in nanoseconds a line.

/// Two times of one start, in milliseconds.
struct Sample {
  var first: Double
  var end: Double
}

let arguments = CommandLine.arguments

func launch(_ command: [String], count: Int, stampFile: String? = nil) throws -> Sample {
  if let stampFile { unlink(stampFile) }
  let sent = monotonicNow()
  let child = try Child(command, output: stampFile == nil ? .pipe : .inherit)
  let text = stampFile == nil ? String(decoding: child.readAll(), as: UTF8.self) : ""
  let status = child.wait()
  let ended = monotonicNow()
  guard status == 0 else { throw BenchmarkError("\(command.joined(separator: " ")) ended with \(status)") }
  let stamp = try stampFile.map { try readFile($0) } ?? text
  guard let first = Int64(stamp.prefix { $0.isNumber }) else { throw BenchmarkError("no time in '\(stamp)'") }
  return Sample(first: Double(first - sent) / 1e6, end: Double(ended - sent) / 1e6)
}

func measureSystemdRun(_ arguments: ArraySlice<String>) throws {
  let arguments = Array(arguments)
  guard arguments.count == 3, let count = Int(arguments[1]) else {
    throw BenchmarkError("--systemd-run FILE COUNT PROBE")
  }
  let command = ["systemd-run", "--wait", "--quiet", "--collect", arguments[2], arguments[0]]
  for _ in 0..<10 { _ = try launch(command, count: 1, stampFile: arguments[0]) }
  for _ in 0..<count {
    let sample = try launch(command, count: 1, stampFile: arguments[0])
    print(sample.first, sample.end)
  }
}

/// systemd-run's samples, or why there are none.
func systemdRun(_ bed: Bed, count: Int) -> Result<[Sample], BenchmarkError> {
  // A copy beside the job, so that the other host sees one folder with all it needs.
  let own = "\(bed.directory)/bin/start-benchmark"
  let probe = ["--systemd-run", "\(bed.directory)/bin/stamp", "\(count)", "\(bed.directory)/bin/first-instruction"]
  var command: [String]
  if access("/run/systemd/system", F_OK) == 0 {
    command = [own] + probe
  } else if let host = getenv("JOBLET_BENCH_SYSTEMD_HOST"), let image = getenv("JOBLET_BENCH_SYSTEMD_IMAGE") {
    command = [String(cString: host), String(cString: image), "\(bed.directory)/bin", own] + probe
  } else {
    return .failure(
      BenchmarkError("systemd is not PID 1 here and there is no image to start it from (contrib/testhost image)"))
  }
  do {
    guard try Child(["cp", "/proc/\(getpid())/exe", own]).wait() == 0 else {
      throw BenchmarkError("can't copy the program")
    }
    let child = try Child(command, output: .pipe)
    let text = String(decoding: child.readAll(), as: UTF8.self)
    let status = child.wait()
    guard status == 0 else { throw BenchmarkError("measuring it ended with \(status)") }
    let samples = text.split(separator: "\n").compactMap { line -> Sample? in
      let numbers = line.split(separator: " ").compactMap { Double($0) }
      return numbers.count == 2 ? Sample(first: numbers[0], end: numbers[1]) : nil
    }
    guard samples.count == count else { throw BenchmarkError("\(samples.count) of \(count) samples came") }
    return .success(samples)
  } catch {
    return .failure(error as? BenchmarkError ?? BenchmarkError("\(error)"))
  }
}

func measureJob(_ client: HTTP, _ body: String) throws -> Sample {
  let sent = monotonicNow()
  let id = try client.post(body)
  let stream = try client.request("GET", "/v1/jobs/\(id)/logs?follow=true", accept: "text/event-stream")
  let ended = monotonicNow()
  guard stream.status == 200, stream.body.contains("event: end"), let line = stringField("line", in: stream.body),
    let first = Int64(line)
  else {
    throw BenchmarkError(
      "job \(id): \(stream.status) \(stream.body)\(try client.request("GET", "/v1/jobs/\(id)").body)")
  }
  return Sample(first: Double(first - sent) / 1e6, end: Double(ended - sent) / 1e6)
}

func run() throws {
  let count = 500
  try Bed.run(try programs()) { bed in
    let client = try bed.client()
    let body = bed.job("first-instruction")
    let bubblewrap = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "\(bed.directory)/bin/first-instruction"]
    var ours: [Sample] = []
    var theirs: [Sample] = []
    var absent: String?
    for _ in 0..<20 { _ = try measureJob(client, body) }
    do { _ = try launch(bubblewrap, count: 1) } catch { absent = "\(error)" }
    for _ in 0..<count {
      ours.append(try measureJob(client, body))
      if absent == nil { theirs.append(try launch(bubblewrap, count: 1)) }
    }
    guard client.connections == 1 else {
      throw BenchmarkError("the connection did not stay warm: \(client.connections) were made")
    }
    let systemd = systemdRun(bed, count: count)
    for (name, time) in [("start_first_instruction", \Sample.first), ("start_to_end", \Sample.end)] {
      for percent in [50.0, 99.0] {
        let figure = Figure(
          "\(name)_p\(Int(percent))", percentile(percent, of: ours.map { $0[keyPath: time] }), "ms", count: count,
          limits: bed.hasLimits)
        if let absent {
          figure.print(beside: .absent("bwrap", why: absent))
        } else {
          figure.print(beside: .measured("bwrap", percentile(percent, of: theirs.map { $0[keyPath: time] })))
        }
        switch systemd {
        case .success(let samples):
          figure.print(beside: .measured("systemd-run", percentile(percent, of: samples.map { $0[keyPath: time] })))
        case .failure(let why): figure.print(beside: .absent("systemd-run", why: why.description))
        }
      }
    }
  }
}

benchmarkMain {
  if let index = arguments.firstIndex(of: "--systemd-run") {
    try measureSystemdRun(arguments[(index + 1)...])
  } else {
    try run()
  }
}
