import JobletModel

/// Lines that wait in memory, as pages: they are encoded only when a reader gets to them.
public final class ChunkPages: LogPages {
  private let chunks: [LogChunk]
  private let pages: [(info: LogPageInfo, range: Range<Int>)]
  private var position = 0
  private var encoder = LogLineEncoder(capacity: 256)

  /// - Parameter chunks: one stream's, in order of `seq`.
  public init(_ chunks: [LogChunk], range: LogRange, order: QueryOrder = .ascending, pageSize: Int = 256 << 10) {
    var pages: [(info: LogPageInfo, range: Range<Int>)] = []
    var start = 0
    while start < chunks.count {
      var end = start
      var size = 0
      while end < chunks.count, end == start || size + chunks[end].estimatedJSON <= pageSize {
        size += chunks[end].estimatedJSON
        end += 1
      }
      let info = LogPageInfo(summary: chunks[start..<end])
      if range.mayHold(info) { pages.append((info, start..<end)) }
      start = end
    }
    self.chunks = chunks
    self.pages = order == .ascending ? pages : pages.reversed()
  }

  public func next() -> LogPageStep {
    guard position < pages.count else { return .end }
    position += 1
    return .page(pages[position - 1].info)
  }

  public func load() -> UnsafeRawBufferPointer? {
    encoder.removeAll()
    for chunk in chunks[pages[position - 1].range] { chunk.encode(into: &encoder) }
    return encoder.bytes
  }
}

extension LogPageInfo {
  /// What a page of these chunks says of itself; at least one is needed.
  public init(summary chunks: ArraySlice<LogChunk>) {
    var count = 0
    var earliest = Timestamp(nanoseconds: .max)
    var latest = Timestamp(nanoseconds: .min)
    for chunk in chunks {
      count += Int(chunk.info.count)
      earliest = min(earliest, chunk.info.earliest)
      latest = max(latest, chunk.info.latest)
    }
    self.init(
      firstSeq: chunks.first?.info.firstSeq ?? 0, lastSeq: chunks.last?.info.lastSeq ?? 0, count: count,
      earliest: earliest, latest: latest)
  }
}
