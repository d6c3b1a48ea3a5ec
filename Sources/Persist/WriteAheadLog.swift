import CGNU
import Glibc
import JobletConfig
import LocalStore
import Synchronization

/// The log that everything received goes to first (the file format is ``LogSegment``'s).
///
/// ``append(_:)`` has one caller at a time, under the intake's order; ``commit(_:)`` may be called by many at once, and one
/// fdatasync(2) serves all that wait for it.
final class WriteAheadLog: Sendable {
  private struct State: Sendable {
    var active: LogFileHandle?
    var activeNumber: UInt64 = 0
    var offset = 0
    var capacity = 0
    var nextBatch: UInt64 = 1
    /// Written through, but not known to be synced: the segments before the active one.
    var unsynced: [LogFileHandle] = []
    /// Length of every segment there is, by number.
    var sizes: [UInt64: Int] = [:]
    var isWritten = false
    /// The segment whose sync failed, while what memory has of it is brought to safety: nothing is appended, for what came
    /// behind it must not outlast it.
    var givenUp: UInt64?
  }
  private let state = Mutex(State())
  /// The last batch known to be on disk. Its lock is the one that groups commits: who gets it syncs for all.
  private let durable = Mutex<UInt64>(0)
  /// The sum of the segments' sizes, to be read without waiting for a write.
  private let total = Atomic<Int>(0)
  private let directory: LogFileHandle
  private let policy: Configuration.Persist.WAL.Fsync
  private let segmentSize: Int
  private let faults: DiskFaults?
  private let statistics: Statistics
  /// Space for deleting and sealing on a full disk.
  let reserve: DiskReserve

  /// The most that is kept in reserve: members of all lines that may wait in memory (64 MiB) take about as much.
  private static let reserveSize: Int64 = 16 << 20
  /// Blocks taken for a frame that must be written though the disk has no room for a whole segment.
  private static let urgentSize = 64 << 10

  /// - Parameters:
  ///   - maxSize: the bound on the whole log; a segment is an eighth of it, between 1 and 32 MiB.
  ///   - faults: failures that a test asks for.
  init(
    directory path: String, policy: Configuration.Persist.WAL.Fsync, maxSize: Int64,
    statistics: Statistics = Statistics(), faults: DiskFaults? = nil
  ) throws(PersistError) {
    self.policy = policy
    self.statistics = statistics
    self.faults = faults
    reserve = DiskReserve("\(path)/reserve", size: Int(min(WriteAheadLog.reserveSize, maxSize / 8)), faults: faults)
    segmentSize = Int(min(max(maxSize / 8, 1 << 20), 32 << 20))
    for parent in [LogFileHandle.parent(path), path] where mkdir(parent, 0o750) != 0 && errno != EEXIST {
      throw .system(call: "mkdir", path: parent, errno: errno)
    }
    directory = try LogFileHandle(path, flags: O_RDONLY | O_DIRECTORY, faults: faults)
    // One writer of a log, ever: a second one would number the same segments.
    guard flock(directory.raw, LOCK_EX | LOCK_NB) == 0 else {
      throw errno == EWOULDBLOCK ? .inUse(path: path) : .system(call: "flock", path: path, errno: errno)
    }
  }

  /// The segments in the directory, by number, with their lengths. They are counted into ``totalBytes``.
  func existingSegments() throws(PersistError) -> [(number: UInt64, path: String, size: Int)] {
    var found: [(number: UInt64, path: String, size: Int)] = []
    for name in try directory.entryNames() {
      guard let number = LogSegment.number(name) else { continue }
      let path = "\(directory.path)/\(name)"
      var status = stat()
      guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      found.append((number, path, Int(status.st_size)))
    }
    found.sort { $0.number < $1.number }
    state.withLock { state in
      for segment in found {
        setSize(segment.size, of: segment.number, &state)
        state.activeNumber = max(state.activeNumber, segment.number)
      }
    }
    return found
  }

  private func setSize(_ size: Int?, of segment: UInt64, _ state: inout State) {
    total.add((size ?? 0) - (state.sizes[segment] ?? 0), ordering: .relaxed)
    state.sizes[segment] = size
  }

  /// Cuts what is behind the last whole batch off a segment of an earlier process.
  func cut(_ segment: UInt64, to length: Int) throws(PersistError) {
    let file = try LogFileHandle("\(directory.path)/\(LogSegment.name(segment))", flags: O_RDWR, faults: faults)
    guard ftruncate(file.raw, off_t(length)) == 0 else {
      throw .system(call: "truncate", path: file.path, errno: errno)
    }
    state.withLock { setSize(length, of: segment, &$0) }
  }

  /// Says where numbering goes on after a replay.
  func resume(nextBatch: UInt64) { state.withLock { $0.nextBatch = max($0.nextBatch, nextBatch) } }

  /// Bytes of all segments, reserved ones included.
  var totalBytes: Int { total.load(ordering: .relaxed) }
  /// The number of the batch written last; 0 before the first.
  var lastBatch: UInt64 { state.withLock { $0.isWritten ? $0.nextBatch - 1 : 0 } }
  /// The segment that is written now; 0 before the first.
  var activeSegment: UInt64 { state.withLock { $0.activeNumber } }

