import Glibc
import JobletModel
import JobletWire
import NIOCore
import Synchronization

/// Where chunks start in a ring: enough marks to find any record by a short walk, at a bounded cost a job.
package struct ChunkIndex: Sendable {
  private var marks: [RingMark] = []
  private var first = 0
  /// A mark every so many bytes of the ring.
  static let spacing: UInt64 = 16 << 10
  static let maxMarks = 128

  /// Notes the start of an entry. Called in order.
  mutating func note(seq: UInt64, offset: UInt64) {
    if let last = marks.last, offset - last.offset < ChunkIndex.spacing { return }
    marks.append(RingMark(seq: seq, offset: offset))
    if marks.count - first > ChunkIndex.maxMarks { first += 1 }
    if first > ChunkIndex.maxMarks {
      marks.removeFirst(first)
      first = 0
    }
  }

  /// The last mark at or before `seq` that stands at `oldestOffset` or later. Nil if there is none.
  func start(for seq: UInt64, oldestOffset: UInt64) -> RingMark? {
    marks[first...].last { $0.seq <= seq && $0.offset >= oldestOffset }
  }

  /// The oldest mark at `oldestOffset` or later.
  func oldest(from oldestOffset: UInt64) -> RingMark? {
    marks[first...].first { $0.offset >= oldestOffset }
  }
}

/// The start of an entry: its first record's number and where it stands.
package struct RingMark: Hashable, Sendable {
  package var seq: UInt64
  package var offset: UInt64
}

/// What a follower may read: taken in the supervisor's isolation, used outside it, so that copying for a follower never
/// holds up the loop.
package struct RingWindow: Sendable {
  let ring: RingMapping
  let seen: UInt64
  let seenSeq: UInt64
  let ackedSeq: UInt64
  /// Where to start walking; nil when the ring holds only what comes later than the cursor.
  let start: RingMark?
  /// The first record the ring is sure to hold.
  let oldest: UInt64
}

/// What a follower got out of a ring.
package enum FollowerRead: Sendable {
  /// Chunks in order; empty only if there is nothing after its cursor.
  case chunks([Frame])
  /// The ring has overwritten what it wants next. `oldest` is the first record that is still there.
  case behind(oldest: UInt64, acknowledged: UInt64)
}

extension RingConsumer {
  /// A look at the ring for a follower whose cursor is `after`.
  package func window(after: UInt64) -> RingWindow {
    let reserved = ring.load64(RingLayout.Field.reserved)
    let size = UInt64(ring.dataSize)
    let oldest = reserved > size ? reserved - size : 0
    // Nothing after `acked` is ever overwritten, so there is always one sure place to start from.
    let acknowledged = RingMark(seq: ackedSeq + 1, offset: acked)
    let marked = index.start(for: after + 1, oldestOffset: oldest)
    let start = marked ?? (acknowledged.seq <= after + 1 ? acknowledged : nil)
    return RingWindow(
      ring: ring, seen: seen, seenSeq: seenSeq, ackedSeq: ackedSeq, start: start,
      oldest: min(index.oldest(from: oldest)?.seq ?? .max, acknowledged.seq))
  }
}

extension RingWindow {
  /// Copies chunks with records after `after`, up to `maxBytes` of payload and at least one.
  ///
  /// joblet-init may overwrite acknowledged entries while they are copied. `reserved` is raised before bytes are written,
  /// so a copy is true if the ring had not reserved beyond it when it was done; otherwise the follower is behind.
  package func read(job: JobID, after: UInt64, maxBytes: Int) throws(RingFault) -> FollowerRead {
    guard seenSeq > after else { return .chunks([]) }
    guard let start else { return behind }
    var frames: [Frame] = []
    var bytes = 0
    var offset = start.offset
    var seq = start.seq
    while offset < seen, frames.isEmpty || bytes < maxBytes {
      let entry: RingEntry
      do {
        entry = try ring.entry(at: offset, limit: seen, seq: seq)
      } catch {
        // Overwritten while it was read is no lie.
        if isIntact(from: offset) { throw error }
        return frames.isEmpty ? behind(oldest: ackedSeq + 1) : .chunks(frames)
      }
      if entry.chunk.lastSeq > after {
        let payload = ByteBuffer(
          bytes: UnsafeRawBufferPointer(start: ring.address(entry.payloadOffset), count: entry.length))
        guard isIntact(from: offset) else { return frames.isEmpty ? behind(oldest: ackedSeq + 1) : .chunks(frames) }
        frames.append(
          Frame(FrameHeader(job: job, chunk: entry.chunk, length: UInt32(entry.length)), payload: payload))
        bytes += entry.length
      } else if !isIntact(from: offset) {
        return behind(oldest: ackedSeq + 1)
      }
      offset = entry.end
      seq = entry.chunk.lastSeq + 1
    }
    return .chunks(frames)
  }

  private func isIntact(from offset: UInt64) -> Bool {
    // The copy's loads must be done before `reserved` is loaded.
    atomicMemoryFence(ordering: .acquiring)
    return ring.load64(RingLayout.Field.reserved) &- offset <= UInt64(ring.dataSize)
  }

  private var behind: FollowerRead { behind(oldest: oldest) }

  private func behind(oldest: UInt64) -> FollowerRead {
    .behind(oldest: oldest, acknowledged: ackedSeq)
  }
}
