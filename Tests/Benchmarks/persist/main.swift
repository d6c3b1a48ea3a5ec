import BenchmarkKit

// The store's figures: joblet-persist of this build, spoken to as exec and the gateway do, on a real disk. Each part counts or
// compares what it measured, so that nothing that loses or invents a line has a figure.

benchmarkMain {
  let options = try Options(CommandLine.arguments)
  if options.cutsAndWrites { return try PowerCut.write() }
  if let list = options.cutCheck { return try PowerCut.check(list) }
  if options.includes("ingest") { try measureIngest(options) }
  if options.includes("scan") || options.includes("range") || options.includes("tail") { try measureReading(options) }
  if options.includes("rss") { try measureMemory(options) }
  if options.includes("always") { try measureAlways(options) }
  if options.includes("kill") { try measureKills(options) }
  if options.includes("power-cut") { try PowerCut.measure(options) }
  if options.includes("trickle") { try measureTrickle(options) }
}