  /// Appends one batch of whole frames.
  /// - Parameter isUrgent: it makes room by what it says (a delete), so it may have the reserve.
  /// - Returns: its number, for ``commit(_:)``, and the segment it is in.
  /// - Throws: when the disk does not take it; nothing of the batch counts then. ``PersistError/logSuspended`` while a
  ///   segment that was given up is brought to safety.
  func append(_ parts: [UnsafeRawBufferPointer], isUrgent: Bool = false) throws(PersistError) -> (
    batch: UInt64, segment: UInt64
  ) {
    let length = parts.reduce(LogSegment.batchHeaderLength) { $0 + $1.count }
    return try state.withLock { state throws(PersistError) in
      if state.givenUp != nil { throw .logSuspended }
      if state.active == nil || state.offset + length > state.capacity {
        try startSegment(&state, atLeast: length, isUrgent: isUrgent)
      }
      guard let file = state.active else { throw .stopping }
      do throws(PersistError) {
        try file.writeBatch(state.nextBatch, parts, length: length, at: state.offset)
      } catch {
        // What is half written must not be followed by more: the next batch begins another segment.
        retire(&state)
        throw error
      }
      state.offset += length
      state.nextBatch += 1
      state.isWritten = true
      return (state.nextBatch - 1, state.activeNumber)
    }
  }

  /// Ends the active segment.
  private func retire(_ state: inout State) {
    // The blocks it did not need go back; if that fails they go with the segment.
    if let file = state.active, ftruncate(file.raw, off_t(state.offset)) == 0 {
      setSize(state.offset, of: state.activeNumber, &state)
    }
    if let file = state.active, policy != .never { state.unsynced.append(file) }
    state.active = nil
  }

  private func startSegment(_ state: inout State, atLeast length: Int, isUrgent: Bool) throws(PersistError) {
    retire(&state)
    do throws(PersistError) {
      try startSegment(&state, capacity: max(segmentSize, LogSegment.headerLength + length))
    } catch {
      guard isUrgent, error.isFullDisk else { throw error }
      _ = reserve.release()  // someone may have taken it already, and left enough
      try startSegment(&state, capacity: max(WriteAheadLog.urgentSize, LogSegment.headerLength + length))
    }
  }

  private func startSegment(_ state: inout State, capacity: Int) throws(PersistError) {
    let number = state.activeNumber + 1
    let path = "\(directory.path)/\(LogSegment.name(number))"
    let file = try LogFileHandle(path, flags: O_RDWR | O_CREAT | O_EXCL, mode: 0o640, faults: faults)
    do throws(PersistError) {
      try file.preallocate(capacity)
      let header = LogSegment.header(number, firstBatch: state.nextBatch)
      try file.write(header, at: 0)
      if policy != .never { try directory.sync() }
    } catch {
      unlink(path)
      throw error
    }
    state.active = file
    state.activeNumber = number
    state.offset = LogSegment.headerLength
    state.capacity = capacity
    setSize(capacity, of: number, &state)
  }

  /// What an acknowledgement waits for: under the policy `always`, that the batch is on disk.
  /// - Parameter onGivenUp: see ``sync(onGivenUp:)``.
  func commit(_ batch: UInt64, onGivenUp: (PersistError) -> Void) throws(PersistError) {
    if policy == .always { try sync(through: batch, onGivenUp) }
  }

  /// Puts everything written so far on disk.
  /// - Parameter onGivenUp: told of a failure before anyone else's commit goes on: a later sync says nothing of the segment
  ///   that was given up, so whoever waited behind this one must find it marked.
  func sync(onGivenUp: (PersistError) -> Void) throws(PersistError) {
    try sync(through: lastBatch, onGivenUp)
  }

  private func sync(through batch: UInt64, _ onGivenUp: (PersistError) -> Void) throws(PersistError) {
    try durable.withLock { durable throws(PersistError) in
      guard durable < batch else { return }
      // Read before the files are taken: what is counted by now was written to one of them.
      let counted = statistics.accepted
      let (files, last) = state.withLock { state in
        defer { state.unsynced = [] }
        return (state.unsynced + (state.active.map { [$0] } ?? []), state.nextBatch - 1)
      }
      do throws(PersistError) {
        for file in files { try statistics.logSyncs.time(file.syncData) }
      } catch {
        // Never tried again: after a failure the kernel may say "done" for pages it dropped. What was begun meanwhile is
        // given up with it: lines must not be safe without those before them.
        let number = state.withLock { state in
          state.givenUp = state.activeNumber
          state.active = nil
          state.unsynced = []
          return state.activeNumber
        }
        let failure = PersistError.logGivenUp(segment: number, why: error.description)
        onGivenUp(failure)
        throw failure
      }
      durable = last
      statistics.durable.store(counted, ordering: .relaxed)
    }
  }

  /// What stood in the segment that was given up is safe elsewhere: the log goes on in a new one.
  func resumeAfterGivingUp() { state.withLock { $0.givenUp = nil } }

  /// Lets another process (or another log in this one) have the directory.
  func unlock() { flock(directory.raw, LOCK_UN) }

  /// Removes the segments below `number`: what they hold is safe elsewhere.
  ///
  /// Each removal is synced before the next, whatever the policy: after a power cut a segment must not be there again
  /// without those that came behind it, which may say that a job of it was deleted.
  func remove(below number: UInt64) throws(PersistError) {
    let old = state.withLock { state in state.sizes.keys.filter { $0 < number }.sorted() }
    for segment in old {
      let path = "\(directory.path)/\(LogSegment.name(segment))"
      guard unlink(path) == 0 || errno == ENOENT else { throw .system(call: "unlink", path: path, errno: errno) }
      state.withLock { state in
        setSize(nil, of: segment, &state)
        state.unsynced.removeAll { $0.path == path }
      }
      try directory.sync()
    }
  }
}
