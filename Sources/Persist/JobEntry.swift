import JobletModel
import JobletWire
import LogStore

/// The counters of a job's frames: log lines of both streams together, and metrics samples.
public enum JobCounter: Sendable, Hashable, CaseIterable {
  case lines, samples

  var ack: AckKind { self == .lines ? .log : .metric }
  /// What one is called in a message.
  var noun: String { self == .lines ? "line" : "sample" }
  var streams: [StoredStream] { self == .lines ? StoredStream.logs : [.metrics] }
}

/// Where one of a job's counters stands.
struct CounterState {
  /// The last line or sample that was applied.
  var last: UInt64 = 0
  /// The first of a chunk that was refused because some before it are missing. Offered once more, the loss is final: the
  /// sender does not have them either.
  var refused: UInt64?
  /// The first that was turned away because the job could take no more in; its sender is asked for it again.
  var turnedAway: UInt64?
}

/// What persist holds in memory of one job: the lines that wait to be sealed, and where its counters are.
///
/// Guarded by the intake's monitor: every property is read and written with it held.
final class JobEntry {
  let job: JobID
  var lines = CounterState()
  var samples = CounterState()
  /// Set by the job's `end`.
  var endSeq: UInt64?
  var stdout = StreamBuffer()
  var stderr = StreamBuffer()
  var metrics = StreamBuffer()
  var isQueued = false
  var isSealing = false
  /// Seal whatever there is, not only what fills a member.
  var sealsAll = false
  /// When a failed seal may be tried again; 0 for none failed.
  var retryAt: UInt64 = 0
  /// True from a failed seal to the next that goes well.
  var isStuck = false
  /// Its files could not be looked at, so nothing is known of its counters, and nothing is taken in.
  var isUnreadable = false
  /// Connections that had frames of it turned away, to be asked for them when it can take them.
  private var askers: [Asker] = []
  /// The oldest segment with lines that are in members which no sync covers yet; and the same for a sync under way.
  var unsyncedSegment: UInt64?
  var syncingSegment: UInt64?
  var isDeleted = false
  /// When it last changed (``Moment``).
  var touched = Moment.now
  /// Replay only: the last line each stream's file has, once the file was recovered.
  var fileSeq: [StoredStream: UInt64] = [:]
  /// Streams whose files could not be made sound at the replay: it is done before their next seal.
  var unrecovered: Set<StoredStream> = []

  init(_ job: JobID) { self.job = job }

  private struct Asker {
    weak var sender: (any FrameSender)?
  }

  /// Remembers who is to be asked again, as long as its connection lives.
  func add(asker sender: any FrameSender) {
    askers.removeAll { $0.sender == nil }
    if !askers.contains(where: { $0.sender === sender }) { askers.append(Asker(sender: sender)) }
  }

  func takeAskers() -> [any FrameSender] {
    defer { askers = [] }
    return askers.compactMap(\.sender)
  }

  /// The oldest log segment that still holds something of the job which is safe nowhere else.
  var oldestSegment: UInt64? {
    var oldest = unsyncedSegment ?? .max
    for segment in [syncingSegment, stdout.oldestSegment, stderr.oldestSegment, metrics.oldestSegment] {
      oldest = min(oldest, segment ?? .max)
    }
    return oldest == .max ? nil : oldest
  }

  var hasUnsealed: Bool { !(stdout.isEmpty && stderr.isEmpty && metrics.isEmpty) }
  /// Memory held by lines that wait.
  var bytes: Int { stdout.bytes + stderr.bytes + metrics.bytes }
  /// When the oldest of them came.
  var oldestArrival: UInt64? {
    [stdout.oldestArrival, stderr.oldestArrival, metrics.oldestArrival].compactMap { $0 }.min()
  }

  /// Lines and samples that are in no file yet.
  var unsealedLines: UInt64 { stdout.lines + stderr.lines + metrics.lines }

  /// True if a seal has something to do now.
  var isDue: Bool {
    if sealsAll { return hasUnsealed }
    return stdout.isFull || stderr.isFull || metrics.isFull || stdout.isSealing || stderr.isSealing
      || metrics.isSealing
  }

  subscript(counter: JobCounter) -> CounterState {
    get { counter == .lines ? lines : samples }
    _modify {
      if counter == .lines { yield &lines } else { yield &samples }
    }
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
  private var sealingLines: UInt64 = 0
  private var waitingLines: UInt64 = 0
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

  /// Lines held.
  var lines: UInt64 { sealingLines + waitingLines }
  var isEmpty: Bool { sealing.isEmpty && waiting.isEmpty }
  var isSealing: Bool { !sealing.isEmpty }
  var isFull: Bool { json >= StreamBuffer.memberSize }
  /// Memory held, in bytes.
  var bytes: Int { sealingBytes + waitingBytes }
  var oldestSegment: UInt64? { sealingSegment ?? waitingSegment }
  var all: [LogChunk] { sealing + waiting }
  /// The last line that a seal took to the file, nil before the first.
  private(set) var lastSealed: UInt64?

  /// Appends a chunk's lines above `after`, cutting it where it is larger than ``chunkSize``.
  /// - Returns: bytes of memory that were taken.
  mutating func append(_ info: StoredChunkInfo, _ payload: UnsafeRawBufferPointer, after: UInt64, segment: UInt64)
    -> Int
  {
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

  private mutating func put(_ info: StoredChunkInfo, _ bytes: UnsafeRawBufferPointer) {
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
    let chunk = LogChunk(info, block: target, offset: target.append(bytes), length: bytes.count)
    waiting.append(chunk)
    waitingBytes += StreamBuffer.chunkOverhead
    waitingLines += UInt64(info.count)
    json += chunk.estimatedJSON
  }

  /// Takes what waits for a seal, unless an earlier one is still to be written. Answers what the seal has to write.
  mutating func beginSeal(all: Bool) -> [LogChunk] {
    guard sealing.isEmpty, all || isFull else { return sealing }
    sealing = waiting
    (sealingLines, waitingLines) = (waitingLines, 0)
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

  /// Leaves out what the file has already, of what a seal is to write.
  mutating func trimSealing(through seq: UInt64) {
    sealing = sealing.compactMap { chunk in
      guard chunk.info.firstSeq <= seq else { return chunk }
      guard chunk.info.lastSeq > seq else { return nil }
      var info = chunk.info
      let skipped = UInt32(seq - info.firstSeq + 1)
      info.firstSeq += UInt64(skipped)
      info.count -= skipped
      return chunk.withBytes { bytes in
        let start = LineCount.length(ofLines: Int(skipped), in: bytes)
        return LogChunk(info, copying: UnsafeRawBufferPointer(rebasing: bytes[start...]))
      }
    }
  }

  /// What waits stands in another segment from now on.
  mutating func moveSegments(to segment: UInt64) {
    if !sealing.isEmpty { sealingSegment = segment }
    if !waiting.isEmpty { waitingSegment = segment }
  }

  /// The seal is written. Answers the memory that became free and the oldest segment it covers.
  mutating func endSeal() -> (bytes: Int, segment: UInt64?) {
    defer {
      lastSealed = sealing.last?.info.lastSeq ?? lastSealed
      sealing = []
      sealingLines = 0
      sealingBytes = 0
      sealingSegment = nil
    }
    return (sealingBytes, sealingSegment)
  }
}
