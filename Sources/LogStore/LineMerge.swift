import JobletModel

/// Streams merged by `seq`, in either order. Its memory is one page a stream.
struct LineMerge {
  enum Step {
    /// Valid until the next call.
    case line(LineView)
    case gap(first: UInt64, last: UInt64)
    /// The budget ran out; call again with more.
    case working
    case end
  }

  private var cursors: [LineCursor]
  private var isReady: [Bool]
  private let order: QueryOrder
  /// The cursor whose line was given last: it goes on at the next call.
  private var given: Int?

  /// - Parameter streams: for each stream its sources, oldest lines first.
  init(_ streams: [[any LogPages]], conditions: LineConditions, order: QueryOrder) {
    cursors = streams.map { LineCursor($0, conditions: conditions, order: order) }
    isReady = streams.map { _ in false }
    self.order = order
  }

  mutating func next(_ budget: inout WorkBudget) throws -> Step {
    if let given {
      isReady[given] = false
      self.given = nil
    }
    // A merge needs the next line of every stream: without it there is nothing to compare with.
    for index in cursors.indices where !isReady[index] {
      guard try cursors[index].advance(&budget) else { return .working }
      isReady[index] = true
    }
    guard let index = foremost() else { return .end }
    given = index
    switch cursors[index].current {
    case .line(let line): return .line(line)
    case .gap(let first, let last): return .gap(first: first, last: last)
    case nil: return .end
    }
  }

  /// The cursor whose line comes next, nil when all are at their end.
  private func foremost() -> Int? {
    var best: (index: Int, seq: UInt64)?
    for index in cursors.indices {
      guard let seq = cursors[index].seq else { continue }
      let comesFirst = best.map { order == .ascending ? seq < $0.seq : seq > $0.seq } ?? true
      if comesFirst { best = (index, seq) }
    }
    return best?.index
  }
}
