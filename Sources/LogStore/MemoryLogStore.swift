import JobletModel
import Synchronization

/// The reference: lines in memory, one page an append. Simple on purpose, so that other stores can be held against it.
public final class MemoryLogStore: LogStore {
  private struct Key: Hashable {
    var job: JobID
    var stream: StoredStream
  }
  fileprivate struct Page: Sendable {
    var info: LogPageInfo
    var bytes: [UInt8]
  }
  private let streams = Mutex<[Key: [Page]]>([:])

  public init() {}

  public let name = "memory"

  @discardableResult
  public func append(_ chunks: [LogChunk], job: JobID, stream: StoredStream) throws -> LogAppended {
    guard !chunks.isEmpty else { return LogAppended() }
    var encoder = LogLineEncoder()
    for chunk in chunks { chunk.encode(into: &encoder) }
    let page = Page(info: LogPageInfo(summary: chunks[...]), bytes: Array(encoder.bytes))
    streams.withLock { $0[Key(job: job, stream: stream), default: []].append(page) }
    return LogAppended(members: 1, bytes: UInt64(page.bytes.count))
  }

  public func sync(_ job: JobID) throws {}

  public func lastSeq(_ job: JobID, _ stream: StoredStream) throws -> UInt64 {
    streams.withLock { $0[Key(job: job, stream: stream)]?.last?.info.lastSeq ?? 0 }
  }

  public func recover(_ job: JobID, _ stream: StoredStream, logFrom: UInt64) throws -> LogCut? { nil }

  public func pages(_ job: JobID, _ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) throws
    -> any LogPages
  {
    let pages = streams.withLock { $0[Key(job: job, stream: stream)] ?? [] }.filter { range.mayHold($0.info) }
    return MemoryPages(order == .ascending ? pages : pages.reversed())
  }

  public func delete(_ job: JobID) throws -> Bool {
    streams.withLock { streams in
      let keys = StoredStream.allCases.map { Key(job: job, stream: $0) }
      return keys.filter { streams.removeValue(forKey: $0) != nil }.count > 0
    }
  }

  public func contains(_ job: JobID) throws -> Bool {
    streams.withLock { streams in StoredStream.allCases.contains { streams[Key(job: job, stream: $0)] != nil } }
  }

  public func storedJobs() throws -> [JobID] { streams.withLock { Array(Set($0.keys.map(\.job))) } }

  public func usage(_ job: JobID) throws -> LogUsage? {
    streams.withLock { streams in
      let pages = StoredStream.allCases.flatMap { streams[Key(job: job, stream: $0)] ?? [] }
      return pages.map(\.info.latest).max().map {
        LogUsage(bytes: Int64(pages.reduce(0) { $0 + $1.bytes.count }), lastWrite: $0)
      }
    }
  }

  public func setAside(_ job: JobID, _ stream: StoredStream) throws -> String? { nil }

  public func forget(_ job: JobID) {}

  public func freeBytes() throws -> Int64? { nil }
}

private final class MemoryPages: LogPages {
  private let pages: [MemoryLogStore.Page]
  private var position = 0
  private var buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 0, alignment: 1)

  init(_ pages: [MemoryLogStore.Page]) { self.pages = pages }

  deinit { buffer.deallocate() }

  func next() -> LogPageStep {
    guard position < pages.count else { return .end }
    position += 1
    return .page(pages[position - 1].info)
  }

  func load() -> UnsafeRawBufferPointer? {
    let bytes = pages[position - 1].bytes
    buffer.deallocate()
    buffer = .allocate(byteCount: bytes.count, alignment: 1)
    buffer.copyBytes(from: bytes)
    return UnsafeRawBufferPointer(buffer)
  }
}
