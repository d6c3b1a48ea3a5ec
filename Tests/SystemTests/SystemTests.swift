import Foundation
import Testing

/// The installed services, seen from outside: everything here goes through `curl`, `rnx`, `systemctl` and `journalctl`.
///
/// The suite changes the host it runs on (it kills daemons, masks units, edits the configuration), so it runs only where
/// it is told to: `contrib/check` sets `JOBLET_SYSTEM_TESTS=1` inside the throwaway test host after `contrib/install`.
/// One test at a time: they share the one installed Joblet.
@Suite(
  .serialized,
  .enabled(
    if: ProcessInfo.processInfo.environment["JOBLET_SYSTEM_TESTS"] == "1",
    "changes the host: runs in the test host only (contrib/check)"))
struct SystemTests {}

/// Where things are on an installed host.
enum Installed {
  static let config = "/opt/joblet/joblet-config.yml"
  static let exec = "/opt/joblet/bin/joblet-exec"
  static let clientConfig = "/opt/joblet/config/rnx-config.yml"
  static let logs = "/opt/joblet/logs"
  static let metrics = "/opt/joblet/metrics"
  static let jobs = "/opt/joblet/jobs"
  static let runState = "/run/joblet/jobs"
  static let jobsCgroup = "/sys/fs/cgroup/joblet.slice/joblet-jobs.scope"
  static let api = "https://localhost:50051"
  static let health = "http://127.0.0.1:9090"
  static let services = ["joblet-persist.service", "joblet-exec.service", "joblet-api.service"]

  static let sockets = [
    "joblet-persist.socket", "joblet-persist-query.socket", "joblet-exec.socket", "joblet-api.socket",
    "joblet-health.socket",
  ]

  static func clientConfig(role: String) -> String { "/opt/joblet/config/rnx-config-\(role).yml" }
}

/// What a test waited for in vain.
struct TimedOut: Error, CustomStringConvertible {
  var description: String
}

/// Waits until `condition` gives a value. The test host can be 35 times slower than the machine below it, so bounds are
/// wide and nothing waits longer than it must.
func eventually<T>(
  _ what: String, within limit: Duration = .seconds(120), pause: Duration = .milliseconds(100),
  _ condition: () async throws -> T?
) async throws -> T {
  let clock = ContinuousClock()
  let deadline = clock.now + limit
  while true {
    if let value = try await condition() { return value }
    guard clock.now < deadline else { throw TimedOut(description: "not within \(limit): \(what)") }
    try await Task.sleep(for: pause)
  }
}

/// Waits until `condition` is true.
func eventually(
  _ what: String, within limit: Duration = .seconds(120), pause: Duration = .milliseconds(100),
  isTrue condition: () async throws -> Bool
) async throws {
  _ = try await eventually(what, within: limit, pause: pause) { try await condition() ? true : nil }
}
