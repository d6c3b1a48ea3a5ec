import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import LogStore
import Logging
import StateStore

/// Brings back what the write-ahead log holds and the files do not: run once, before anything is accepted.
///
/// The sealing threads run meanwhile, for the log may hold more than memory may.
struct Replay {
  let intake: Intake
  /// Told now and then how far it is: segments done, segments in all.
  let progress: (Int, Int) -> Void
  /// Seconds without any room before the start fails.
  private let patience: Int
  private var lines = 0
  private var nextBatch: UInt64 = 1
  /// Jobs of which nothing before a batch is replayed, for it has all of it once more.
  private var carried: [JobID: UInt64] = [:]

  /// What a replay found.
  struct Summary: Hashable {
    var segments = 0
    /// Lines that no file had yet.
    var lines = 0
    /// Bytes that were no whole batch.
    var tornBytes = 0
  }
  private var summary = Summary()

  init(_ intake: Intake, patience: Int = 30, progress: @escaping (Int, Int) -> Void) {
    self.intake = intake
    self.patience = patience
    self.progress = progress
  }

  mutating func run() throws -> Summary {
    let segments = try intake.log.existingSegments()
    summary.segments = segments.count
    for segment in segments { try findCarried(segment) }
    for (index, segment) in segments.enumerated() {
      progress(index, segments.count)
      try replay(segment, isLast: index + 1 == segments.count)
    }
    intake.log.resume(nextBatch: nextBatch)
    return summary
  }

  private mutating func replay(_ segment: (number: UInt64, path: String, size: Int), isLast: Bool) throws {
    var end = segment.size
    try MappedSegment.with(segment.path) { bytes in
      guard LogSegment.isHeader(bytes, of: segment.number) else {
        summary.tornBytes += bytes.count
        intake.logger.error("\(segment.path) does not begin as a log segment does; it is left out")
        return
      }
      var offset = LogSegment.headerLength
      while true {
        switch LogSegment.place(bytes, at: offset) {
        case .end:
          end = offset
          return
        case .torn:
          end = offset
          summary.tornBytes += written(bytes, from: offset)
          report(segment.path, offset, isLast: isLast)
          return
        case .batch(let batch, let frames):
          guard batch >= nextBatch else {
            intake.logger.error(
              "\(segment.path): batch \(batch) at \(offset) runs back; the rest of the segment is left out")
            return
          }
          nextBatch = batch + 1
          try ReceivedFrame.each(in: UnsafeRawBufferPointer(rebasing: bytes[frames])) {
            try replay($0, batch: batch, segment: segment.number)
          }
          offset = frames.upperBound
        }
      }
    }
    // What was reserved, and what is torn, goes: nothing is written to it any more, and a later start that finds it before
    // others must not take its end for damage.
    if isLast, end < segment.size { try intake.log.cut(segment.number, to: end) }
  }

  /// Finds the jobs whose lines were carried forward, and the last batch that did so: see ``Intake/carryForward(through:)``.
  private mutating func findCarried(_ segment: (number: UInt64, path: String, size: Int)) throws {
    try MappedSegment.with(segment.path) { bytes in
      guard LogSegment.isHeader(bytes, of: segment.number) else { return }
      var offset = LogSegment.headerLength
      while case .batch(let batch, let frames) = LogSegment.place(bytes, at: offset) {
        try ReceivedFrame.each(in: UnsafeRawBufferPointer(rebasing: bytes[frames])) { frame in
          if frame.header.flags.contains(.carried) { carried[frame.header.job] = batch }
        }
        offset = frames.upperBound
      }
    }
  }

  /// Bytes up to the last one that is not zero.
  private func written(_ bytes: UnsafeRawBufferPointer, from offset: Int) -> Int {
    var end = bytes.count
    while end > offset, bytes[end - 1] == 0 { end -= 1 }
    return end - offset
  }

  private func report(_ path: String, _ offset: Int, isLast: Bool) {
    if isLast {
      intake.logger.warning(
        "\(path) ends in a torn batch at \(offset): it was never acknowledged as safe, and is cut off")
    } else {
      intake.logger.error("\(path) is damaged at \(offset): what stood behind it in this segment is left out")
    }
  }

