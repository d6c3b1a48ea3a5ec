import JobletModel

/// Which of a job's numbered records a client was given, did not want, or was told are missing: each of them once, in order,
/// up or down. Pure.
public struct SeqLedger: Sendable {
  private let isDescending: Bool
  /// True if which records come depends on more than their number: then a number that does not come means nothing.
  private let isSelective: Bool
  private let floor: UInt64
  /// Ascending: everything up to this number is accounted for.
  public private(set) var position: UInt64
  /// Descending: everything from this number on is; `max` while nobody knows where the records end.
  public private(set) var ceiling: UInt64
  /// False until the first record of an answer that begins somewhere of its own (`tail`, `offset`): nothing is missing
  /// before that.
  private var isAnchored: Bool
  /// False if the answer ends before the first record by the client's own wish.
  private let reachesFloor: Bool
  /// The damage that was reported: a query that is asked again meets it again.
  private var toldLost: ClosedRange<UInt64>?
  /// Records that may still be written.
  public private(set) var remaining: Int
  /// Records that were written.
  public private(set) var written = 0

  /// - Parameters:
  ///   - after: records up to this number are not wanted.
  ///   - before: records from this number on are not wanted.
  ///   - startsAnywhere: true if the first record's number says nothing of those before it.
  init(
    order: QueryOrder = .ascending, after: UInt64, before: UInt64 = .max, isSelective: Bool, startsAnywhere: Bool,
    endsAnywhere: Bool = false, limit: Int?
  ) {
    isDescending = order == .descending
    self.isSelective = isSelective
    floor = after
    position = after
    ceiling = before
    isAnchored = !startsAnywhere
    reachesFloor = !endsAnywhere
    remaining = limit ?? .max
  }

  var isLimitReached: Bool { remaining <= 0 }

  func isNew(_ seq: UInt64) -> Bool { isDescending ? seq < ceiling && seq > floor : seq > position }

  /// A record is about to be written.
  /// - Returns: the numbers missing before it.
  mutating func gap(before seq: UInt64) -> ClosedRange<UInt64>? {
    defer { isAnchored = true }
    guard isAnchored, !isSelective else { return nil }
    if isDescending { return ceiling != .max && seq < ceiling - 1 ? (seq + 1)...(ceiling - 1) : nil }
    return seq > position + 1 ? (position + 1)...(seq - 1) : nil
  }

  mutating func pass(_ seq: UInt64) {
    if isDescending { ceiling = min(ceiling, seq) } else { position = max(position, seq) }
  }

  mutating func spend(_ count: Int = 1) {
    remaining -= count
    written += count
  }

  /// Descending: the records end at `last`, which is where the answer begins.
  mutating func begin(at last: UInt64) {
    guard isDescending, last < .max - 1, ceiling > last + 1 else { return }
    ceiling = last + 1
  }

  /// Goes to a place from which on records are wanted; nothing before it is missing.
  mutating func jump(to seq: UInt64) {
    position = max(position, seq)
    isAnchored = true
  }

  /// All there is up to `seq` was read (descending: down to the first).
  /// - Returns: what of it did not come.
  mutating func advance(to seq: UInt64) -> ClosedRange<UInt64>? {
    if isDescending { return isSelective ? nil : advanceToFloor() }
    guard seq > position else { return nil }
    defer { position = seq }
    return remaining > 0 ? gap(before: seq + 1) : nil
  }

  /// The same where all records up to `seq` are known to be lost: that is said to a client who chose among them as well.
  mutating func advance(pastLost seq: UInt64) -> ClosedRange<UInt64>? {
    if isDescending {
      begin(at: seq)
      return advanceToFloor()
    }
    guard seq > position else { return nil }
    defer {
      position = seq
      if remaining > 0 { isAnchored = true }
    }
    return remaining > 0 && isAnchored ? (position + 1)...seq : nil
  }

  private mutating func advanceToFloor() -> ClosedRange<UInt64>? {
    guard remaining > 0, isAnchored, reachesFloor, ceiling != .max, ceiling > floor + 1 else { return nil }
    defer { ceiling = floor + 1 }
    return (floor + 1)...(ceiling - 1)
  }

  /// The store can't give these records. Who gets every record is told by the numbers that don't come; who chose among them
  /// would take the loss for records that did not match.
  mutating func damage(from first: UInt64, count: UInt32) -> ClosedRange<UInt64>? {
    guard isSelective, remaining > 0, count > 0 else { return nil }
    let (last, isBeyond) = first.addingReportingOverflow(UInt64(count) - 1)
    guard !isBeyond else { return nil }
    var (from, to) = (max(first, floor + 1), last)
    if isDescending {
      to = min(to, ceiling - 1, toldLost.map { $0.lowerBound - 1 } ?? .max)
    } else {
      from = max(from, position + 1, toldLost.map { $0.upperBound + 1 } ?? 0)
    }
    guard from <= to else { return nil }
    toldLost = from...to
    return toldLost
  }
}
