import JobletModel

/// What a line must be like to be given.
struct LineConditions {
  var range: LogRange
  var filter: TextFilter?
  /// `range`'s times as text, which a line's own time is compared with.
  private let since: [UInt8]?
  private let until: [UInt8]?

  init(range: LogRange, filter: TextFilter?) {
    self.range = range
    self.filter = filter
    since = range.since.map { Array($0.description.utf8) }
    until = range.until.map { Array($0.description.utf8) }
  }

  mutating func accept(_ line: LineView) -> Bool {
    guard line.seq > range.after, line.seq <= range.through else { return false }
    if since != nil || until != nil {
      let time = line.timestamp
      if let since, time.lexicographicallyPrecedes(since) { return false }
      if let until, until.lexicographicallyPrecedes(time) { return false }
    }
    return filter?.matches(line) ?? true
  }
}

/// Goes through one stream's pages and stops at every line that meets the conditions.
///
/// The sources may overlap (a line that was sealed while the reader opened them is in both): a line is given once, by `seq`.
struct LineCursor {
  enum Stop {
    case line(LineView)
    /// Lines `first` to `last` can't be given.
    case gap(first: UInt64, last: UInt64)
  }

  private let sources: [any LogPages]
  private var conditions: LineConditions
  private var source = 0
  private var nextPage = 0
  private var page = UnsafeRawBufferPointer(start: nil, count: 0)
  private var position = 0
  private var skipsByFilter = false
  /// The last `seq` that was seen: everything up to it was given or turned down.
  private var seen: UInt64
  /// Where the cursor stands; nil at the end, and before the first ``advance(budget:)``.
  private(set) var current: Stop?

  init(_ sources: [any LogPages], conditions: LineConditions) {
    self.sources = sources
    self.conditions = conditions
    seen = conditions.range.after
  }

  var seq: UInt64? {
    switch current {
    case .line(let line): line.seq
    case .gap(let first, _): first
    case nil: nil
    }
  }

  /// Goes to the next line (or gap).
  /// - Parameter budget: pages that may still be opened; one is taken for each.
  /// - Returns: false if the budget ran out first; call again with more.
  mutating func advance(budget: inout Int) throws -> Bool {
    while true {
      if let line = nextInPage() {
        current = .line(line)
        return true
      }
      guard source < sources.count else {
        current = nil
        return true
      }
      let infos = sources[source].infos
      guard nextPage < infos.count else {
        source += 1
        nextPage = 0
        continue
      }
      let info = infos[nextPage]
      guard info.lastSeq > seen else {
        nextPage += 1
        continue
      }
      guard budget > 0 else { return false }
      budget -= 1
      nextPage += 1
      if let bytes = try sources[source].load(nextPage - 1) {
        page = bytes
        position = 0
        skipsByFilter = conditions.filter.map { !$0.hidesText(bytes) } ?? false
      } else {
        current = .gap(first: max(info.firstSeq, seen + 1), last: info.lastSeq)
        seen = info.lastSeq
        return true
      }
    }
  }

  private mutating func nextInPage() -> LineView? {
    while position < page.count {
      if skipsByFilter {
        guard let candidate = conditions.filter?.candidate(in: page, from: position) else { break }
        position = candidate
      }
      let end = page.lineEnd(from: position)
      let bytes = UnsafeRawBufferPointer(rebasing: page[position..<end])
      position = end
      guard let line = LineView(bytes), line.seq > seen else { continue }
      seen = line.seq
      if conditions.accept(line) { return line }
    }
    position = page.count
    return nil
  }
}
