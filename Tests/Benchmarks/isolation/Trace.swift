import BenchmarkKit

/// Where the time of a start goes: joblet-exec at log level DEBUG says for each job when which step was done. A figure a step, in
/// their order: the median of the time since the request's frame was read, and since the step before.
func measureTrace(_ options: Options) throws {
  var settings = Bed.Settings()
  settings.logLevel = "DEBUG"
  let count = min(options.starts, 200)
  try Bed.run(options.programs, settings) { bed in
    let client = try bed.client()
    for _ in 0..<20 { _ = try measureJob(client, bed.job("first-instruction")) }
    let before = try traces(bed).count
    for _ in 0..<count { _ = try measureJob(client, bed.job("first-instruction")) }
    let all = try traces(bed).dropFirst(before)
    guard all.count == count else { throw BenchmarkError("\(all.count) start traces of \(count) jobs") }
    // A step that some jobs do not have (their sandbox was ready before) is not one of every start.
    let steps = (all.first ?? [:]).keys.filter { step in all.allSatisfy { $0[step] != nil } }
    let times = steps.map { step in
      let samples = all.compactMap { $0[step] }
      return (step: step, isAhead: step.hasPrefix("ahead_"), samples: samples, middle: percentile(50, of: samples))
    }
    var last = 0.0
    for (step, isAhead, samples, middle) in times.sorted(by: {
      $0.isAhead != $1.isAhead ? $0.isAhead : $0.middle < $1.middle
    }) {
      if !isAhead, middle < last { last = 0 }
      var figure = Figure("start_trace_\(step)", middle, "us", count: count, limits: bed.hasLimits)
      figure.note =
        "+\(Int((middle - last).rounded())), mean \(Int((samples.reduce(0, +) / Double(count)).rounded()))"
      figure.print()
      last = middle
    }
  }
}

/// Every `start trace` line of exec's log: microseconds by step.
private func traces(_ bed: Bed) throws -> [[String: Double]] {
  try readFile("\(bed.directory)/joblet-exec.log").split(separator: "\n").compactMap { line in
    guard line.contains("start trace") else { return nil }
    var trace: [String: Double] = [:]
    for word in line.split(whereSeparator: { $0 == " " || $0 == "\"" || $0 == "," }) {
      let parts = word.split(separator: "=")
      if parts.count >= 2, let value = Double(parts[parts.count - 1]) { trace[String(parts[parts.count - 2])] = value }
    }
    return fromTheFrame(trace)
  }
}

/// The times since the request's frame was read. What was done before it, for whatever job would come, has `ahead_` before its
/// name, and the time since that sandbox was begun.
private func fromTheFrame(_ trace: [String: Double]) -> [String: Double] {
  guard let frame = trace["frame"] else { return trace }
  var result: [String: Double] = [:]
  for (step, time) in trace {
    if time < frame { result["ahead_" + step] = time } else { result[step] = time - frame }
  }
  return result
}
