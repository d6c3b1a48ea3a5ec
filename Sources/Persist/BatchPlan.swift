import JobletModel
import JobletWire

/// An acknowledgement to send.
struct Ack: Hashable {
  var kind: AckKind
  var job: JobID
  var seq: UInt64
}

/// What becomes of a batch's frames: which are news, which were here before, and where the sequence breaks.
///
/// A pure decision over the frames and the counters.
struct BatchPlan {
  struct Accepted {
    var frame: ReceivedFrame
  }
  private(set) var accepted: [Accepted] = []
  /// Everything that was understood, whether news or not, is acknowledged.
  private(set) var acks: [Ack] = []
  /// Why the rest of the batch was not looked at.
  private(set) var fault: PersistError?
  /// The line that was refused with a ``PersistError/gap(job:expected:received:)``.
  private(set) var refused: (job: JobID, seq: UInt64)?
  /// Lines that were here before.
  private(set) var duplicates: UInt64 = 0

  /// Where each job's counter will stand after this batch.
  private var reached: [JobID: UInt64] = [:]

  init(_ frames: [ReceivedFrame], _ state: Intake.State) {
    accepted.reserveCapacity(frames.count)
    for frame in frames {
      let header = frame.header
      if state.deleted.contains(header.job) {
        acknowledgeUnseen(header)
        continue
      }
      switch header.type {
      case .log: planLog(frame, state.jobs[header.job])
      case .end: planEnd(frame, state.jobs[header.job])
      case .record:
        accepted.append(Accepted(frame: frame))
        acknowledge(.record, header.job, header.seq)
      default: fault = .protocolViolation("a frame of type '\(header.type)' has no place on the write socket")
      }
      if fault != nil { return }
    }
  }

  /// A deleted job's frames are absorbed: nobody wants them, and the sender may forget them.
  private mutating func acknowledgeUnseen(_ header: FrameHeader) {
    switch header.type {
    case .log: acknowledge(.log, header.job, header.chunk?.lastSeq ?? header.seq)
    case .end: acknowledge(.end, header.job, header.seq)
    case .record: acknowledge(.record, header.job, header.seq)
    default: break
    }
  }

  private mutating func planLog(_ frame: ReceivedFrame, _ entry: JobEntry?) {
    guard let entry, let info = frame.header.chunk else { return }
    let last = reached[entry.job] ?? entry.lastSeq
    if info.firstSeq <= last { duplicates += min(info.lastSeq, last) - info.firstSeq + 1 }
    if info.lastSeq <= last {  // it came before
      acknowledge(.log, entry.job, last)
      return
    }
    if info.firstSeq > last + 1, entry.refusedSeq != info.firstSeq {
      refused = (entry.job, info.firstSeq)
      fault = .gap(job: entry.job, expected: last + 1, received: info.firstSeq)
      return
    }
    reached[entry.job] = info.lastSeq
    accepted.append(Accepted(frame: frame))
    acknowledge(.log, entry.job, info.lastSeq)
  }

  private mutating func planEnd(_ frame: ReceivedFrame, _ entry: JobEntry?) {
    guard let entry else { return }
    let last = reached[entry.job] ?? entry.lastSeq
    let seq = frame.header.seq
    if seq > last, entry.refusedSeq != seq {
      refused = (entry.job, seq)
      fault = .gap(job: entry.job, expected: last + 1, received: seq)
      return
    }
    if entry.endSeq == nil { accepted.append(Accepted(frame: frame)) }
    acknowledge(.end, entry.job, seq)
  }

  /// One acknowledgement a job and kind is enough: the highest.
  private mutating func acknowledge(_ kind: AckKind, _ job: JobID, _ seq: UInt64) {
    if let index = acks.lastIndex(where: { $0.job == job && $0.kind == kind }),
      kind != .record || acks[index].seq <= seq
    {
      acks[index].seq = max(acks[index].seq, seq)
    } else {
      acks.append(Ack(kind: kind, job: job, seq: seq))
    }
  }

  /// Records of the batch that may be news.
  var newRecords: [JobRecord] { accepted.compactMap(\.frame.record) }

  /// Leaves out the records that are not among `news`.
  mutating func dropKnownRecords(_ news: [JobRecord]) {
    guard accepted.contains(where: { $0.frame.record != nil }) else { return }
    let news = Set(news.map { RecordVersion(id: $0.id, version: $0.version) })
    accepted.removeAll { accepted in
      guard let record = accepted.frame.record else { return false }
      return !news.contains(RecordVersion(id: record.id, version: record.version))
    }
  }

  private struct RecordVersion: Hashable {
    var id: JobID
    var version: UInt64
  }

  /// The accepted frames' bytes, neighbours joined.
  var parts: [UnsafeRawBufferPointer] {
    var parts: [UnsafeRawBufferPointer] = []
    for accepted in accepted {
      let bytes = accepted.frame.bytes
      if let last = parts.last, let start = last.baseAddress, start + last.count == bytes.baseAddress {
        parts[parts.count - 1] = UnsafeRawBufferPointer(start: start, count: last.count + bytes.count)
      } else {
        parts.append(bytes)
      }
    }
    return parts
  }
}