  private mutating func replay(_ frame: ReceivedFrame, batch: UInt64, segment: UInt64) throws {
    let job = frame.header.job
    if frame.header.type == .delete {
      replayDelete(job, segment: segment)
      return
    }
    guard !intake.monitor.withLock({ $0.deleted.contains(job) }) else { return }
    switch frame.header.type {
    case .record:
      let record = try JSONDecoder().decode(JobRecord.self, from: Data(frame.payload))
      try waitForRoom()
      intake.monitor.withLock { state in
        state.records.add(record, bytes: frame.payload.count, segment: segment)
        intake.monitor.signal(.records)
      }
    case .log, .metric:
      if let from = carried[job], batch < from { return }
      // What a batch's checksum holds was accepted once, so nothing is wrong with it.
      guard let chunk = StoredChunkInfo(frame) else { return }
      try replay(chunk, frame, segment: segment)
    case .end:
      load(job)
      intake.monitor.withLock { state in
        guard let entry = state.jobs[job] else { return }
        entry.endSeq = frame.header.seq
        entry.sealsAll = true
        intake.queueIfDue(entry, &state)
      }
    default: break
    }
  }

  private func load(_ job: JobID) {
    guard intake.monitor.withLock({ $0.jobs[job] == nil }) else { return }
    let entry = JobEntry(job)
    // Files that can't be read are dealt with when their streams are recovered; the log knows higher numbers than they.
    do { try intake.loadCounters(of: job, into: entry) } catch {}
    let reference = JobEntryReference(entry)
    intake.monitor.withLock { $0.jobs[job] = reference.entry }
  }

  private mutating func replay(_ chunk: StoredChunkInfo, _ frame: ReceivedFrame, segment: UInt64) throws {
    let job = frame.header.job
    let (stream, counter) = (chunk.stream, chunk.stream == .metrics ? JobCounter.samples : .lines)
    let isRecovered = intake.monitor.withLock { $0.jobs[job]?.fileSeq[stream] != nil }
    let found = isRecovered ? nil : recover(job, chunk)
    load(job)
    try waitForRoom()
    summary.lines += intake.monitor.withLock { state -> Int in
      guard let entry = state.jobs[job] else { return 0 }
      if !isRecovered {
        entry.fileSeq[stream] = found ?? 0
        if found == nil { entry.unrecovered.insert(stream) }
      }
      let known = entry.fileSeq[stream] ?? 0
      let last = entry[counter].last
      // Before the first that the log has of a job, what is not in its files may have been removed from them.
      let isKnown = counter.streams.contains { $0 != stream && entry.fileSeq[$0] != nil } || isRecovered
      if isKnown, chunk.firstSeq > last + 1 { intake.reportLoss(job, counter, last + 1, chunk.firstSeq - 1) }
      entry[counter].last = max(last, chunk.lastSeq)
      guard chunk.lastSeq > known else { return 0 }
      state.unsealedBytes += entry[stream].append(chunk, frame.payload, after: known, segment: segment)
      entry.fileSeq[stream] = chunk.lastSeq
      intake.queueIfDue(entry, &state)
      return Int(chunk.lastSeq - max(known, chunk.firstSeq - 1))
    }
    let needsRelief = intake.monitor.withLock {
      $0.unsealedBytes > intake.maxUnsealed / 2 && $0.sealQueue.isEmpty
    }
    if needsRelief { intake.requestRelief() }
  }

  /// The bounds on memory hold here too: the other threads make room. What they can't write is tried again, visibly, and
  /// for a while: then the start fails and says why.
  private func waitForRoom() throws {
    var tries = 0
    while true {
      let hasRoom = try intake.monitor.wait(.space, timeout: .seconds(1)) { state -> Bool? in
        if let failure = state.failure { throw failure }
        let isBounded = state.unsealedBytes < 2 * intake.maxUnsealed
        return isBounded && intake.hasRoom(state) && !state.records.isFull ? true : nil
      }
      if hasRoom == true { return }
      tries += 1
      let (bytes, why) = intake.monitor.withLock { ($0.unsealedBytes, $0.lastSealFailure) }
      let reason = "\(bytes) bytes of lines wait in memory and can't be written to their files (\(why))"
      guard why.isEmpty || tries < patience else { throw PersistError.replayStuck(reason) }
      if !why.isEmpty { intake.logger.error("the replay of the write-ahead log waits: \(reason)") }
      intake.wakeSeals(olderThan: .zero)
    }
  }

