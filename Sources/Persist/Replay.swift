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
  private var lines = 0
  private var nextBatch: UInt64 = 1

  /// What a replay found.
  struct Summary: Hashable {
    var segments = 0
    /// Lines that no file had yet.
    var lines = 0
    /// Bytes that were no whole batch.
    var tornBytes = 0
  }
  private var summary = Summary()

  init(_ intake: Intake, progress: @escaping (Int, Int) -> Void) {
    self.intake = intake
    self.progress = progress
  }

  mutating func run() throws -> Summary {
    let segments = try intake.log.existingSegments()
    summary.segments = segments.count
    for (index, segment) in segments.enumerated() {
      progress(index, segments.count)
      try replay(segment.path, number: segment.number, isLast: index + 1 == segments.count)
    }
    intake.log.resume(nextBatch: nextBatch)
    return summary
  }

  private mutating func replay(_ path: String, number: UInt64, isLast: Bool) throws {
    let file = try LogFileHandle(path, flags: O_RDONLY)
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw PersistError.system(call: "fstat", path: path, errno: errno) }
    let size = Int(status.st_size)
    guard size > 0 else { return }
    guard let map = mmap(nil, size, PROT_READ, MAP_PRIVATE, file.raw, 0), map != MAP_FAILED else {
      throw PersistError.system(call: "mmap", path: path, errno: errno)
    }
    defer { munmap(map, size) }
    let bytes = UnsafeRawBufferPointer(start: map, count: size)
    guard LogSegment.isHeader(bytes, of: number) else {
      summary.tornBytes += size
      intake.logger.error("\(path) does not begin as a log segment does; it is left out")
      return
    }
    var offset = LogSegment.headerLength
    while true {
      switch LogSegment.place(bytes, at: offset) {
      case .end: return
      case .torn:
        summary.tornBytes += written(bytes, from: offset)
        report(path, offset, isLast: isLast)
        return
      case .batch(let batch, let frames):
        guard batch >= nextBatch else {
          intake.logger.error("\(path): batch \(batch) at \(offset) runs back; the rest of the segment is left out")
          return
        }
        nextBatch = batch + 1
        try replay(UnsafeRawBufferPointer(rebasing: bytes[frames]), segment: number)
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
        "\(path) ends in a torn batch at \(offset): it was never acknowledged as safe, and is left out")
    } else {
      intake.logger.error("\(path) is damaged at \(offset): what stood behind it in this segment is left out")
    }
  }

  private mutating func replay(_ frames: UnsafeRawBufferPointer, segment: UInt64) throws {
    var rest = frames
    while !rest.isEmpty {
      // The batch's checksum held, so these are the bytes that were accepted once. They are decoded with the same care.
      guard let header = try FrameHeader.decode(rest, maxPayload: Int(UInt32.max)),
        rest.count >= FrameHeader.byteCount + Int(header.length)
      else { throw FrameError.truncated }
      let end = FrameHeader.byteCount + Int(header.length)
      try replay(ReceivedFrame(header: header, bytes: UnsafeRawBufferPointer(rebasing: rest[..<end])), segment: segment)
      rest = UnsafeRawBufferPointer(rebasing: rest[end...])
    }
  }

  private mutating func replay(_ frame: ReceivedFrame, segment: UInt64) throws {
    let job = frame.header.job
    if frame.header.type == .delete {
      try replayDelete(job)
      return
    }
    guard !intake.monitor.withLock({ $0.deleted.contains(job) }) else { return }
    switch frame.header.type {
    case .record: try intake.records.put([JSONDecoder().decode(JobRecord.self, from: Data(frame.payload))])
    case .log: try replayLog(frame, segment: segment)
    case .end:
      try load(job)
      intake.monitor.withLock { state in
        guard let entry = state.jobs[job] else { return }
        entry.endSeq = frame.header.seq
        entry.sealsAll = true
        intake.queueIfDue(entry, &state)
      }
    default: break
    }
  }

  private func load(_ job: JobID) throws {
    guard intake.monitor.withLock({ $0.jobs[job] == nil }) else { return }
    let last = try StoredStream.logs.map { try intake.logs.lastSeq(job, $0) }.max() ?? 0
    intake.monitor.withLock { $0.jobs[job] = JobEntry(job, lastSeq: last) }
  }

  private mutating func replayLog(_ frame: ReceivedFrame, segment: UInt64) throws {
    let job = frame.header.job
    guard let info = frame.header.chunk, LineCount.fault(info, frame.payload) == nil else { return }
    let stream = StoredStream(info.stream)
    let isRecovered = intake.monitor.withLock { $0.jobs[job]?.fileSeq[stream] != nil }
    let fileSeq = isRecovered ? nil : try recover(job, info)
    try load(job)
    // The bound on memory holds here too: the sealing threads make room.
    _ = try intake.monitor.wait(.space) { state -> Bool? in
      if let failure = state.failure { throw failure }
      return state.unsealedBytes < intake.maxUnsealed ? true : nil
    }
    summary.lines += intake.monitor.withLock { state -> Int in
      guard let entry = state.jobs[job] else { return 0 }
      if let fileSeq { entry.fileSeq[stream] = fileSeq }
      let known = entry.fileSeq[stream] ?? 0
      entry.lastSeq = max(entry.lastSeq, info.lastSeq)
      guard info.lastSeq > known else { return 0 }
      state.unsealedBytes += entry[stream].append(info, frame.payload, after: known, segment: segment)
      entry.fileSeq[stream] = info.lastSeq
      intake.queueIfDue(entry, &state)
      return Int(info.lastSeq - max(known, info.firstSeq - 1))
    }
    if intake.monitor.withLock({ $0.unsealedBytes > intake.maxUnsealed / 2 }) { intake.requestRelief() }
  }

  /// Makes a file sound at the first of its lines that the log has.
  private func recover(_ job: JobID, _ info: LogChunkInfo) throws -> UInt64 {
    let stream = StoredStream(info.stream)
    if let cut = try intake.logs.recover(job, stream, logFrom: info.firstSeq) {
      intake.logger.warning(
        "job \(job): cut \(cut.bytes) torn bytes off \(stream.name); it is whole up to line \(cut.lastSeq)")
    }
    return try intake.logs.lastSeq(job, stream)
  }

  private func replayDelete(_ job: JobID) throws {
    let entry = intake.monitor.withLock { JobEntryReference(intake.forget(job, &$0)) }
    intake.awaitRest(entry)
    _ = try intake.logs.delete(job)
    _ = try intake.records.delete(job)
  }
}
