import JobletModel
import JobletWire
import LogStore

/// An acknowledgement to send.
struct Ack: Hashable {
  var kind: AckKind
  var job: JobID
  var seq: UInt64
}

/// One acknowledgement a job and kind: the highest.
struct AckSet {
  private struct Key: Hashable {
    var kind: AckKind
    var job: JobID
  }
  private(set) var all: [Ack] = []
  private var places: [Key: Int] = [:]

  mutating func add(_ kind: AckKind, _ job: JobID, _ seq: UInt64) {
    // Frames of one job come in a row.
    if let last = all.last, last.job == job, last.kind == kind {
      all[all.count - 1].seq = max(last.seq, seq)
      return
    }
    let key = Key(kind: kind, job: job)
    if let place = places[key] {
      all[place].seq = max(all[place].seq, seq)
    } else {
      places[key] = all.count
      all.append(Ack(kind: kind, job: job, seq: seq))
    }
  }

  mutating func removeAll() {
    all.removeAll(keepingCapacity: true)
    places.removeAll(keepingCapacity: true)
  }
}

/// What becomes of a batch's frames: which are news, which were here before, and where the sequence breaks.
///
/// A pure decision over the frames and the counters.
struct BatchPlan {
  private(set) var accepted: [ReceivedFrame] = []
  /// Everything that was understood, whether news or not, is acknowledged; what was turned away is not.
  private(set) var acks = AckSet()
  /// Why the rest of the batch was not looked at.
  private(set) var fault: PersistError?
  /// The line or sample that was refused with a ``PersistError/gap(job:expected:received:of:)``.
  private(set) var refused: (job: JobID, counter: JobCounter, seq: UInt64)?
  /// The first line and sample of each job that was turned away: its sender keeps them and is asked for them again.
  private(set) var turnedAway: [Place: UInt64] = [:]
  /// Every job of which something was turned away.
  private(set) var turnedAwayJobs: Set<JobID> = []
  /// Lines and samples that were here before.
  private(set) var duplicates: UInt64 = 0

  struct Place: Hashable {
    var job: JobID
    var counter: JobCounter
  }
  /// Where each counter will stand after this batch.
  private var reached: [Place: UInt64] = [:]

  /// - Parameter turnsAway: whether no more of the job can be taken in now.
  init(_ frames: [ReceivedFrame], _ state: Intake.State, turnsAway: (JobEntry) -> Bool) {
    accepted.reserveCapacity(frames.count)
    for frame in frames {
      let header = frame.header
      if state.deleted.contains(header.job) {
        acknowledgeUnseen(frame)
        continue
      }
      switch header.type {
      case .log, .metric:
        if let entry = state.jobs[header.job], let chunk = frame.chunk { plan(frame, chunk, entry, turnsAway) }
      case .end:
        if let entry = state.jobs[header.job] { planEnd(frame, entry) }
      case .record: planRecord(frame, state)
      default: fault = .protocolViolation("a frame of type '\(header.type)' has no place on the write socket")
      }
      if fault != nil { return }
    }
  }

  /// A deleted job's frames are absorbed: nobody wants them, and the sender may forget them.
  private mutating func acknowledgeUnseen(_ frame: ReceivedFrame) {
    let header = frame.header
    switch header.type {
    case .log: acks.add(.log, header.job, frame.chunk?.lastSeq ?? header.seq)
    case .metric: acks.add(.metric, header.job, frame.chunk?.lastSeq ?? header.seq)
    case .end: acks.add(.end, header.job, header.seq)
    case .record: acks.add(.record, header.job, header.seq)
    default: break
    }
  }

  private mutating func plan(
    _ frame: ReceivedFrame, _ chunk: StoredChunkInfo, _ entry: JobEntry, _ turnsAway: (JobEntry) -> Bool
  ) {
    let counter: JobCounter = chunk.stream == .metrics ? .samples : .lines
    let place = Place(job: entry.job, counter: counter)
    let last = reached[place] ?? entry[counter].last
    if !entry.isUnreadable, chunk.lastSeq <= last {  // it came before
      duplicates += UInt64(chunk.count)
      acks.add(counter.ack, entry.job, last)
      return
    }
    let isMissingSome = chunk.firstSeq > last + 1
    if turnedAway[place] != nil || turnsAway(entry) || isMissingSome && entry[counter].turnedAway != nil {
      turnAway(place, chunk.firstSeq)
      return
    }
    if isMissingSome, entry[counter].refused != chunk.firstSeq {
      refused = (entry.job, counter, chunk.firstSeq)
      fault = .gap(job: entry.job, expected: last + 1, received: chunk.firstSeq, of: counter)
      return
    }
    duplicates += last + 1 - min(last + 1, chunk.firstSeq)
    reached[place] = chunk.lastSeq
    accepted.append(frame)
    acks.add(counter.ack, entry.job, chunk.lastSeq)
  }

  private mutating func turnAway(_ place: Place, _ seq: UInt64) {
    turnedAway[place] = min(turnedAway[place] ?? .max, seq)
    turnedAwayJobs.insert(place.job)
  }

  private mutating func planEnd(_ frame: ReceivedFrame, _ entry: JobEntry) {
    let place = Place(job: entry.job, counter: .lines)
    let last = reached[place] ?? entry.lines.last
    let seq = frame.header.seq
    if seq > last || entry.isUnreadable {
      if entry.isUnreadable || turnedAway[place] != nil || entry.lines.turnedAway != nil {
        turnAway(place, last + 1)
        return
      }
      if entry.lines.refused != seq {
        refused = (entry.job, .lines, seq)
        fault = .gap(job: entry.job, expected: last + 1, received: seq, of: .lines)
        return
      }
    }
    if entry.endSeq == nil { accepted.append(frame) }
    acks.add(.end, entry.job, seq)
  }

  private mutating func planRecord(_ frame: ReceivedFrame, _ state: Intake.State) {
    guard let record = frame.record?.value else { return }
    // Whoever sees how a job ended may take it that all its lines can be read: with lines that were turned away it waits.
    if record.status.isEnded, isTurnedAway(record.id, state) {
      turnedAwayJobs.insert(record.id)
      return
    }
    acks.add(.record, record.id, record.version)
    if let known = state.records.record(record.id), known.version >= record.version { return }
    accepted.append(frame)
  }

  private func isTurnedAway(_ job: JobID, _ state: Intake.State) -> Bool {
    if let entry = state.jobs[job] {
      if entry.isUnreadable || entry.lines.turnedAway != nil || entry.samples.turnedAway != nil { return true }
    }
    return JobCounter.allCases.contains { turnedAway[Place(job: job, counter: $0)] != nil }
  }

  /// The accepted frames' bytes, neighbours joined.
  var parts: [UnsafeRawBufferPointer] {
    var parts: [UnsafeRawBufferPointer] = []
    for frame in accepted {
      let bytes = frame.bytes
      if let last = parts.last, let start = last.baseAddress, start + last.count == bytes.baseAddress {
        parts[parts.count - 1] = UnsafeRawBufferPointer(start: start, count: last.count + bytes.count)
      } else {
        parts.append(bytes)
      }
    }
    return parts
  }
}
