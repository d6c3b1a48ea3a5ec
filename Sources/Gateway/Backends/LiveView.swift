import JobletModel
import JobletWire
import NIOCore
import Synchronization

/// What the gateway knows of exec's jobs without asking: exec's snapshot and every change since. So a status request costs
/// no round trip to a privileged process.
final class LiveView: Sendable {
  private struct Entry {
    var record: JobRecord
    /// The record's JSON, made when it is first asked for.
    var json: ByteBuffer?
    /// The connection to exec that last spoke of it.
    var epoch: UInt64
  }

  private struct State {
    var entries: [JobID: Entry] = [:]
    /// All IDs, ascending: job IDs sort by time.
    var order: [JobID] = []
    /// Ended jobs, the first to go in front.
    var ended: [JobID] = []
    /// Deleted jobs whose last events may still be on their way.
    var deleted: [(id: JobID, record: JobRecord?)] = []
    var counts: [JobStatus: Int] = [:]
    var epoch: UInt64 = 0
    var isConnected = false
    var lostAt: ContinuousClock.Instant? = .now
    /// See ``completeSince``.
    var completeSince: Timestamp?
    /// The latest end of a job that had to make room.
    var forgotten: Timestamp?
  }

  /// How many ended jobs are kept; persist knows the others.
  static let endedKept = 1000

  private let state = Mutex(State())
  /// What followers of events read.
  let changes = ChangeLog()
  /// Requests that wait for a job's end.
  let waiters = EndWaiters()

  // MARK: What exec says

  /// A new connection to exec begins its snapshot.
  func beginSnapshot() { state.withLock { $0.epoch += 1 } }

  /// The snapshot is complete: what it did not name, exec no longer knows.
  /// - Parameter completeSince: every job that has ended since was in it.
  func endSnapshot(completeSince: Timestamp = .now()) {
    defer { waiters.wakeAll() }
    let (lost, at) = state.withLock { state in
      state.completeSince = max(completeSince, state.forgotten ?? completeSince)
      let (epoch, at) = (state.epoch, LiveView.heardUntil(state))
      let unnamed = state.order.filter { state.entries[$0]?.epoch != epoch }
      let lost = unnamed.filter { state.entries[$0]?.record.status.isEnded == false }
      for id in unnamed { LiveView.remove(id, &state) }
      state.isConnected = true
      state.lostAt = nil
      return (lost, at)
    }
    // Whoever follows them would wait for ever.
    for id in lost { changes.noteLost(id, at: at) }
  }

  /// Whatever happened before has been heard of.
  private static func heardUntil(_ state: State) -> Timestamp {
    let now = Timestamp.now()
    guard !state.isConnected, let lostAt = state.lostAt else { return now }
    return Timestamp(nanoseconds: now.nanoseconds - (ContinuousClock.now - lostAt).nanoseconds)
  }

  /// Every change that happened before is in ``changes``: now, or since exec is away.
  var heardUntil: Timestamp { state.withLock { LiveView.heardUntil($0) } }

  func connectionLost() {
    state.withLock { state in
      if state.isConnected || state.lostAt == nil { state.lostAt = .now }
      state.isConnected = false
    }
  }

  /// Takes a record, from exec's events or from the reply to a call of our own, unless a newer one is known.
  func apply(_ record: JobRecord) {
    defer { if record.status.isEnded { waiters.wake(record.id) } }
    let newAt: Timestamp? = state.withLock { state in
      guard !state.deleted.contains(where: { $0.id == record.id }) else { return nil }
      if let known = state.entries[record.id] {
        state.entries[record.id]?.epoch = state.epoch
        guard record.version > known.record.version else { return nil }
        state.counts[known.record.status, default: 0] -= 1
      } else {
        LiveView.insert(record.id, &state.order)
      }
      let wasEnded = state.entries[record.id]?.record.status.isEnded ?? false
      state.entries[record.id] = Entry(record: record, json: nil, epoch: state.epoch)
      state.counts[record.status, default: 0] += 1
      if record.status.isEnded, !wasEnded {
        state.ended.append(record.id)
        if state.ended.count > LiveView.endedKept { LiveView.letGo(state.ended[0], &state) }
      }
      // A snapshot tells of what happened while exec was away.
      return LiveView.heardUntil(state)
    }
    // After the change: whoever is woken by it finds it.
    if let newAt { changes.note(record.id, version: record.version, isEnded: record.status.isEnded, at: newAt) }
  }

