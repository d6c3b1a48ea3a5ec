import JobletModel

/// Goes through one stream's pages in either order and stops at every line that meets the conditions.
///
/// The sources may overlap (a line that was sealed while the reader opened them is in both): a line is given once, by `seq`.
struct LineCursor {
  enum Stop {
    case line(LineView)
    /// Lines `first` to `last` can't be given.
    case gap(first: UInt64, last: UInt64)
  }

  private let sources: [any LogPages]
  private let conditions: LineConditions
  private let order: QueryOrder
  private var source = 0
  private var page = UnsafeRawBufferPointer(start: nil, count: 0)
  /// The next line of the page that was not looked at, front to back in either order.
  private var position = 0
  private var skipsByFilter = false
  /// Descending only: the page's lines that meet the conditions, to be given from the last one on.
  private var found: [Int] = []
  /// Everything up to this `seq` (descending: from it on) was given or turned down.
  private var seen: UInt64
  /// Where the cursor stands; nil at the end, and before the first ``advance(_:)``.
  private(set) var current: Stop?

  /// - Parameter sources: oldest lines first.
  init(_ sources: [any LogPages], conditions: LineConditions, order: QueryOrder) {
    self.sources = order == .ascending ? sources : sources.reversed()
    self.conditions = conditions
    self.order = order
    let through = conditions.range.through
    seen = order == .ascending ? conditions.range.after : through == .max ? .max : through + 1
  }

  /// What the cursor stands at has this place in the answer's order.
  var seq: UInt64? {
    switch current {
    case .line(let line): line.seq
    case .gap(let first, let last): order == .ascending ? first : last
    case nil: nil
    }
  }

  /// Goes to the next line (or gap).
  /// - Returns: false if the budget ran out first; call again with more.
  mutating func advance(_ budget: inout WorkBudget) throws -> Bool {
    while true {
      switch order == .ascending ? try nextForward(&budget) : try nextBackward(&budget) {
      case .line(let line):
        current = .line(line)
        return true
      case .paused: return false
      case .pageIsDone: break
      }
      guard source < sources.count else {
        current = nil
        return true
      }
      guard budget.takePage() else { return false }
      switch try sources[source].next() {
      case .working: continue
      case .end: source += 1
      case .page(let info):
        guard isNews(info) else { continue }
        if !info.isMissing, let bytes = try sources[source].load() {
          open(bytes, info)
        } else if let gap = gap(info) {
          current = gap
          return true
        }
      }
    }
  }

  private func isNews(_ info: LogPageInfo) -> Bool {
    order == .ascending ? info.lastSeq > seen : info.firstSeq < seen
  }

  private mutating func open(_ bytes: UnsafeRawBufferPointer, _ info: LogPageInfo) {
    page = bytes
    position = 0
    found.removeAll(keepingCapacity: true)
    skipsByFilter = conditions.filter != nil && (info.isPlain || !TextFilter.hidesText(bytes))
  }

  /// What of a damaged page is in the range and was not given from elsewhere.
  private mutating func gap(_ info: LogPageInfo) -> Stop? {
    var first = max(info.firstSeq, conditions.range.after + 1)
    var last = min(info.lastSeq, conditions.range.through)
    switch order {
    case .ascending:
      first = max(first, seen + 1)
      seen = max(seen, info.lastSeq)
    case .descending:
      last = min(last, seen - 1)
      seen = min(seen, info.firstSeq)
    }
    return first <= last ? .gap(first: first, last: last) : nil
  }

  private enum InPage {
    case line(LineView)
    case pageIsDone
    case paused
  }

  private mutating func nextForward(_ budget: inout WorkBudget) throws -> InPage {
    while let line = nextLine() {
      guard line.seq > seen else { continue }
      guard let isWanted = try verdict(line, &budget) else { return .paused }
      seen = line.seq
      if isWanted { return .line(line) }
    }
    return .pageIsDone
  }

  /// Finds all lines of the page first: they can only be found front to back.
  private mutating func nextBackward(_ budget: inout WorkBudget) throws -> InPage {
    while let line = nextLine() {
      guard line.seq < seen else { continue }
      guard let isWanted = try verdict(line, &budget) else { return .paused }
      if isWanted { found.append(position - line.bytes.count) }
    }
    while let start = found.popLast() {
      guard let line = view(at: start), line.seq < seen else { continue }
      seen = line.seq
      return .line(line)
    }
    return .pageIsDone
  }

  /// Whether the line meets the conditions; nil, and one step back, if that must wait for another call.
  private mutating func verdict(_ line: LineView, _ budget: inout WorkBudget) throws(Problem) -> Bool? {
    if conditions.isCostly, !budget.takeMatch() {
      position -= line.bytes.count
      return nil
    }
    return try conditions.accept(line)
  }

  private func view(at start: Int) -> LineView? {
    LineView(UnsafeRawBufferPointer(rebasing: page[start..<page.lineEnd(from: start)]))
  }

  private mutating func nextLine() -> LineView? {
    while position < page.count {
      if skipsByFilter {
        guard let candidate = conditions.filter?.candidate(in: page, from: position) else { break }
        position = candidate
      }
      let end = page.lineEnd(from: position)
      let bytes = UnsafeRawBufferPointer(rebasing: page[position..<end])
      position = end
      if let line = LineView(bytes) { return line }
    }
    position = page.count
    return nil
  }
}
