import JobletModel

/// Which requests with an `Idempotency-Key` started which jobs: a table bounded in age and number. What is decided, and
/// nothing of files or clocks.
package struct RunKeys: Sendable {
  /// How long a key is remembered after its job was admitted.
  package static let maxAge: Duration = .seconds(24 * 3600)

  private let maxPerCaller: Int
  private let maxInAll: Int
  private var runs: [KeyedHash: KeyedRun] = [:]
  /// Each caller's, the oldest first.
  private var byCaller: [UInt64: Line] = [:]
  /// Whose jobs are being admitted now.
  private var underWay: Set<KeyedHash> = []

  private struct Line {
    var keys: [KeyedHash] = []
    var start = 0
    var first: KeyedHash? { start < keys.count ? keys[start] : nil }
    var count: Int { keys.count - start }

    mutating func removeFirst() {
      start += 1
      guard start > 64, start * 2 > keys.count else { return }
      keys.removeFirst(start)
      start = 0
    }
  }

  /// - Parameters:
  ///   - maxPerCaller: beyond, the caller's oldest is forgotten.
  ///   - maxInAll: beyond, the oldest of all: one caller alone never comes so far.
  package init(maxPerCaller: Int = 10_000, maxInAll: Int = 100_000) {
    self.maxPerCaller = maxPerCaller
    self.maxInAll = maxInAll
  }

  package var count: Int { runs.count }
  /// All that are remembered; the oldest of each caller first.
  package var all: [KeyedRun] {
    byCaller.values.flatMap { line in line.keys[line.start...].compactMap { runs[$0] } }
  }

  package func contains(_ run: KeyedRun) -> Bool { runs[run.asked.key]?.job == run.job }

  /// Asks for a key.
  /// - Returns: the job it started already; nil if it is the caller's now, who calls ``release(_:)`` when it is known what
  ///   became of the request.
  /// - Throws: ``JobletModel/Problem`` if the key is another request's, or the first one's answer is not known yet.
  package mutating func claim(_ asked: KeyedRequest, at now: Timestamp) throws(Problem) -> JobID? {
    trim(asked.caller, at: now)
    if let run = runs[asked.key], RunKeys.isFresh(run, at: now) {
      guard run.asked.request == asked.request else {
        throw Problem(
          .keyReused,
          "this Idempotency-Key started job \(run.job) with another request; use a new key for a new request",
          field: "Idempotency-Key")
      }
      return run.job
    }
    guard underWay.insert(asked.key).inserted else {
      throw Problem(
        .keyInUse, "a request with this Idempotency-Key is being answered; ask again for its answer", retryAfter: 1)
    }
    return nil
  }

  package mutating func release(_ asked: KeyedRequest) { underWay.remove(asked.key) }

  /// Remembers a run; the later of two with one key counts.
  package mutating func add(_ run: KeyedRun, at now: Timestamp) {
    guard RunKeys.isFresh(run, at: now) else { return }
    let isNew = runs.updateValue(run, forKey: run.asked.key) == nil
    if isNew { byCaller[run.asked.caller, default: Line()].keys.append(run.asked.key) }
    trim(run.asked.caller, at: now)
    while runs.count > maxInAll, let caller = oldestCaller() { removeFirst(of: caller) }
  }

  /// Forgets what is too old.
  package mutating func expire(at now: Timestamp) {
    for caller in Array(byCaller.keys) { trim(caller, at: now) }
  }

  private mutating func trim(_ caller: UInt64, at now: Timestamp) {
    while let line = byCaller[caller], let first = line.first {
      let isOld = runs[first].map { !RunKeys.isFresh($0, at: now) } ?? true
      guard isOld || line.count > maxPerCaller else { return }
      removeFirst(of: caller)
    }
  }

  private mutating func removeFirst(of caller: UInt64) {
    guard let first = byCaller[caller]?.first else { return }
    runs[first] = nil
    byCaller[caller]?.removeFirst()
    if byCaller[caller]?.count == 0 { byCaller[caller] = nil }
  }

  private func oldestCaller() -> UInt64? {
    byCaller.min { a, b in
      guard let one = a.value.first.flatMap({ runs[$0] }), let other = b.value.first.flatMap({ runs[$0] }) else {
        return false
      }
      return one.at < other.at
    }?.key
  }

  /// A clock that was set back makes no key live longer than a clock that was not.
  private static func isFresh(_ run: KeyedRun, at now: Timestamp) -> Bool {
    let age = now.nanoseconds.subtractingReportingOverflow(run.at.nanoseconds)
    return !age.overflow && age.partialValue.magnitude < maxAge.nanoseconds.magnitude
  }
}
