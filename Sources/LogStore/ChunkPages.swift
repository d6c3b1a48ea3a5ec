import JobletModel

/// Lines that wait in memory, as pages: they are encoded only when a reader gets to them.
public final class ChunkPages: LogPages {
  public let infos: [LogPageInfo]
  private let chunks: [LogChunk]
  private let ranges: [Range<Int>]
  private var encoder = LogLineEncoder()

  /// - Parameter chunks: one stream's, in order of `seq`.
  public init(_ chunks: [LogChunk], range: LogRange, pageSize: Int = 256 << 10) {
    var infos: [LogPageInfo] = []
    var ranges: [Range<Int>] = []
    var start = 0
    while start < chunks.count {
      var end = start
      var size = 0
      while end < chunks.count, end == start || size + chunks[end].estimatedJSON <= pageSize {
        size += chunks[end].estimatedJSON
        end += 1
      }
      let info = LogPageInfo(summary: chunks[start..<end])
      if range.mayHold(info) {
        infos.append(info)
        ranges.append(start..<end)
      }
      start = end
    }
    self.chunks = chunks
    self.infos = infos
    self.ranges = ranges
  }

  public func load(_ index: Int) -> UnsafeRawBufferPointer? {
    encoder.removeAll()
    for chunk in chunks[ranges[index]] { chunk.encode(into: &encoder) }
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
      earliest: earliest, latest: latest, position: 0)
  }
}
