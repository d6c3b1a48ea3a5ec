import JobletModel
import LogStore

/// A stream's lines that wait in memory, as pages, for one reader.
///
/// It holds one page at a time, encoded, and nothing of what the job has in memory: a reader that is slow keeps no block
/// from being freed. What is sealed while it reads is read from the file instead. It ends at what was there when it was
/// made, so that a query ends however fast the job writes.
///
/// Used by one caller at a time.
final class LivePages: LogPages {
  private let intake: Intake
  private let job: JobID
  private let stream: StoredStream
  private let range: LogRange
  private let order: QueryOrder
  /// The lines of memory that are still to be given, sealed or not.
  private var left: ClosedRange<UInt64>?
  private var encoder = LogLineEncoder()
  /// The page in `encoder`, while what was sealed before it is read from the file.
  private var kept: LogPageInfo?
  private var file: (any LogPages)?
  private var isFromFile = false

  /// JSON in a page, about.
  private static let pageSize = 256 << 10

  /// Looks at what is in memory: to be made before the file is opened, or lines that are sealed between are in neither.
  init(_ intake: Intake, _ job: JobID, _ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) {
    self.intake = intake
    self.job = job
    self.stream = stream
    self.range = range
    self.order = order
    left = intake.unsealedRange(job, stream)
  }

  func next() throws -> LogPageStep {
    if let file {
      switch try file.next() {
      case .page(let info):
        isFromFile = true
        return .page(info)
      case .working: return .working
      case .end: self.file = nil
      }
    }
    isFromFile = false
    if let kept {
      self.kept = nil
      return .page(kept)
    }
    guard let wanted = left else { return .end }
    let slice = intake.unsealed(job, stream, wanted, order, size: LivePages.pageSize)
    guard let first = slice.first?.info.firstSeq, let last = slice.last?.info.lastSeq else {
      // All of it was sealed.
      left = nil
      return try openFile(wanted)
    }
    left = LivePages.rest(of: wanted, first, last, order)
    let info = LogPageInfo(summary: slice[...])
    let isWanted = range.mayHold(info)
    if isWanted {
      encoder.removeAll()
      for chunk in slice { chunk.encode(into: &encoder) }
    }
    // The oldest is sealed first, so going forward there may be lines before the page that left memory.
    if order == .ascending, first > wanted.lowerBound, intake.hasSealed(job, stream, from: wanted.lowerBound) {
      kept = isWanted ? info : nil
      return try openFile(wanted.lowerBound...(first - 1))
    }
    return isWanted ? .page(info) : .working
  }

  private func openFile(_ part: ClosedRange<UInt64>) throws -> LogPageStep {
    var range = range
    range.after = max(range.after, part.lowerBound - 1)
    range.through = min(range.through, part.upperBound)
    guard range.after < range.through else { return .working }
    file = try intake.logs.pages(job, stream, range, order)
    return .working
  }

  private static func rest(of wanted: ClosedRange<UInt64>, _ first: UInt64, _ last: UInt64, _ order: QueryOrder)
    -> ClosedRange<UInt64>?
  {
    switch order {
    case .ascending: last < wanted.upperBound ? (last + 1)...wanted.upperBound : nil
    case .descending: first > wanted.lowerBound ? wanted.lowerBound...(first - 1) : nil
    }
  }

  func load() throws -> UnsafeRawBufferPointer? { isFromFile ? try file?.load() : encoder.bytes }
}

extension Intake {
  /// The first and the last line of the stream that wait in memory.
  func unsealedRange(_ job: JobID, _ stream: StoredStream) -> ClosedRange<UInt64>? {
    monitor.withLock { $0.jobs[job]?[stream].range }
  }

  /// Lines that wait in memory, whole chunks within `range`: about `size` bytes of JSON from the end that `order` begins at.
  func unsealed(_ job: JobID, _ stream: StoredStream, _ range: ClosedRange<UInt64>, _ order: QueryOrder, size: Int)
    -> [LogChunk]
  {
    monitor.withLock { $0.jobs[job]?[stream].slice(range, order, size: size) ?? [] }
  }

  /// True if lines of the stream from `seq` on may have left memory for the file.
  func hasSealed(_ job: JobID, _ stream: StoredStream, from seq: UInt64) -> Bool {
    monitor.withLock { state in state.jobs[job].map { $0[stream].lastSealed.map { $0 >= seq } ?? true } ?? true }
  }
}

extension StreamBuffer {
  /// The first and the last line there is.
  var range: ClosedRange<UInt64>? {
    guard let first = (sealing.first ?? waiting.first)?.info.firstSeq,
      let last = (waiting.last ?? sealing.last)?.info.lastSeq
    else { return nil }
    return first...last
  }

  /// See ``Intake/unsealed(_:_:_:_:size:)``.
  func slice(_ range: ClosedRange<UInt64>, _ order: QueryOrder, size: Int) -> [LogChunk] {
    var found: [LogChunk] = []
    var left = size
    let parts = order == .ascending ? [sealing, waiting] : [waiting, sealing]
    for part in parts {
      let start = part.firstIndex(notEndingBelow: range.lowerBound)
      let end = range.upperBound == .max ? part.count : part.firstIndex(notEndingBelow: range.upperBound + 1)
      // A chunk that begins in the range and ends above it is none of what was there.
      let indices = start..<max(start, end)
      var index = order == .ascending ? indices.lowerBound : indices.upperBound - 1
      while indices.contains(index), left > 0 {
        found.append(part[index])
        left -= part[index].estimatedJSON
        index += order == .ascending ? 1 : -1
      }
    }
    return order == .ascending ? found : found.reversed()
  }
}

extension [LogChunk] {
  /// The first index whose chunk does not end below `seq`; chunks are in order.
  fileprivate func firstIndex(notEndingBelow seq: UInt64) -> Int {
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if self[middle].info.lastSeq < seq { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
