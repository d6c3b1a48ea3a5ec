import JobletModel

/// Which requests with an `Idempotency-Key` started which jobs: a table bounded in age and number. What is decided, and
/// nothing of files or clocks.
package struct RunKeys: Sendable {
  /// How long a key is remembered after its job was admitted.
  package static let maxAge: Duration = .seconds(24 * 3600)
  /// How long it is remembered at least, however many come after it: longer than anybody goes on asking for one job.
  package static let minAge: Duration = .seconds(15 * 60)
  /// So many of the oldest keys are looked at for one that may go, before a request is refused.
  private static let maxLooks = 64

  private let maxPerCaller: Int
  private let maxInAll: Int
  private var runs: [KeyedHash: KeyedRun] = [:]
  private var byCaller: [UInt64: Line] = [:]
  /// Whose jobs are being admitted now.
  private var underWay: Set<KeyedHash> = []

  /// A caller's keys, the oldest first; but one whose job lives has gone to the back when its turn to go came.
  private struct Line {
    var keys: [KeyedHash] = []
    var start = 0
    /// How many are being admitted.
    var claimed = 0
    var first: KeyedHash? { start < keys.count ? keys[start] : nil }
    var count: Int { keys.count - start }

    func isFull(_ limit: Int) -> Bool { count + claimed >= limit }

    mutating func removeFirst() {
      start += 1
      guard start > 64, start * 2 > keys.count else { return }
      keys.removeFirst(start)
      start = 0
    }
  }

  /// - Parameters:
  ///   - maxPerCaller: a caller's next one takes the place of its oldest, if that may go.
  ///   - maxInAll: the next one takes the place of the oldest of all, if that may go: one caller alone never comes so far.
  package init(maxPerCaller: Int = 50_000, maxInAll: Int = 200_000) {
    self.maxPerCaller = maxPerCaller
    self.maxInAll = maxInAll
  }

  package var count: Int { runs.count }
  /// All that are remembered, in no order that means anything.
  package var all: [KeyedRun] { Array(runs.values) }

  package func contains(_ run: KeyedRun) -> Bool { runs[run.asked.key]?.job == run.job }

  /// Asks for a key.
  /// - Parameter lives: whether a job is still looked after; its key is never forgotten to make room.
  /// - Returns: the job it started already; nil if it is the caller's now, who calls ``release(_:)`` when it is known what
  ///   became of the request.
  /// - Throws: ``JobletModel/Problem`` if the key is another request's, the first one's answer is not known yet, or there is no
  ///   room for another key.
  package mutating func claim(
    _ asked: KeyedRequest, at now: BootTime, lives: (JobID) -> Bool
  ) throws(Problem) -> JobID? {
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
    guard !underWay.contains(asked.key) else {
      throw Problem(
        .keyInUse, "a request with this Idempotency-Key is being answered; ask again for its answer", retryAfter: 1)
    }
    try makeRoom(for: asked.caller, at: now, lives: lives)
    underWay.insert(asked.key)
    byCaller[asked.caller, default: Line()].claimed += 1
    return nil
  }

  package mutating func release(_ asked: KeyedRequest) {
    guard underWay.remove(asked.key) != nil else { return }
    byCaller[asked.caller]?.claimed -= 1
    removeIfEmpty(asked.caller)
  }

  /// Remembers a run; the later of two with one key counts.
  package mutating func add(_ run: KeyedRun, at now: BootTime) {
    guard RunKeys.isFresh(run, at: now) else { return }
    let isNew = runs.updateValue(run, forKey: run.asked.key) == nil
    if isNew { byCaller[run.asked.caller, default: Line()].keys.append(run.asked.key) }
  }

  /// Forgets what is too old.
  package mutating func expire(at now: BootTime) {
    for caller in Array(byCaller.keys) { trim(caller, at: now) }
  }

  private mutating func trim(_ caller: UInt64, at now: BootTime) {
    while let first = byCaller[caller]?.first {
      guard runs[first].map({ !RunKeys.isFresh($0, at: now) }) ?? true else { return }
      removeFirst(of: caller)
    }
  }

  // MARK: Room

  /// Forgets the oldest that may be forgotten, until there is room for one more.
  private mutating func makeRoom(for caller: UInt64, at now: BootTime, lives: (JobID) -> Bool) throws(Problem) {
    var looks = RunKeys.maxLooks
    while byCaller[caller]?.isFull(maxPerCaller) == true {
      try removeOldest(of: caller, at: now, lives: lives, &looks)
    }
    while runs.count + underWay.count >= maxInAll {
      guard let oldest = oldestCaller() else { throw RunKeys.full(after: .seconds(1)) }
      try removeOldest(of: oldest, at: now, lives: lives, &looks)
    }
  }

  private mutating func removeOldest(
    of caller: UInt64, at now: BootTime, lives: (JobID) -> Bool, _ looks: inout Int
  ) throws(Problem) {
    guard let run = byCaller[caller]?.first.flatMap({ runs[$0] }) else { throw RunKeys.full(after: .seconds(1)) }
    let age = run.at.age(at: now)
    // Whoever comes after it is younger still.
    guard age >= RunKeys.minAge else { throw RunKeys.full(after: RunKeys.minAge - age) }
    guard lives(run.job) else { return removeFirst(of: caller) }
    looks -= 1
    guard looks > 0 else { throw RunKeys.full(after: .seconds(5)) }
    byCaller[caller]?.removeFirst()
    byCaller[caller]?.keys.append(run.asked.key)
  }

  private static func full(after wait: Duration) -> Problem {
    Problem(
      .tooManyJobs,
      "there is no room for another Idempotency-Key: the newest are kept at least 15 minutes, and those of jobs that run "
        + "longer; ask less often, or without a key",
      field: "Idempotency-Key", retryAfter: Int(wait.components.seconds) + 1)
  }

  private mutating func removeFirst(of caller: UInt64) {
    guard let first = byCaller[caller]?.first else { return }
    runs[first] = nil
    byCaller[caller]?.removeFirst()
    removeIfEmpty(caller)
  }

  private mutating func removeIfEmpty(_ caller: UInt64) {
    if let line = byCaller[caller], line.count == 0, line.claimed == 0 { byCaller[caller] = nil }
  }

  private func oldestCaller() -> UInt64? {
    let firsts = byCaller.compactMap { caller, line in line.first.flatMap { runs[$0] }.map { (caller, $0.at) } }
    return firsts.min { $0.1 < $1.1 }?.0
  }

  private static func isFresh(_ run: KeyedRun, at now: BootTime) -> Bool { run.at.age(at: now) < maxAge }
}