  /// Makes a file sound at the first of its lines that the log has.
  /// - Returns: the last line it has then; nil if the file can't be looked at.
  private func recover(_ job: JobID, _ chunk: StoredChunkInfo) -> UInt64? {
    do {
      return try intake.settingAside(job, chunk.stream) {
        try intake.recover(job, chunk.stream, logFrom: chunk.firstSeq)
      }
    } catch {
      intake.logger.error(
        "job \(job): its \(chunk.stream.name) can't be made sound: \(error); its lines wait in memory and in the log")
      return nil
    }
  }

  private func replayDelete(_ job: JobID, segment: UInt64) {
    let entry = intake.monitor.withLock { state in
      state.records.beginDeletion(job, segment: segment)
      return JobEntryReference(intake.forget(job, &state))
    }
    intake.awaitRest(entry)
    var isDone = false
    do {
      _ = try intake.logs.delete(job)
      try intake.eraseRecord(job)
      isDone = true
    } catch {
      intake.logger.error("the data of job \(job), which was deleted, is still there: \(error); delete it once more")
    }
    intake.monitor.withLock { $0.records.endDeletion(job, isDone: isDone) }
  }
}

/// A segment's bytes, mapped while they are read. Nobody writes it meanwhile: the log's directory is locked.
private enum MappedSegment {
  static func with(_ path: String, _ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    let file = try LogFileHandle(path, flags: O_RDONLY)
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw PersistError.system(call: "fstat", path: path, errno: errno) }
    let size = Int(status.st_size)
    guard size > 0 else { return }
    guard let map = mmap(nil, size, PROT_READ, MAP_PRIVATE, file.raw, 0), map != MAP_FAILED else {
      throw PersistError.system(call: "mmap", path: path, errno: errno)
    }
    defer { munmap(map, size) }
    try body(UnsafeRawBufferPointer(start: map, count: size))
  }
}

extension ReceivedFrame {
  /// Calls `body` with every frame of a batch of the log. Its checksum held, so these are the bytes that were accepted once;
  /// they are decoded with the same care.
  static func each(in frames: UnsafeRawBufferPointer, _ body: (ReceivedFrame) throws -> Void) throws {
    var rest = frames
    while !rest.isEmpty {
      guard let header = try FrameHeader.decode(rest, maxPayload: Int(UInt32.max)),
        rest.count >= FrameHeader.byteCount + Int(header.length)
      else { throw FrameError.truncated }
      let end = FrameHeader.byteCount + Int(header.length)
      try body(ReceivedFrame(header: header, bytes: UnsafeRawBufferPointer(rebasing: rest[..<end])))
      rest = UnsafeRawBufferPointer(rebasing: rest[end...])
    }
  }
}

extension StoredChunkInfo {
  /// What a log or metric frame says of its lines; nil if that is not what they are.
  init?(_ frame: ReceivedFrame) {
    do {
      self = try StoredChunkInfo(checking: frame, allowing: .carried)
    } catch {
      return nil
    }
  }

  /// The same, with the reason.
  /// - Parameter flags: what the frame may have beside ``JobletWire/FrameFlags/partial``.
  init(checking frame: ReceivedFrame, allowing flags: FrameFlags = []) throws(FrameError) {
    let header = frame.header
    guard header.flags.isSubset(of: flags.union(.partial)) else {
      throw .badPayload(header.type, "flags \(header.flags.rawValue) have no meaning on the write socket")
    }
    switch header.type {
    case .log:
      guard let info = header.chunk else {
        throw .badPayload(.log, "stream \(header.stream), seq \(header.seq), count \(header.count)")
      }
      if let fault = LineCount.fault(info, frame.payload) { throw .badPayload(.log, fault) }
      self.init(info)
    case .metric:
      do throws(MetricLinesFault) {
        try self.init(metrics: frame.payload, firstSeq: header.seq, count: header.count)
      } catch {
        throw .badPayload(.metric, error.description)
      }
    default: throw .unexpected(header.type)
    }
  }
}

extension Intake {
  /// Makes a stream's file sound after a crash.
  /// - Returns: its last line.
  func recover(_ job: JobID, _ stream: StoredStream, logFrom: UInt64) throws -> UInt64 {
    if let cut = try logs.recover(job, stream, logFrom: logFrom) {
      logger.warning(
        "job \(job): cut \(cut.bytes) torn bytes off \(stream.name); it is whole up to line \(cut.lastSeq)")
    }
    return try logs.lastSeq(job, stream)
  }
}
