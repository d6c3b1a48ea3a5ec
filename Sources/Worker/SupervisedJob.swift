import JobletModel
import Sandbox

/// One job that exec still has to do with. Confined to the supervisor's loop.
final class SupervisedJob {
  let id: JobID
  let directory: JobStateDirectory
  /// With the real values of its secrets until it starts.
  var request: JobRequest
  var timeout: Duration?
  var record: JobRecord
  var machine: JobStateMachine
  let feed: JobFeed

  var files: JobFiles?
  var process: InitProcess?
  /// The first of its host IDs.
  var firstID: UInt32?
  /// To name a failed step; gone after a restart.
  var plan: Plan?

  var dataToken: UInt64?
  var processToken: UInt64?
  var timers: [LoopTimer] = []
  var facts = EndFacts()
  /// The last line that went to persist before its ring was given up.
  var lastSentSeq: UInt64?
  /// Its owner wants it gone: nothing of it is remembered.
  var isDeleted = false

  /// Followers and deleters that wait for news of this job, by number.
  var waiters: [UInt64: Waiter] = [:]

  struct Waiter {
    var continuation: CheckedContinuation<Void, Never>
    var timer: LoopTimer
  }

  init(
    id: JobID, directory: JobStateDirectory, request: JobRequest, timeout: Duration?, record: JobRecord,
    machine: JobStateMachine = JobStateMachine()
  ) {
    self.id = id
    self.directory = directory
    self.request = request
    self.timeout = timeout
    self.record = record
    self.machine = machine
    feed = JobFeed(job: id)
  }

  /// The last line's number as far as it is known.
  var lastSeq: UInt64 { feed.consumer?.seenSeq ?? lastSentSeq ?? record.lastSeq ?? 0 }
}

/// The records of jobs that ended and are settled: the last so many.
struct EndedRecords {
  private let capacity: Int
  private var records: [JobID: JobRecord] = [:]
  private var order: [JobID] = []

  init(capacity: Int = 1000) { self.capacity = capacity }

  var all: some Sequence<JobRecord> { records.values }

  subscript(job: JobID) -> JobRecord? { records[job] }

  mutating func add(_ record: JobRecord) {
    if records.updateValue(record, forKey: record.id) == nil { order.append(record.id) }
    guard order.count > capacity else { return }
    records[order.removeFirst()] = nil
  }

  mutating func remove(_ job: JobID) -> Bool {
    guard records.removeValue(forKey: job) != nil else { return false }
    order.removeAll { $0 == job }
    return true
  }
}
