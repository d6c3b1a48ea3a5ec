import JobletModel

/// Finds where the last N lines begin, reading pages from the end.
enum TailSearch {
  /// The most lines a tail may ask for: each costs eight bytes while it is searched.
  static let maxCount = 1_000_000

  /// The `seq` after which exactly `count` lines of all streams together meet the conditions (fewer if there are not so
  /// many).
  static func start(_ streams: [[any LogPages]], _ conditions: LineConditions, count: Int) throws -> UInt64 {
    guard count > 0 else { return .max }
    // Every page of every source, the highest first. Overlapping sources hold the same lines: a set of numbers per
    // stream would cost memory, so numbers are sorted and freed of doubles instead.
    var pages: [(source: any LogPages, index: Int, lastSeq: UInt64)] = []
    for source in streams.joined() {
      for (index, info) in source.infos.enumerated() where !info.isMissing {
        pages.append((source, index, info.lastSeq))
      }
    }
    pages.sort { $0.lastSeq > $1.lastSeq }
    var found: [UInt64] = []
    var conditions = conditions
    for (position, page) in pages.enumerated() {
      try collect(page.source, page.index, &conditions, into: &found)
      guard found.count >= count else { continue }
      found.sort(by: >)
      removeDoubles(&found)
      if found.count > count { found.removeSubrange(count...) }
      let isLast = position + 1 == pages.count
      if found.count == count, isLast || pages[position + 1].lastSeq < found[count - 1] { break }
    }
    found.sort(by: >)
    removeDoubles(&found)
    guard found.count >= count else { return conditions.range.after }
    return found[count - 1] - 1
  }

  private static func collect(
    _ source: any LogPages, _ index: Int, _ conditions: inout LineConditions, into found: inout [UInt64]
  ) throws {
    guard let page = try source.load(index) else { return }
    let canSkip = conditions.filter.map { !$0.hidesText(page) } ?? false
    var position = 0
    while position < page.count {
      if canSkip {
        guard let candidate = conditions.filter?.candidate(in: page, from: position) else { return }
        position = candidate
      }
      let end = page.lineEnd(from: position)
      if let line = LineView(UnsafeRawBufferPointer(rebasing: page[position..<end])), conditions.accept(line) {
        found.append(line.seq)
      }
      position = end
    }
  }

  private static func removeDoubles(_ sorted: inout [UInt64]) {
    var kept = 0
    for index in sorted.indices where index == 0 || sorted[index] != sorted[kept - 1] {
      sorted[kept] = sorted[index]
      kept += 1
    }
    sorted.removeSubrange(kept...)
  }
}
