import JobletModel
import LogStore
import Testing

/// No call of a scanner reads more than a bounded number of pages, whatever the query: whoever asked can leave in between.
@Suite struct BoundedWorkTests {
  /// Pages that count how often they are opened.
  private final class CountingPages: LogPages {
    private let pages: any LogPages
    private let count: () -> Void
    init(_ pages: any LogPages, _ count: @escaping () -> Void) {
      self.pages = pages
      self.count = count
    }
    func next() throws -> LogPageStep { try pages.next() }
    func load() throws -> UnsafeRawBufferPointer? {
      count()
      return try pages.load()
    }
  }

  static let pageCount = 400

  static func store() throws -> MemoryLogStore {
    let store = MemoryLogStore()
    for index in 0..<UInt64(pageCount) {
      let info = LogChunkInfo(
        stream: .stdout, firstSeq: index * 10 + 1, count: 10, timestamp: Timestamp(nanoseconds: Int64(index)),
        isPartial: false)
      let bytes = Array(String(repeating: index == 7 ? "rare\n" : "common\n", count: 10).utf8)
      try store.append(
        [bytes.withUnsafeBytes { LogChunk(info, copying: $0) }], job: LogStoreConformance.job, stream: .stdout)
    }
    return store
  }

  /// The most pages one call opened, the pages opened in all, and the lines given.
  static func cost(_ query: LogQuery) throws -> (most: Int, all: Int, lines: Int) {
    let store = try store()
    var opened = 0
    let scanner = try LogScanner(query) { stream, range, order in
      [CountingPages(try store.pages(LogStoreConformance.job, stream, range, order)) { opened += 1 }]
    }
    var most = 0
    var all = 0
    var lines = 0
    while true {
      opened = 0
      let batch = try scanner.next()
      most = max(most, opened)
      all += opened
      switch batch {
      case .lines(_, let count, _): lines += count
      case .gap, .working: continue
      case .end: return (most, all, lines)
      }
    }
  }

  static let job = LogStoreConformance.job

  @Test(arguments: [
    LogQuery(job: job, filter: "nowhere"), LogQuery(job: job, filter: "nowhere", tail: 5),
    LogQuery(job: job, filter: "rare", tail: 3), LogQuery(job: job, filter: "nowhere", order: .descending),
    LogQuery(job: job, regex: "^no(where)$", tail: 1), LogQuery(job: job, offset: 100_000), LogQuery(job: job),
    LogQuery(job: job, tail: 100_000),
  ])
  func noCallReadsMuch(query: LogQuery) throws {
    let cost = try Self.cost(query)
    #expect(cost.most <= 16)
    #expect(
      cost.lines
        == (query.filter == "rare" ? 3 : query.filter == nil && query.regex == nil && query.offset == nil ? 4000 : 0))
  }

  @Test func aTailOpensOnlyItsOwnPages() throws {
    #expect(try Self.cost(LogQuery(job: Self.job, tail: 15)).all <= 5)
    #expect(try Self.cost(LogQuery(job: Self.job, limit: 15, order: .descending)).all <= 3)
    #expect(try Self.cost(LogQuery(job: Self.job, after: 3990)).all <= 2)
  }
}
