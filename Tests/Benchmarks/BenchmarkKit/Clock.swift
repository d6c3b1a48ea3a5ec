#if canImport(Glibc)
  import Glibc
#endif

/// CLOCK_MONOTONIC in nanoseconds: the clock every process of a machine shares, a job in its namespaces included.
public func monotonicNow() -> Int64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return Int64(now.tv_sec) * 1_000_000_000 + Int64(now.tv_nsec)
}

/// Waits until `condition` holds, looking every `pause` microseconds.
public func waitUntil(_ what: String, seconds: Double, pause: UInt32 = 20_000, _ condition: () throws -> Bool) throws {
  let deadline = monotonicNow() + Int64(seconds * 1e9)
  while try !condition() {
    guard monotonicNow() < deadline else { throw BenchmarkError("not within \(seconds) s: \(what)") }
    usleep(pause)
  }
}

/// Why a benchmark gives no figure.
public struct BenchmarkError: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}
