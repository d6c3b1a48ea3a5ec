import JobletConfig
import JobletModel
import JobletWire
import Persist
import Testing

@Suite struct RetentionTests {
  static let day: Int64 = 86_400_000_000_000
  static let now = Timestamp(nanoseconds: 1_790_000_000_000_000_000)

  /// Jobs as (bytes, days since they ended, nil while they run); what goes is written as index and reason, in order.
  struct Case: CustomTestStringConvertible {
    var testDescription: String
    var jobs: [(bytes: Int64, age: Double?)]
    var days = 0
    var perJob: Int64 = 0
    var total: Int64 = 0
    var gone: [(Int, SweepReason)] = []
    var kept: Int64
  }

  static let cases = [
    Case(testDescription: "nothing is bounded", jobs: [(9, 4000), (9, nil)], kept: 18),
    Case(testDescription: "nothing there", jobs: [], days: 1, perJob: 1, total: 1, kept: 0),
    Case(
      testDescription: "age counts from the end", jobs: [(5, 6.9), (6, 7.1), (7, 30), (8, nil)], days: 7,
      gone: [(2, .age), (1, .age)], kept: 13),
    Case(testDescription: "exactly as old as allowed stays", jobs: [(5, 7)], days: 7, kept: 5),
    Case(
      testDescription: "a job over its bound goes, unless it runs", jobs: [(11, 1), (10, 1), (11, nil)], perJob: 10,
      gone: [(0, .jobBytes)], kept: 21),
    Case(
      testDescription: "the oldest go until it fits, no more", jobs: [(10, 1), (10, 3), (10, 2), (10, 4)], total: 25,
      gone: [(3, .totalBytes), (1, .totalBytes)], kept: 20),
    Case(testDescription: "exactly the bound fits", jobs: [(10, 1), (10, 2)], total: 20, kept: 20),
    Case(
      testDescription: "running jobs count and stay", jobs: [(30, nil), (5, 1)], total: 20, gone: [(1, .totalBytes)],
      kept: 30),
    Case(
      testDescription: "what goes for its own bound makes room first", jobs: [(100, 1), (10, 9), (5, 2)], days: 8,
      perJob: 50, total: 10, gone: [(1, .age), (0, .jobBytes)], kept: 5),
    Case(
      testDescription: "a job without files frees nothing", jobs: [(0, 9), (30, 2), (5, 1)], total: 10,
      gone: [(1, .totalBytes)], kept: 5),
  ]

  @Test(arguments: cases) func decides(_ test: Case) {
    let jobs = test.jobs.enumerated().map { index, job in
      KeptJob(
        JobID(high: UInt64(index), low: 7), bytes: job.bytes,
        ended: job.age.map { Timestamp(nanoseconds: Self.now.nanoseconds - Int64($0 * Double(Self.day))) })
    }
    var bounds = Configuration().persist.retention
    (bounds.days, bounds.maxBytesPerJob, bounds.maxBytes) = (test.days, test.perJob, test.total)
    let plan = RetentionPlan(jobs.shuffled(), bounds, now: Self.now)
    #expect(plan.removals.map { Int($0.job.high) } == test.gone.map(\.0))
    #expect(plan.removals.map(\.reason) == test.gone.map(\.1))
    #expect(plan.totals.keptBytes == test.kept)
    #expect(plan.totals.removedBytes == test.gone.reduce(0) { $0 + test.jobs[$1.0].bytes })
    #expect(plan.totals.keptJobs + plan.totals.removedJobs == test.jobs.count)
    #expect(plan.totals.runningJobs == test.jobs.filter { $0.age == nil }.count)
    #expect(plan.totals.bounds == SweepBounds(days: test.days, maxBytesPerJob: test.perJob, maxBytes: test.total))
  }

  @Test func holdsItsBoundsWhateverThereIs() {
    var random = SeededNumbers(31)
    for _ in 0..<300 {
      let jobs = (0..<Int.random(in: 0...40, using: &random)).map { index in
        KeptJob(
          JobID(high: UInt64(index), low: 1), bytes: Int64.random(in: 0...100, using: &random),
          ended: Bool.random(using: &random)
            ? Timestamp(nanoseconds: Self.now.nanoseconds - Int64.random(in: 0...40, using: &random) * Self.day) : nil)
      }
      var bounds = Configuration().persist.retention
      bounds.days = Int.random(in: 0...20, using: &random)
      bounds.maxBytesPerJob = Int64.random(in: 0...80, using: &random)
      bounds.maxBytes = Int64.random(in: 0...1000, using: &random)
      let plan = RetentionPlan(jobs, bounds, now: Self.now)
      let gone = Set(plan.removals.map(\.job))
      let kept = jobs.filter { !gone.contains($0.job) }
      #expect(gone.count == plan.removals.count)
      #expect(jobs.allSatisfy { $0.ended != nil || !gone.contains($0.job) })
      let endedBytes = kept.filter { $0.ended != nil }.reduce(0) { $0 + $1.bytes }
      if bounds.maxBytes > 0 { #expect(endedBytes == 0 || kept.reduce(0) { $0 + $1.bytes } <= bounds.maxBytes) }
      #expect(plan.removals.map(\.endedAt) == plan.removals.map(\.endedAt).sorted())
    }
  }
}
