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
  /// The name of its cgroup: of the sandbox it has, which is not its ID.
  var cgroup: String
  /// To name a failed step: without the environment's values, and gone once the command runs or after a restart.
  var plans: [Plan] = []
  /// Its record as of its start, which stands in its state directory since its launch.
  var started: StartedRecord?
  /// Its launch, if that was made with its admission.
  var launched: LaunchOutcome?
  /// Nobody stores what it does (`ipc.enabled: false` when it was admitted): followers see what they read in time.
  var isLive: Bool
  /// Its request had an `Idempotency-Key`.
  var key: KeyedRun?

  var dataToken: UInt64?
  var processToken: UInt64?
  var timers: [LoopTimer] = []
  /// Ends a job whose sandbox does not get ready, or whose command does not come to its exec.
  var setupTimer: LoopTimer?
  /// exec looks after its time-out too.
  var isTimeoutWatched = false
  var facts = EndFacts()
  /// What its freezer was told last, or is to be told when it is not busy any more.
  var wantsFrozen = false
  var isFreezerBusy = false
  /// Why it could not be frozen.
  var freezeProblem: String?
  /// Nil where nobody asked for it, and once it is told.
  var trace: StartTrace?
  /// The last line that went to persist before its ring was given up.
  var lastSentSeq: UInt64?
  /// Its owner wants it gone: nothing of it is remembered.
  var isDeleted = false

  /// False from the moment it is collected.
  var isSampled = true
  /// The file of its samples is damaged, so that no new one can get a number.
  var hasLostCount = false
  /// The next sample's time; nil while none is due.
  var sampling: LoopTimer?
  var isMeasuring = false
  /// A figure that can't be read is told of once.
  var hasToldOfFigures = false
  /// When a follower last asked for lines or samples and had not come to the end.
  var lastPull: ContinuousClock.Instant?
  /// CLOCK_MONOTONIC in nanoseconds: when it may start, until its start is counted, and since when it waits for its turn. Nil for
  /// one that was adopted.
  var mayStartAt: Int64?
  var queuedAt: Int64?

  /// Followers and deleters that wait for news of this job, by number.
  var waiters: [UInt64: Waiter] = [:]

  /// What a waiter waits for. A change of the job's state wakes everyone.
  enum News: Sendable { case lines, samples, state }

  struct StartedRecord {
    var record: JobRecord
    var encoded: [UInt8]
  }

  struct Waiter {
    var news: News
    var continuation: CheckedContinuation<Void, Never>
    var timer: LoopTimer
  }

  init(
    id: JobID, directory: JobStateDirectory, request: JobRequest, timeout: Duration?, record: JobRecord,
    machine: JobStateMachine = JobStateMachine(), isLive: Bool
  ) {
    self.id = id
    self.directory = directory
    self.request = request
    self.timeout = timeout
    self.record = record
    self.machine = machine
    self.isLive = isLive
    cgroup = "\(id)"
    feed = JobFeed(job: id)
  }

  /// The last line's number as far as it is known.
  var lastSeq: UInt64 { feed.consumer?.seenSeq ?? lastSentSeq ?? record.lastSeq ?? 0 }
}
