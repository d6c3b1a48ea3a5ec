import JobletModel

/// A stream's pages in a range, one after another in the order they were opened for: sealed members, or lines that wait in
/// memory. Used by one caller at a time.
public protocol LogPages: AnyObject {
  /// Goes on to the next page that may hold lines of the range. Does a bounded amount of work, whatever the stream's size.
  func next() throws -> LogPageStep

  /// Opens the page that ``next()`` gave last: whole JSON lines, oldest first in either order, each beginning with its `seq`
  /// and `ts`, valid until the next call. Nil if the page is damaged.
  func load() throws -> UnsafeRawBufferPointer?
}

/// What ``LogPages/next()`` came to.
public enum LogPageStep: Hashable, Sendable {
  case page(LogPageInfo)
  /// Still looking; ask again.
  case working
  case end
}

/// Opens a stream's pages in a range: its sources, oldest lines first whatever the order. Where a line can move from one
/// source to the next while they are opened, the one it moves from is opened first: a line in both is given once.
public typealias OpenPages = (StoredStream, LogRange, QueryOrder) throws -> [any LogPages]

/// What one call of a scanner may do before it must answer, so that a caller who no longer wants the answer can stop soon.
struct WorkBudget {
  private var pages: Int
  private var matches = 0
  private let deadline: ContinuousClock.Instant

  /// - Parameters:
  ///   - pages: how many may be opened.
  ///   - time: for work whose cost only a clock can tell (regular expressions); the rest is counted in pages.
  init(pages: Int = 16, time: Duration = .milliseconds(25)) {
    self.pages = pages
    deadline = .now + time
  }

  mutating func takePage() -> Bool {
    guard pages > 0 else { return false }
    pages -= 1
    return true
  }

  /// False when a match must wait for the next call. At least one is allowed in each.
  mutating func takeMatch() -> Bool {
    matches += 1
    return matches == 1 || .now < deadline
  }
}
