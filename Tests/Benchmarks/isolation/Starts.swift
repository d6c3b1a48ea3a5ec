import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

// Request sent → the job's first instruction, and request → its `end` event: jobs one after the other on one warm
// connection with client certificate, in turn with the peers on the same machine at the same moment.

/// One job, from the request to the end of its output.
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

/// Jobs in turn with peers. A peer has its turn after every `every`th job. Each turn begins after a pause: what the one before it
/// leaves to the kernel and to daemons (a network namespace takes milliseconds to go) is not the next one's to wait for.
struct Race {
  var ours: [Sample] = []
  var theirs: [[Sample]]
  var absent: [BenchmarkError?]
  let peers: [Peer]
  /// Microseconds.
  private static let pause: UInt32 = 10_000

  init(_ bed: Bed, peers: [Peer], count: Int, every: [Int]) throws {
    self.peers = peers
    theirs = peers.map { _ in [] }
    absent = peers.map { $0.warmUp() }
    let client = try bed.client()
    let body = bed.job("first-instruction")
    for _ in 0..<20 { _ = try measureJob(client, body) }
    for number in 0..<count {
      usleep(Race.pause)
      ours.append(try measureJob(client, body))
      for (index, peer) in peers.enumerated() where absent[index] == nil && number % every[index] == 0 {
        usleep(Race.pause)
        theirs[index].append(try peer.start(number))
      }
    }
    guard client.connections == 1 else {
      throw BenchmarkError("the connection did not stay warm: \(client.connections) were made")
    }
  }

  func ours(_ percent: Double, _ time: KeyPath<Sample, Double> = \.first) -> Double {
    percentile(percent, of: ours.map { $0[keyPath: time] })
  }
}

func measureStarts(_ options: Options) throws {
  let filter = try PayloadFilter()
  try Bed.run(options.programs) { bed in
    let program = "\(bed.directory)/bin/payload.bpf"
    try filter.write(to: program)
    let peers = [
      Peer.bubblewrap(bed, filter: program), try .bubblewrapWithRoot(bed, filter: program),
      try .runc(bed, filter: filter),
    ]
    let race = try Race(bed, peers: peers, count: options.starts, every: [1, 2, 5])
    let systemd = SystemdRun.samples(bed, count: max(options.starts / 5, 10))
    for (name, time) in [("start_first_instruction", \Sample.first), ("start_to_end", \Sample.end)] {
      for percent in [50.0, 99.0] {
        let figure = Figure(
          "\(name)_p\(Int(percent))", race.ours(percent, time), "ms", count: options.starts, limits: bed.hasLimits)
        for (index, peer) in peers.enumerated() {
          if let why = race.absent[index] {
            figure.print(beside: .absent(peer.name, why: why.description))
          } else {
            figure.print(
              beside: .measured(peer.name, percentile(percent, of: race.theirs[index].map { $0[keyPath: time] })))
          }
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
