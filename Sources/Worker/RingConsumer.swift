import Glibc
import JobletModel
import Sandbox

/// One entry of a ring, copied out of the shared memory and checked.
package struct RingEntry: Hashable, Sendable {
  package var offset: UInt64
  package var length: Int
  package var chunk: LogChunkInfo

  package var payloadOffset: UInt64 { offset + UInt64(RingLayout.entryHeaderSize) }
  package var end: UInt64 { offset + UInt64(RingLayout.entrySize(payload: length)) }
}

extension RingMapping {
  /// Reads the entry at `offset`. The header is copied before anything in it is looked at, so what is checked is what is used.
  /// - Parameters:
  ///   - limit: the head, as loaded before; no entry may reach beyond it.
  ///   - seq: the number its first record must have.
  package func entry(at offset: UInt64, limit: UInt64, seq: UInt64) throws(RingFault) -> RingEntry {
    guard offset & 7 == 0 else { throw .misaligned(offset: offset) }
    guard limit > offset, limit - offset >= UInt64(RingLayout.entryHeaderSize) else {
      throw .beyondHead(offset: offset, head: limit)
    }
    let base = address(offset)
    let length = base.load(as: UInt32.self)
    let count = base.load(fromByteOffset: 4, as: UInt32.self)
    let first = base.load(fromByteOffset: 8, as: UInt64.self)
    let time = base.load(fromByteOffset: 16, as: Int64.self)
    let streamByte = base.load(fromByteOffset: 24, as: UInt8.self)
    let flags = base.load(fromByteOffset: 25, as: UInt8.self)
    guard length >= 1, length <= UInt32(RingLayout.maxPayload) else { throw .badLength(length: length, offset: offset) }
    guard limit - offset >= UInt64(RingLayout.entrySize(payload: Int(length))) else {
      throw .beyondHead(offset: offset, head: limit)
    }
    guard let stream = LogStream(rawValue: streamByte) else { throw .badStream(streamByte) }
    guard flags <= 1 else { throw .badFlags(flags) }
    guard first == seq, seq <= UInt64.max - UInt64(UInt32.max) else { throw .badSequence(found: first, expected: seq) }
    let partial = flags == 1
    guard count >= 1, count <= length, !partial || count == 1 else { throw .badCount(count: count, newlines: -1) }
    return RingEntry(
      offset: offset, length: Int(length),
      chunk: LogChunkInfo(
        stream: stream, firstSeq: first, count: count, timestamp: Timestamp(nanoseconds: time), isPartial: partial))
  }

  /// Checks that an entry's payload holds the newlines its header claims: one for each record, the last at its end; none
  /// with a partial one.
  package func checkLines(_ entry: RingEntry) throws(RingFault) {
    let bytes = UnsafeRawBufferPointer(start: address(entry.payloadOffset), count: entry.length)
    var newlines = 0
    for byte in bytes { newlines &+= byte == 0x0A ? 1 : 0 }
    let expected = entry.chunk.isPartial ? 0 : Int(entry.chunk.count)
    guard newlines == expected, entry.chunk.isPartial || bytes[entry.length - 1] == 0x0A else {
      throw .badCount(count: entry.chunk.count, newlines: newlines)
    }
  }
}

