import Foundation
import Testing

extension SystemTests {
  /// Hostile jobs: each tries what a job must not be able to do, and says what came of it (Tests/escape-payload). The tests
  /// here know what must have been refused and how, and look at the host and at a neighbour job, which must be as they were.
  @Suite(HostilePayload()) struct Escape {}
}

/// The test host with the hostile program in an allowed mount, bait for it, and a neighbour job that runs all the while.
struct EscapeHost {
  /// Below `/usr`, which jobs see.
  static let folder = "/usr/local/lib/joblet-tests"
  static let payload = "\(folder)/payload"
  /// For everyone to read, but out of every job's sight.
  static let secret = "/var/lib/joblet-test-secret"
  static let secretText = "the-host-s-own-secret"

  @TaskLocal static var current: EscapeHost?

  let api: API
  let neighbour: Neighbour

  static func get() throws -> EscapeHost { try #require(current, "the suite's scope made none") }

  /// Where the build put the program: beside the tests.
  static func builtPayload() throws -> String {
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let path = URL(fileURLWithPath: tests).deletingLastPathComponent().path + "/escape-payload"
    return ProcessInfo.processInfo.environment["JOBLET_ESCAPE_PAYLOAD"] ?? path
  }

  static func install() async throws {
    try await Shell.must(
      """
      set -e
      mkdir -p \(folder)
      install -m 755 '\(try builtPayload())' \(payload)
      install -m 4755 \(payload) \(folder)/setuid
      echo \(secretText) >\(folder)/secret; chmod 600 \(folder)/secret
      echo \(secretText) >\(secret); chmod 644 \(secret)
      rm -f \(folder)/device; mknod -m 666 \(folder)/device c 1 1
      """)
  }

  static func remove() async throws { try await Shell.must("rm -rf \(folder) \(secret)") }

  /// What a hostile job says: a line `name<TAB>outcome` for each attempt.
  struct Report {
    var job: Job
    var outcomes: [String: String]
  }

  func start(_ arguments: [String], fields: [String: Any] = [:]) async throws -> Job {
    try await api.run(EscapeHost.payload, arguments, fields: ["timeout": "120s"].merging(fields) { $1 })
  }

  func report(of job: Job) async throws -> Report {
    let ended = try await api.ended(job.id)
    return Report(job: ended, outcomes: try await outcomes(of: job))
  }

  func outcomes(of job: Job) async throws -> [String: String] {
    EscapeHost.outcomes(String(decoding: try await api.text(job.id, "?stream=stdout"), as: UTF8.self))
  }

  static func outcomes(_ text: String) -> [String: String] {
    var outcomes: [String: String] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: "\t", maxSplits: 1, omittingEmptySubsequences: false)
      outcomes[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
    }
    return outcomes
  }

  /// Runs an attack to its end; host and neighbour must be the same afterwards.
  func attack(_ arguments: [String], fields: [String: Any] = [:]) async throws -> Report {
    try await undisturbed { try await report(of: try await start(arguments, fields: fields)) }
  }

  /// Holds that `body` changes neither the host nor the neighbour.
  func undisturbed<T>(_ body: () async throws -> T) async throws -> T {
    let host = try await HostState.look()
    let before = try await neighbour.look()
    let result = try await body()
    let after = try await HostState.look()
    for (name, value) in host.facts { #expect(after.facts[name] == value, "the host's \(name) changed") }
    #expect(abs(after.clockOffset - host.clockOffset) < 1, "the host's clock was set")
    try await neighbour.isUnharmed(since: before)
    return result
  }
}

/// Every attempt's outcome is one of those that are allowed for it (`EPERM|EACCES`), none is missing and none is unknown: a
/// payload that tries less, or something nobody has thought about the outcome of, is a failure.
func expectRefused(_ outcomes: [String: String], _ allowed: [String: String], missing: Set<String> = []) {
  for (name, words) in allowed.sorted(by: { $0.key < $1.key }) {
    let outcome = outcomes[name] ?? "(not tried)"
    #expect(words.split(separator: "|").map(String.init).contains(outcome), "\(name): \(outcome)")
  }
  #expect(Set(outcomes.keys).subtracting(allowed.keys) == missing)
}

/// Installs the program and starts the neighbour before the suite, and takes both away after it.
struct HostilePayload: SuiteTrait, TestScoping {
  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    try await EscapeHost.install()
    let api = try API()
    let host = EscapeHost(api: api, neighbour: try await Neighbour(api))
    do {
      try await EscapeHost.$current.withValue(host) { try await function() }
    } catch {
      try await host.neighbour.stop()
      try await EscapeHost.remove()
      throw error
    }
    try await host.neighbour.stop()
    try await EscapeHost.remove()
  }
}
