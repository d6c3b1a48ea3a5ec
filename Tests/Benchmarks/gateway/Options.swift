import BenchmarkKit

/// What `contrib/bench gateway` was asked for.
struct Options {
  var programs: Bed.Programs
  /// Parts to run; empty for all.
  var only: Set<String> = []
  /// How long each load lasts.
  var seconds = 10
  /// Clients that follow one job.
  var followers = 1000
  /// Those of them that do not read.
  var stalled = 100

  static let parts = ["status", "handshakes", "latency", "follow", "followers", "idle", "rnx"]

  init(_ arguments: [String]) throws {
    programs = try BenchmarkKit.programs(from: arguments)
    var left = arguments.dropFirst()
    while let name = left.popFirst() {
      guard let value = left.popFirst() else { throw BenchmarkError("\(name) wants a value") }
      func number() throws -> Int {
        guard let number = Int(value), (1...10_000).contains(number) else {
          throw BenchmarkError("\(name) is '\(value)', not a number from 1 to 10000")
        }
        return number
      }
      switch name {
      case "--bin", "--jobs": break
      case "--only": only = try BenchmarkKit.parts(value, of: Options.parts)
      case "--seconds": seconds = try number()
      case "--followers": followers = try number()
      case "--stalled": stalled = try number()
      default: throw BenchmarkError("unknown option '\(name)'")
      }
    }
    guard stalled < followers else { throw BenchmarkError("--stalled must be less than --followers") }
  }

  func includes(_ part: String) -> Bool { only.isEmpty || only.contains(part) }
}