  /// Makes room: from now on only the store knows this ended job.
  private static func letGo(_ id: JobID, _ state: inout State) {
    let endedAt = state.entries[id]?.record.endedAt ?? .now()
    state.forgotten = max(endedAt, state.forgotten ?? endedAt)
    state.completeSince = state.completeSince.map { max($0, endedAt) }
    remove(id, &state)
  }

  /// Forgets a deleted job, and what may still be heard of it.
  func delete(_ id: JobID) {
    defer { waiters.wake(id) }
    let record = state.withLock { state in
      let record = state.entries[id]?.record
      state.deleted.append((id, record))
      LiveView.remove(id, &state)
      if state.deleted.count > 256 { state.deleted.removeFirst() }
      return record
    }
    changes.noteDeleted(id, record)
  }

  private static func remove(_ id: JobID, _ state: inout State) {
    guard let entry = state.entries.removeValue(forKey: id) else { return }
    state.counts[entry.record.status, default: 0] -= 1
    let index = position(of: id, in: state.order)
    if index < state.order.count, state.order[index] == id { state.order.remove(at: index) }
    if entry.record.status.isEnded, let index = state.ended.firstIndex(of: id) { state.ended.remove(at: index) }
  }

  private static func insert(_ id: JobID, _ order: inout [JobID]) {
    guard let last = order.last, id < last else { return order.append(id) }
    order.insert(id, at: position(of: id, in: order))
  }

  /// The first index whose ID is not below `id`.
  private static func position(of id: JobID, in order: [JobID]) -> Int {
    var low = 0
    var high = order.count
    while low < high {
      let middle = (low + high) / 2
      if order[middle] < id { low = middle + 1 } else { high = middle }
    }
    return low
  }

  // MARK: What clients ask

  /// Waits until a job has ended, or exec knows it no more.
  func waitForEnd(of id: JobID, atMost limit: Duration) async {
    await waiters.wait(for: id, atMost: limit) {
      self.state.withLock { state in state.entries[id].map { $0.record.status.isEnded } ?? state.isConnected }
    }
  }

  var isConnected: Bool { state.withLock { $0.isConnected } }

  /// Every job that has ended since is in the view, or was deleted. Nil before exec's first snapshot.
  var completeSince: Timestamp? { state.withLock { $0.completeSince } }

  /// How long exec has been away; nil while it is there.
  var staleness: Duration? {
    state.withLock { state in state.isConnected ? nil : state.lostAt.map { .now - $0 } ?? .zero }
  }

  var counts: [JobStatus: Int] { state.withLock { $0.counts } }
  var count: Int { state.withLock { $0.entries.count } }

  func record(_ id: JobID) -> JobRecord? { state.withLock { $0.entries[id]?.record } }

  /// What was known last of a job that was deleted a while ago: for those who still read it.
  func deleted(_ id: JobID) -> JobRecord? { state.withLock { $0.deleted.last { $0.id == id }?.record } }

  /// Whether the job was deleted a while ago, whatever was known of it.
  func isDeleted(_ id: JobID) -> Bool { state.withLock { $0.deleted.contains { $0.id == id } } }

  /// The record's JSON, without a newline.
  func json(_ id: JobID) -> ByteBuffer? { representation(id)?.json }

  /// The record's JSON, without a newline, its entity tag, and whether the job has ended.
  func representation(_ id: JobID) -> (json: ByteBuffer, tag: String, isEnded: Bool)? {
    let (record, json) = state.withLock { state in (state.entries[id]?.record, state.entries[id]?.json) }
    guard let record else { return nil }
    if let json { return (json, record.entityTag, record.status.isEnded) }
    let made = JSONText.encodeFragment(record)
    state.withLock { state in
      if state.entries[id]?.record.version == record.version { state.entries[id]?.json = made }
    }
    return (made, record.entityTag, record.status.isEnded)
  }

  /// IDs below `before`, newest first, that `isWanted`.
  func ids(before: JobID?, limit: Int, where isWanted: (JobRecord) -> Bool) -> [JobID] {
    state.withLock { state in
      var found: [JobID] = []
      var index = before.map { LiveView.position(of: $0, in: state.order) } ?? state.order.count
      while index > 0, found.count < limit {
        index -= 1
        if let entry = state.entries[state.order[index]], isWanted(entry.record) { found.append(entry.record.id) }
      }
      return found
    }
  }
}
