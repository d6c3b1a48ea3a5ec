import JobletModel

/// What a scanner gives next.
public enum ScanBatch {
  /// `count` JSON lines, the first of them `firstSeq` (0 for aggregates); the bytes are valid until the next call.
  case lines(firstSeq: UInt64, count: Int, UnsafeRawBufferPointer)
  /// Lines from `first` to `last` are lost: their page is damaged. (Where one stream of a log was asked for, some of these
  /// numbers may be the other stream's.)
  case gap(first: UInt64, last: UInt64)
  /// Nothing yet: much was read and nothing matched. Ask again.
  case working
  case end
}

/// Collects a merge's lines into batches, `offset` and `limit` applied.
final class BatchCollector {
  private var merge: LineMerge
  private var toSkip: Int
  private var toGive: Int
  private let batchSize: Int
  private var out: RawBuffer
  private var pendingGap: (first: UInt64, last: UInt64)?

  /// - Parameter batchSize: a batch ends with the line that reaches so many bytes.
  init(_ merge: LineMerge, offset: Int, limit: Int, batchSize: Int) {
    self.merge = merge
    toSkip = offset
    toGive = limit
    self.batchSize = batchSize
    out = RawBuffer(capacity: min(batchSize, 1 << 20) + (64 << 10))
  }

  func next(_ budget: inout WorkBudget) throws -> ScanBatch {
    if let gap = pendingGap {
      pendingGap = nil
      return .gap(first: gap.first, last: gap.last)
    }
    out.removeAll()
    var firstSeq: UInt64 = 0
    var count = 0
    while toGive > 0, out.count < batchSize {
      switch try merge.next(&budget) {
      case .line(let line):
        if toSkip > 0 {
          toSkip -= 1
          continue
        }
        if count == 0 { firstSeq = line.seq }
        out.append(line.bytes)
        count += 1
        toGive -= 1
      case .gap(let first, let last):
        guard count > 0 else { return .gap(first: first, last: last) }
        pendingGap = (first, last)
        return .lines(firstSeq: firstSeq, count: count, out.bytes)
      case .working: return count > 0 ? .lines(firstSeq: firstSeq, count: count, out.bytes) : .working
      case .end:
        toGive = 0
      }
    }
    return count > 0 ? .lines(firstSeq: firstSeq, count: count, out.bytes) : .end
  }
}
