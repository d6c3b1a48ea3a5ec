import JobletModel

/// Finds where the last N lines begin, going through the streams from their end, in as many calls as it takes.
struct TailSearch {
  /// The most lines a tail may ask for: each is found first and read again to be given.
  static let maxCount = 1_000_000

  private var merge: LineMerge
  private var left: Int
  /// The first and the last of the lines found so far.
  private var first: UInt64?
  private var last: UInt64?

  /// - Parameter streams: opened newest first.
  init(_ streams: [[any LogPages]], _ conditions: LineConditions, count: Int) {
    merge = LineMerge(streams, conditions: conditions, order: .descending)
    left = count
  }

  /// What came of a call.
  enum Outcome {
    case working
    /// The `seq` bounds of exactly so many lines (fewer if there are not so many), nil if there is none.
    case found(ClosedRange<UInt64>?)
  }

  mutating func run(_ budget: inout WorkBudget) throws -> Outcome {
    while left > 0 {
      switch try merge.next(&budget) {
      case .line(let line):
        if last == nil { last = line.seq }
        first = line.seq
        left -= 1
      case .gap: continue
      case .working: return .working
      case .end: left = 0
      }
    }
    guard let first, let last else { return .found(nil) }
    return .found(first...last)
  }
}
