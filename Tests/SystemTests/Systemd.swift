import Foundation
import Testing

/// systemd as an operator uses it.
enum Systemd {
  static func property(_ unit: String, _ name: String) async throws -> String {
    try await Shell.must("systemctl show -p \(name) --value \(unit)")
  }

  static func mainPID(_ unit: String) async throws -> Int {
    Int(try await property(unit, "MainPID")) ?? 0
  }

  static func isActive(_ unit: String) async throws -> Bool {
    try await property(unit, "ActiveState") == "active"
  }

  /// Where the journal ends, for `--since`: what comes after it is what happened since. No cursor of journalctl's: where the entry it
  /// names is not of the unit that is asked for, systemd 252 leaves out the unit's first one behind it.
  static func cursor() async throws -> String {
    let text = try await Shell.must(
      "journalctl --no-pager -n 1 -o export --output-fields=MESSAGE | sed -n 's/^__REALTIME_TIMESTAMP=//p'")
    let microseconds = (Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0) + 1
    let fraction = String(microseconds % 1_000_000 + 1_000_000).dropFirst()
    return "@\(microseconds / 1_000_000).\(fraction)"
  }

  static func journal(_ unit: String, after cursor: String) async throws -> String {
    try await Shell.must("journalctl --no-pager -o cat -u \(unit) --since='\(cursor)'")
  }

  /// `/readyz` says whether the whole is ready.
  static func isReady() async throws -> Bool {
    let output = try await Shell.run([
      "curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", Installed.health + "/readyz",
    ])
    return output.text == "200"
  }

  static func waitUntilReady(within limit: Duration = .seconds(240)) async throws {
    do {
      try await eventually("readyz says 200", within: limit, pause: .milliseconds(300)) { try await isReady() }
    } catch {
      let status = try await Shell.run("systemctl --no-pager --full status 'joblet*' 2>&1 | tail -n 120")
      throw TimedOut(description: "\(error)\n\(status.text)")
    }
  }

  /// Whatever a test did to the units: back to a running Joblet.
  static func restore() async throws {
    _ = try await Shell.run("systemctl unmask --runtime joblet-persist.service joblet-exec.service joblet-api.service")
    _ = try await Shell.run("systemctl reset-failed 'joblet*'")
    _ = try await Shell.run("systemctl start \(Installed.sockets.joined(separator: " "))")
    let services = Installed.services.joined(separator: " ")
    _ = try await Shell.run("systemctl start joblet.service \(services)", within: .seconds(300))
    try await waitUntilReady()
  }

  /// Runs `body` and brings Joblet back whether it threw or not.
  static func disturbing(_ body: () async throws -> Void) async throws {
    do {
      try await body()
    } catch {
      try await restore()
      throw error
    }
    try await restore()
  }

  /// Runs `body` with an edited configuration; the old one comes back in any case.
  static func withConfiguration(appending text: String, _ body: () async throws -> Void) async throws {
    try await withConfiguration({ $0 + text }, body)
  }

  /// Runs `body` with one place of the configuration changed; the old one comes back in any case, and then `after` is run.
  static func withConfiguration(
    replacing old: String, with new: String, _ body: () async throws -> Void, after: () async throws -> Void
  ) async throws {
    try await withConfiguration(replacing: [(old, new)], body, after: after)
  }

  static func withConfiguration(
    replacing pairs: [(old: String, new: String)], _ body: () async throws -> Void, after: () async throws -> Void
  ) async throws {
    do {
      try await withConfiguration(
        { text in
          try pairs.reduce(text) { text, pair in
            let edited = text.replacing(pair.old, with: pair.new)
            try #require(edited != text, "the configuration has no '\(pair.old)'")
            return edited
          }
        }, body)
    } catch {
      try await after()
      throw error
    }
    try await after()
  }

  private static func withConfiguration(
    _ edit: (String) throws -> String, _ body: () async throws -> Void
  ) async throws {
    let old = try String(contentsOfFile: Installed.config, encoding: .utf8)
    /// In place: owner and mode stay.
    func put(_ text: String) throws {
      let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: Installed.config))
      try handle.truncate(atOffset: 0)
      try handle.write(contentsOf: Data(text.utf8))
      try handle.close()
    }
    try put(try edit(old))
    do {
      try await body()
    } catch {
      try put(old)
      throw error
    }
    try put(old)
  }
}

/// The daemons' processes.
enum Daemon {
  /// A `/proc/<pid>/status` figure in KiB.
  static func memory(_ unit: String, _ field: String = "VmRSS") async throws -> Int {
    let pid = try await Systemd.mainPID(unit)
    return Int(try await Shell.must("awk '/^\(field):/ {print $2}' /proc/\(pid)/status")) ?? 0
  }

  static func openDescriptors(_ unit: String) async throws -> Int {
    let pid = try await Systemd.mainPID(unit)
    return try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
  }

  static func kill9(_ unit: String) async throws {
    let pid = try await Systemd.mainPID(unit)
    guard pid > 1 else { throw TimedOut(description: "\(unit) has no process to kill") }
    try await Shell.must("kill -9 \(pid)")
  }

  /// Waits for another process of the unit than `old`, ready.
  static func replaced(_ unit: String, since old: Int) async throws {
    try await eventually("\(unit) runs again", within: .seconds(180)) {
      let pid = try await Systemd.mainPID(unit)
      let active = try await Systemd.isActive(unit)
      return pid > 1 && pid != old && active
    }
  }
}
