import JobletModel

/// What a line must be like to be given. Shared by the cursors of one query, used by one caller at a time.
final class LineConditions {
  let range: LogRange
  let filter: TextFilter?
  private let regex: LineRegex?
  private let text = LineText()
  /// `range`'s times as text, which a line's own time is compared with.
  private let since: [UInt8]?
  private let until: [UInt8]?

  init(range: LogRange, filter: TextFilter? = nil, regex: LineRegex? = nil) {
    self.range = range
    self.filter = filter
    self.regex = regex
    since = range.since.map { Array($0.description.utf8) }
    until = range.until.map { Array($0.description.utf8) }
  }

  /// The same with other bounds.
  func with(_ range: LogRange) -> LineConditions { LineConditions(range: range, filter: filter, regex: regex) }

  /// True if a line can cost so much that the clock must be watched.
  var isCostly: Bool { regex != nil }

  /// - Throws: a problem if the regular expression reaches its limits.
  func accept(_ line: LineView) throws(Problem) -> Bool {
    guard line.seq > range.after, line.seq <= range.through else { return false }
    if since != nil || until != nil {
      let time = line.timestamp
      if let since, time.lexicographicallyPrecedes(since) { return false }
      if let until, until.lexicographicallyPrecedes(time) { return false }
    }
    guard filter != nil || regex != nil else { return true }
    let bytes = text.bytes(of: line)
    if let filter, !filter.matches(bytes) { return false }
    return try regex?.matches(bytes, seq: line.seq) ?? true
  }
}