/// joblet-exec's side of one ring: three places in it, each at or behind the next.
///
/// `acked` (persist has written it, joblet-init may overwrite it) ≤ `sent` (on its way to persist) ≤ `seen` (checked and
/// shown to followers) ≤ head. Nothing in the ring is believed: see ``RingFault``.
package struct RingConsumer {
  package let ring: RingMapping
  package private(set) var acked: UInt64
  package private(set) var ackedSeq: UInt64
  package private(set) var sent: UInt64
  package private(set) var sentSeq: UInt64
  package private(set) var seen: UInt64
  /// The number of the last record seen; 0 before the first.
  package private(set) var seenSeq: UInt64
  package private(set) var phase: RingPhase = .new
  package private(set) var index = ChunkIndex()

  /// Starts, or goes on after a restart, at what is acknowledged.
  package init(ring: RingMapping) throws(RingFault) {
    self.ring = ring
    acked = ring.load64(RingLayout.Field.acked)
    ackedSeq = ring.load64(RingLayout.Field.ackedSeq)
    guard acked & 7 == 0 else { throw .misaligned(offset: acked) }
    // joblet-init can write this page too: a number at the end of its range would overflow below, and end joblet-exec.
    guard ackedSeq <= UInt64.max - UInt64(UInt32.max) else { throw .badSequence(found: ackedSeq, expected: 0) }
    sent = acked
    sentSeq = ackedSeq
    seen = acked
    seenSeq = ackedSeq
  }

  /// True when everything joblet-init ever committed was handed to persist's connection.
  package var isSent: Bool { sent == seen }

  /// Looks at what is new: checks entries up to the head and the phase.
  /// - Returns: true if there were new records.
  package mutating func look() throws(RingFault) -> Bool {
    // The phase first: with `ended` every entry is committed, so the head loaded after it is the last one.
    let value = ring.load32(RingLayout.Field.phase)
    guard let phase = RingPhase(rawValue: value) else { throw .unknownPhase(value) }
    guard phase >= self.phase else { throw .phaseWentBack(from: self.phase, to: phase) }
    let head = ring.load64(RingLayout.Field.head)
    let reserved = ring.load64(RingLayout.Field.reserved)
    guard head <= reserved else { throw .headBeyondReserved(head: head, reserved: reserved) }
    guard head >= seen, reserved >= acked, reserved - acked <= UInt64(ring.dataSize) else {
      throw .headBeyondSpace(head: max(head, reserved), read: acked)
    }
    let found = head > seen
    while seen < head {
      let entry = try ring.entry(at: seen, limit: head, seq: seenSeq + 1)
      try ring.checkLines(entry)
      index.note(seq: entry.chunk.firstSeq, offset: entry.offset)
      seen = entry.end
      seenSeq = entry.chunk.lastSeq
    }
    self.phase = phase
    return found
  }

  /// The next entry for persist, or nil. It was checked when it was seen and is read again here: what is sent is described
  /// by what was copied now.
  package mutating func nextToSend() throws(RingFault) -> RingEntry? {
    guard sent < seen else { return nil }
    let entry = try ring.entry(at: sent, limit: seen, seq: sentSeq + 1)
    sent = entry.end
    sentSeq = entry.chunk.lastSeq
    return entry
  }

  /// The connection is gone: what was sent and not acknowledged goes out again on the next one.
  package mutating func rewind() {
    sent = acked
    sentSeq = ackedSeq
  }

  /// persist has written every record up to `seq`. Gives their space back to joblet-init.
  /// - Returns: true if joblet-init sleeps for want of space and must be woken.
  package mutating func acknowledge(_ seq: UInt64) throws(RingFault) -> Bool {
    var moved = false
    while acked < sent {
      let entry = try ring.entry(at: acked, limit: sent, seq: ackedSeq + 1)
      guard entry.chunk.lastSeq <= seq else { break }
      acked = entry.end
      ackedSeq = entry.chunk.lastSeq
      moved = true
    }
    return moved && publishAcked()
  }

  /// Nobody stores the output: everything seen is given back to joblet-init at once. Followers read it as long as it is not
  /// overwritten.
  /// - Returns: true if joblet-init sleeps for want of space and must be woken.
  package mutating func letGo() -> Bool {
    guard acked < seen else { return false }
    (sent, sentSeq, acked, ackedSeq) = (seen, seenSeq, seen, seenSeq)
    return publishAcked()
  }

  private func publishAcked() -> Bool {
    ring.store64(RingLayout.Field.ackedSeq, ackedSeq)
    // After ackedSeq: joblet-init looks at both, and `acked` is what it waits for.
    ring.store64(RingLayout.Field.acked, acked)
    return ring.load32(RingLayout.Field.initWaiting) != 0
  }

  /// How long ago the command was executed: by a clock that nobody sets and that goes on across restarts of exec. Nil before, and
  /// if the ring names a time that can't be.
  /// - Parameter clock: CLOCK_MONOTONIC now, in nanoseconds.
  package func timeSinceExec(at clock: Int64) -> Duration? {
    let time = Int64(bitPattern: ring.load64(RingLayout.Field.traceExec))
    return time > 0 && time <= clock ? .nanoseconds(clock - time) : nil
  }

  /// When the command was executed; nil before.
  package var startedAt: Timestamp? { phase >= .running ? time(RingLayout.Field.startedAt) : nil }

  private func time(_ field: Int) -> Timestamp? {
    let nanoseconds = Int64(bitPattern: ring.load64(field))
    return nanoseconds > 0 ? Timestamp(nanoseconds: nanoseconds) : nil
  }

  /// joblet-init's last word.
  package func endReport() throws(RingFault) -> EndReport {
    let kind = ring.load32(RingLayout.Field.endKind)
    let code = Int32(bitPattern: ring.load32(RingLayout.Field.endCode))
    let end: InitEnd
    switch (kind, code) {
    case (1, 0...255): end = .exited(Int(code))
    case (2, 1...64): end = .signaled(Int(code))
    case (3, _):
      end = .setup(
        step: ring.load32(RingLayout.Field.setupStep),
        error: Int32(bitPattern: ring.load32(RingLayout.Field.setupErrno)))
    default: throw .badEnd(kind: kind, code: code)
    }
    return EndReport(
      end: end, timedOut: ring.load32(RingLayout.Field.timedOut) != 0,
      stopReached: ring.load32(RingLayout.Field.stopReached) != 0, startedAt: time(RingLayout.Field.startedAt),
      endedAt: time(RingLayout.Field.endedAt), violation: violation)
  }

  private var violation: SyscallViolation? {
    guard ring.load32(RingLayout.Field.violation) != 0 else { return nil }
    let call = Int32(bitPattern: ring.load32(RingLayout.Field.violationCall))
    return SyscallViolation(
      call: call < 0 ? nil : call, architecture: ring.load32(RingLayout.Field.violationArchitecture))
  }
}
