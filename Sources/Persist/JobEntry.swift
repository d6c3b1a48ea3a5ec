import JobletModel
import LogStore

/// What persist holds in memory of one job: the lines that wait to be sealed, and where its counters are.
///
/// Guarded by the intake's monitor: every property is read and written with it held.
final class JobEntry {
  let job: JobID
  /// The last line that was applied, of both streams.
  var lastSeq: UInt64
  /// Set by the job's `end`.
  var endSeq: UInt64?
  /// The first line of a chunk that was refused because lines before it are missing. Offered once more, the loss is
  /// final: the sender does not have them either.
  var refusedSeq: UInt64?
  var stdout = StreamBuffer()
  var stderr = StreamBuffer()
  var metrics = StreamBuffer()
  var isQueued = false
  var isSealing = false
  /// Seal whatever there is, not only what fills a member.
  var sealsAll = false
  /// When a failed seal may be tried again; 0 for none failed.
  var retryAt: UInt64 = 0
  /// The oldest segment with lines that are in members which no sync covers yet; and the same for a sync under way.
  var unsyncedSegment: UInt64?
  var syncingSegment: UInt64?
  var isDeleted = false
  /// When it last changed (``Moment``).
  var touched = Moment.now
  /// Replay only: the last line each stream's file has, once the file was recovered.
  var fileSeq: [StoredStream: UInt64] = [:]

  init(_ job: JobID, lastSeq: UInt64) {
    self.job = job
    self.lastSeq = lastSeq
  }

  /// The oldest log segment that still holds something of the job which is safe nowhere else.
  var oldestSegment: UInt64? {
    [unsyncedSegment, syncingSegment, stdout.oldestSegment, stderr.oldestSegment, metrics.oldestSegment]
      .compactMap { $0 }.min()
  }

  var hasUnsealed: Bool { StoredStream.allCases.contains { !self[$0].isEmpty } }

  /// Lines and samples that are in no file yet.
  var unsealedLines: UInt64 {
    StoredStream.allCases.reduce(0) { $0 + self[$1].all.reduce(0) { $0 + UInt64($1.info.count) } }
  }

  /// True if a seal has something to do now.
  var isDue: Bool {
    sealsAll ? hasUnsealed : StoredStream.allCases.contains { self[$0].isFull || self[$0].isSealing }
  }

  subscript(stream: StoredStream) -> StreamBuffer {
    get {
      switch stream {
      case .stdout: stdout
      case .stderr: stderr
      case .metrics: metrics
      }
    }
    _modify {
      switch stream {
      case .stdout: yield &stdout
      case .stderr: yield &stderr
      case .metrics: yield &metrics
      }
    }
  }
}

/// One stream's lines that wait in memory: first those a seal is writing, then those behind them.
struct StreamBuffer {
  private(set) var sealing: [LogChunk] = []
  private(set) var waiting: [LogChunk] = []
  private var block: ByteBlock?
  private var json = 0
  private var sealingBytes = 0
  private var waitingBytes = 0
  private var sealingSegment: UInt64?
  private var waitingSegment: UInt64?
  /// When the oldest waiting chunk came (``Moment``).
  private(set) var oldestArrival: UInt64?

  /// Bytes of JSON that fill a member.
  static let memberSize = 256 << 10
  /// Chunks are kept no larger than this where lines allow it, so that members stay near their size.
  static let chunkSize = 128 << 10
  /// What a chunk costs beside its bytes.
  private static let chunkOverhead = MemoryLayout<LogChunk>.stride

  var isEmpty: Bool { sealing.isEmpty && waiting.isEmpty }
  var isSealing: Bool { !sealing.isEmpty }
  var isFull: Bool { json >= StreamBuffer.memberSize }
  /// Memory held, in bytes.
  var bytes: Int { sealingBytes + waitingBytes }
  var oldestSegment: UInt64? { sealingSegment ?? waitingSegment }
  var all: [LogChunk] { sealing + waiting }

  /// Appends a chunk's lines above `after`, cutting it where it is larger than ``chunkSize``.
  /// - Returns: bytes of memory that were taken.
  mutating func append(_ info: LogChunkInfo, _ payload: UnsafeRawBufferPointer, after: UInt64, segment: UInt64) -> Int {
    let before = waitingBytes
    var info = info
    var rest = payload
    if after >= info.firstSeq {
      let skipped = UInt32(after - info.firstSeq + 1)
      guard skipped < info.count else { return 0 }
      rest = UnsafeRawBufferPointer(rebasing: rest[LineCount.length(ofLines: Int(skipped), in: rest)...])
      info.firstSeq += UInt64(skipped)
      info.count -= skipped
    }
    while rest.count > StreamBuffer.chunkSize, info.count > 1 {
      let cut = LineCount.lastLineEnd(in: UnsafeRawBufferPointer(rebasing: rest[..<StreamBuffer.chunkSize]))
      let length = cut > 0 ? cut : LineCount.length(ofLines: 1, in: rest)
      let head = UnsafeRawBufferPointer(rebasing: rest[..<length])
      let lines = UInt32(LineCount.newlines(in: head))
      guard lines < info.count else { break }
      var piece = info
      piece.count = lines
      put(piece, head)
      info.firstSeq += UInt64(lines)
      info.count -= lines
      rest = UnsafeRawBufferPointer(rebasing: rest[length...])
    }
    put(info, rest)
    if waitingSegment == nil { waitingSegment = segment }
    if oldestArrival == nil { oldestArrival = Moment.now }
    return waitingBytes - before
  }

  private mutating func put(_ info: LogChunkInfo, _ bytes: UnsafeRawBufferPointer) {
    let target: ByteBlock
    if let block, block.room >= bytes.count {
      target = block
    } else {
      // Blocks double, so that a quiet job costs little and a busy one few allocations.
      let next = min(max((block?.capacity ?? 2048) * 2, 4096), 256 << 10)
      target = ByteBlock(capacity: max(next, bytes.count))
      block = target
      waitingBytes += target.capacity
    }
    let chunk = LogChunk(StoredChunkInfo(info), block: target, offset: target.append(bytes), length: bytes.count)
    waiting.append(chunk)
    waitingBytes += StreamBuffer.chunkOverhead
    json += chunk.estimatedJSON
  }

  /// Takes what waits for a seal, unless an earlier one is still to be written. Answers what the seal has to write.
  mutating func beginSeal(all: Bool) -> [LogChunk] {
    guard sealing.isEmpty, all || isFull else { return sealing }
    sealing = waiting
    sealingBytes = waitingBytes
    sealingSegment = waitingSegment
    waiting = []
    waitingBytes = 0
    waitingSegment = nil
    oldestArrival = nil
    block = nil
    json = 0
    return sealing
  }

  /// The seal is written. Answers the memory that became free and the oldest segment it covers.
  mutating func endSeal() -> (bytes: Int, segment: UInt64?) {
    defer {
      sealing = []
      sealingBytes = 0
      sealingSegment = nil
    }
    return (sealingBytes, sealingSegment)
  }
}
