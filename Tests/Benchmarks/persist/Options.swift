import BenchmarkKit

/// What `contrib/bench persist` was asked for.
struct Options {
  /// Where the daemons are.
  var bin: String
  /// Parts to run; empty for all.
  var only: Set<String> = []
  /// Lines of the ingest figures, over all jobs.
  var lines: UInt64 = 8_000_000
  var trickleSeconds = 600
  var killSeconds = 300
  /// Lines a second that the jobs write while persist is killed, over all jobs.
  var killRate = 80_000

  /// `persist.wal.fsync` of the power cut; another than `always` shows that it can fail.
  var cutPolicy = "always"
  /// In the test host: write until it dies, or look for lines.
  var cutsAndWrites = false
  var cutCheck: String?

  static let parts = ["ingest", "scan", "range", "tail", "list", "rss", "always", "kill", "trickle", "power-cut"]

  init(_ arguments: [String]) throws {
    bin = try programs(from: arguments).daemons
    var left = arguments.dropFirst()
    while let name = left.popFirst() {
      guard let value = left.popFirst() else { throw BenchmarkError("\(name) wants a value") }
      func number() throws -> Int {
        guard let number = Int(value), number > 0 else {
          throw BenchmarkError("\(name) is '\(value)', not a number above 0")
        }
        return number
      }
      switch name {
      case "--bin", "--jobs": break
      case "--only": only = try BenchmarkKit.parts(value, of: Options.parts)
      case "--lines": lines = UInt64(try number())
      case "--trickle-seconds": trickleSeconds = try number()
      case "--kill-seconds": killSeconds = try number()
      case "--kill-rate": killRate = try number()
      case "--power-cut-fsync":
        guard ["always", "interval", "never"].contains(value) else {
          throw BenchmarkError("\(name) is '\(value)', not always, interval or never")
        }
        cutPolicy = value
      case "--power-cut-write": cutsAndWrites = true
      case "--power-cut-check": cutCheck = value
      default: throw BenchmarkError("unknown option '\(name)'")
      }
    }
  }

  func includes(_ part: String) -> Bool { only.isEmpty || only.contains(part) }
}
