import Glibc

/// Names a timer, to cancel it.
package struct LoopTimer: Hashable, Sendable {
  fileprivate var number: UInt64
  /// Finds it among the others without a look at each.
  fileprivate var deadline: ContinuousClock.Instant
}

/// Timers by deadline. Few at a time (a grace, a retry, followers that wait), so a sorted array is enough.
package struct TimerQueue {
  private struct Entry {
    var deadline: ContinuousClock.Instant
    var timer: LoopTimer
    var handler: () -> Void
  }
  private var entries: [Entry] = []
  private var next: UInt64 = 1

  package init() {}

  package mutating func add(deadline: ContinuousClock.Instant, _ handler: @escaping () -> Void) -> LoopTimer {
    let timer = LoopTimer(number: next, deadline: deadline)
    next += 1
    entries.insert(Entry(deadline: deadline, timer: timer, handler: handler), at: index(of: deadline))
    return timer
  }

  /// The first entry that is not due later than `deadline`. Latest first, so that what is due is taken from the end.
  private func index(of deadline: ContinuousClock.Instant) -> Int {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].deadline > deadline { low = middle + 1 } else { high = middle }
    }
    return low
  }

  package mutating func cancel(_ timer: LoopTimer) {
    var place = index(of: timer.deadline)
    while place < entries.count, entries[place].deadline == timer.deadline {
      if entries[place].timer.number == timer.number {
        entries.remove(at: place)
        return
      }
      place += 1
    }
  }

  /// Takes out the handlers whose time has come, earliest first.
  package mutating func due(at now: ContinuousClock.Instant) -> [() -> Void] {
    var due: [() -> Void] = []
    while let last = entries.last, last.deadline <= now {
      due.append(last.handler)
      entries.removeLast()
    }
    return due
  }

  /// How long epoll_wait(2) may sleep: -1 for ever, else milliseconds rounded up.
  package func timeoutMilliseconds(at now: ContinuousClock.Instant) -> CInt {
    guard let last = entries.last else { return -1 }
    let rest = last.deadline - now
    guard rest > .zero else { return 0 }
    let (seconds, attoseconds) = rest.components
    return CInt(clamping: seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
  }
}
