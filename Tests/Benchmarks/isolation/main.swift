import BenchmarkKit
import CBenchmark

// The figures of isolation: what a sandbox costs when it starts, while many run, and for who is inside it, beside others that make
// one. Each part starts daemons of its own from this build, and removes every trace of them.

benchmarkMain {
  let arguments = CommandLine.arguments
  // The parts of a measurement that have to be processes of their own.
  switch arguments.dropFirst().first {
  case "--systemd-run": return try SystemdRun.measureHere(arguments.dropFirst(2))
  case "--post": return try Poster.run(arguments.dropFirst(2))
  case "--loop": return try Loop.run(arguments.dropFirst(2))
  default: break
  }
  let options = try Options(arguments)
  // runc looks for cgroups where they are on a host without version 1, and must touch no others.
  let code = benchmark_own_mounts(try Bed.cgroup2Mount())
  guard code == 0 else { throw BenchmarkError("no mount namespace for the peers (errno \(-code))") }
  if options.includes("init") { try measureInit(options) }
  if options.includes("inside") { try measureInside(options) }
  if options.includes("start") { try measureStarts(options) }
  if options.includes("trace") { try measureTrace(options) }
  if options.includes("loaded") || options.includes("memory") { try measureLoaded(options) }
  if options.includes("jobs") { try measureThroughput(options) }
  if options.includes("leaks") { try measureLeaks(options) }
}
