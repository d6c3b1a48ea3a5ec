import BenchmarkKit

/// What `contrib/bench isolation` was asked for.
struct Options {
  var programs: Bed.Programs
  /// Parts to run; empty for all.
  var only: Set<String> = []
  /// Starts of the start figures, and of the same under load.
  var starts = 500
  /// Jobs that run meanwhile.
  var running = 500
  /// How long short jobs are run one after the other.
  var seconds = 60

  static let parts = ["start", "trace", "loaded", "memory", "jobs", "init", "inside", "leaks"]

  init(_ arguments: [String]) throws {
    programs = try BenchmarkKit.programs(from: arguments)
    var left = arguments.dropFirst()
    while let name = left.popFirst() {
      guard let value = left.popFirst() else { throw BenchmarkError("\(name) wants a value") }
      func number() throws -> Int {
        guard let number = Int(value), (1...100_000).contains(number) else {
          throw BenchmarkError("\(name) is '\(value)', not a number from 1 to 100000")
        }
        return number
      }
      switch name {
      case "--bin", "--jobs": break
      case "--only": only = try BenchmarkKit.parts(value, of: Options.parts)
      case "--starts": starts = try number()
      case "--running": running = try number()
      case "--seconds": seconds = try number()
      default: throw BenchmarkError("unknown option '\(name)'")
      }
    }
  }

  func includes(_ part: String) -> Bool { only.isEmpty || only.contains(part) }
}
