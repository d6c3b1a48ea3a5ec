import BenchmarkKit

/// A job's own speed: the same program in turn inside a job and outside. Of each kind of work the fastest of all rounds counts,
/// for what slows a round down comes from elsewhere.
func measureInside(_ options: Options) throws {
  try Bed.run(options.programs) { bed in
    let client = try bed.client()
    let rounds = 15
    var inside: [String: Double] = [:]
    var outside: [String: Double] = [:]
    func note(_ text: String, in best: inout [String: Double]) throws {
      for line in text.split(separator: "\n") {
        let fields = line.split(separator: " ")
        guard fields.count == 2, let value = Double(fields[1]) else {
          throw BenchmarkError("inside-work said '\(line)'")
        }
        best[String(fields[0])] = min(best[String(fields[0])] ?? .infinity, value)
      }
    }
    for _ in 0..<rounds {
      let id = try client.post(bed.job("inside-work"))
      let end = try client.request("GET", "/v1/jobs/\(id)/logs?follow=true", accept: "text/event-stream")
      guard end.body.contains("COMPLETED") else { throw BenchmarkError("job \(id): \(end.body)") }
      try note(try client.request("GET", "/v1/jobs/\(id)/logs", accept: "text/plain").body, in: &inside)
      let child = try Child(["\(bed.directory)/bin/inside-work"], output: .pipe)
      try note(String(decoding: child.readAll(), as: UTF8.self), in: &outside)
      guard child.wait() == 0 else { throw BenchmarkError("inside-work failed outside") }
    }
    for (kind, name) in [
      ("cpu", "inside_cpu_ratio"), ("syscalls", "inside_syscall_ratio"), ("getppid", "inside_getppid_ratio"),
    ] {
      guard let slow = inside[kind], let fast = outside[kind], slow > 0 else {
        throw BenchmarkError("inside-work did not measure '\(kind)'")
      }
      var figure = Figure(name, fast / slow, "", count: rounds, limits: bed.hasLimits)
      figure.note = "outside \(Int(fast)) ns, inside \(Int(slow)) ns, the fastest of \(rounds) rounds each"
      figure.print()
    }
  }
}
