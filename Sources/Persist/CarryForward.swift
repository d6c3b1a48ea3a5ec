import JobletModel
import JobletWire
import LogStore
import Logging

// A job whose files can't be written keeps its lines in the log, and so the segments they stand in. When the log nears its
// bound, those lines are written once more at its end, marked, so that the old segments can go. A replay reads of such a
// job only what stands from the mark on: everything before is there again, or synced in its files.

extension FrameFlags {
  /// In the log only: this frame, and those of its job behind it, replace everything of the job that stands before.
  static let carried = FrameFlags(rawValue: 128)
}

extension Intake {
  /// Carries the lines of stuck jobs forward that stand in segments up to `segment`.
  func carryForward(through segment: UInt64) {
    let jobs = monitor.withLock { state in
      state.stuck.filter { job in
        guard let entry = state.jobs[job], entry.isStuck, let oldest = entry.oldestSegment else { return false }
        // What is in members that no sync covers is not in memory any more: the sync comes first.
        return oldest <= segment && entry.unsyncedSegment == nil && entry.syncingSegment == nil
      }
    }
    for job in jobs {
      do {
        try order.withLock { _ in try carryForward(job) }
      } catch {
        logger.error("lines of job \(job) can't be written to the log's end: \(error); its older segments stay")
      }
    }
  }

  /// Under the order: nothing of the job comes between the look at what it has and the batch that has it again.
  private func carryForward(_ job: JobID) throws {
    let chunks = monitor.withLock { state -> [LogChunk] in
      guard let entry = state.jobs[job], entry.isStuck, entry.unsyncedSegment == nil else { return [] }
      return StoredStream.allCases.flatMap { entry[$0].all }
    }
    guard !chunks.isEmpty else { return }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(chunks.reduce(0) { $0 + FrameHeader.byteCount + $1.length })
    for chunk in chunks { bytes.append(carrying: chunk, of: job) }
    let written = try bytes.withUnsafeBytes { try log.append([$0]) }
    monitor.withLock { state in
      guard let entry = state.jobs[job] else { return }
      for stream in StoredStream.allCases { entry[stream].moveSegments(to: written.segment) }
    }
    logger.notice("job \(job): \(bytes.count) bytes of lines that can't be stored yet were written to the log's end")
  }
}

extension [UInt8] {
  /// Appends the chunk as the frame it may have come in.
  fileprivate mutating func append(carrying chunk: LogChunk, of job: JobID) {
    var header =
      if let log = chunk.info.log {
        FrameHeader(job: job, chunk: log, length: UInt32(chunk.length))
      } else {
        FrameHeader(
          .metric, job: job, seq: chunk.info.firstSeq, timestamp: chunk.info.latest, count: chunk.info.count,
          length: UInt32(chunk.length))
      }
    header.flags.insert(.carried)
    let start = count
    append(contentsOf: repeatElement(0, count: FrameHeader.byteCount))
    withUnsafeMutableBytes { header.encode(into: UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
    chunk.withBytes { append(contentsOf: $0) }
  }
}
