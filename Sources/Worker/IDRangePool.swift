/// The host's user and group IDs that jobs get: ranges of 65,536, no two jobs the same one at the same time.
package struct IDRangePool: Sendable {
  package static let rangeSize: UInt32 = 65_536

  private let first: UInt32
  private let count: Int
  private var taken: Set<UInt32> = []
  /// Where to look next: a range rests as long as possible before it is used again.
  private var cursor = 0

  /// - Parameters:
  ///   - first: the first host ID.
  ///   - count: how many IDs; a rest smaller than a range is not used.
  package init(first: UInt32, count: UInt32) {
    self.first = first
    let room = UInt64(UInt32.max) - UInt64(first)  // 4294967295 is no ID: chown(2) reads it as "leave as is"
    self.count = Int(min(UInt64(count), room) / UInt64(IDRangePool.rangeSize))
  }

  package var free: Int { count - taken.count }

  /// Takes a range out. Nil when all are in use.
  package mutating func take() -> UInt32? {
    guard taken.count < count else { return nil }
    while true {
      let candidate = first + UInt32(cursor) * IDRangePool.rangeSize
      cursor = (cursor + 1) % count
      if taken.insert(candidate).inserted { return candidate }
    }
  }

  /// Marks a range of an adopted job as taken. False if it is not one of this pool's free ranges.
  package mutating func adopt(_ range: UInt32) -> Bool {
    guard range >= first, (range - first) % IDRangePool.rangeSize == 0,
      Int((range - first) / IDRangePool.rangeSize) < count
    else { return false }
    return taken.insert(range).inserted
  }

  package mutating func giveBack(_ range: UInt32) { taken.remove(range) }
}
