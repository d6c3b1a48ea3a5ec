import BenchmarkKit

// The figures of the gateway and of rnx: requests, handshakes, how soon and how fast a job's output is at a client, what a crowd
// of clients costs, and what it takes when nobody is there. Each part starts daemons of its own from this build, as a node has
// them by default, and removes every trace of them.

benchmarkMain {
  let options = try Options(CommandLine.arguments)
  // First: with nothing before it, the daemons are as they are after a start.
  if options.includes("idle") { try bed(options, measureIdle) }
  if options.includes("rnx") { try bed(options, measureRnx) }
  if options.includes("latency") { try bed(options, measureLatency) }
  if options.includes("follow") { try bed(options, measureFollow) }
  if options.includes("followers") { try bed(options, measureFollowers) }
  if options.includes("status") || options.includes("handshakes") { try bed(options, measureRequests) }
}

/// Runs one part beside daemons of its own.
func bed(_ options: Options, _ part: (Bed, Options) throws -> Void) throws {
  var settings = Bed.Settings()
  settings.state = "local"
  try Bed.run(options.programs, settings) { try part($0, options) }
}
