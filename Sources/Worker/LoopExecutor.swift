import CEvents
import Glibc
import LinuxKernel
import Synchronization

/// A thread of its own with an epoll(7) loop that is also an actor's executor: everything the actor does and every
/// readiness event of its descriptors happens on that one thread, so supervision has no locks and no pidfd ever meets NIO.
///
/// `@unchecked Sendable`: `inbox` is guarded by its lock; `sources`, `timers` and `nextToken` are touched only on the loop's
/// thread, which every function that uses them checks.
package final class LoopExecutor: SerialExecutor, @unchecked Sendable {
  package typealias Handler = (_ events: UInt32) -> Void

  private enum Work {
    case job(UnownedJob)
    case call(@Sendable () -> Void)
  }

  private struct Inbox: ~Copyable {
    var jobs: [Work] = []
    var isAwake = false
  }

  private let epoll: CInt
  private let wakeup: CInt
  private let inbox = Mutex(Inbox())
  private let threadID = Atomic<UInt>(0)
  private var sources: [UInt64: Handler] = [:]
  private var timers = TimerQueue()
  private var nextToken: UInt64 = 1

  /// Starts the loop's thread. It runs until the process ends.
  package init(name: String) throws {
    epoll = epoll_create1(ce_epoll_cloexec)
    guard epoll >= 0 else { throw Errno(errno, "epoll_create1", name) }
    wakeup = eventfd(0, ce_eventfd_cloexec | ce_eventfd_nonblock)
    guard wakeup >= 0 else { throw Errno(errno, "eventfd", name) }
    var event = epoll_event(events: ce_in, data: epoll_data(u64: 0))
    guard epoll_ctl(epoll, EPOLL_CTL_ADD, wakeup, &event) == 0 else { throw Errno(errno, "epoll_ctl", name) }
    try KeptThread.start(name: name) { [self] in run() }
  }

  // MARK: The executor

  package func enqueue(_ job: consuming ExecutorJob) {
    put(.job(UnownedJob(job)))
  }

  /// Runs `call` on the loop's thread: for other threads, without the detour of a task.
  package func post(_ call: @escaping @Sendable () -> Void) { put(.call(call)) }

  private func put(_ work: sending Work) {
    let wake = inbox.withLock { inbox in
      inbox.jobs.append(work)
      defer { inbox.isAwake = true }
      return !inbox.isAwake
    }
    guard wake else { return }
    var one: UInt64 = 1
    // EAGAIN means the counter is full: the loop is awake anyway.
    _ = write(wakeup, &one, 8)
  }

  package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

  package func checkIsolated() {
    precondition(isCurrent, "this belongs to the loop's thread")
  }

  private var isCurrent: Bool { threadID.load(ordering: .relaxed) == UInt(pthread_self()) }

  // MARK: Descriptors and timers (on the loop's thread)

  /// Watches a descriptor; `handler` runs on the loop's thread each time it is ready. The caller keeps the descriptor open
  /// until ``unwatch(fd:token:)``.
  package func watch(fd: CInt, events: UInt32, _ handler: @escaping Handler) throws -> UInt64 {
    checkIsolated()
    let token = nextToken
    nextToken += 1
    var event = epoll_event(events: events, data: epoll_data(u64: token))
    guard epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 else { throw Errno(errno, "epoll_ctl", "add") }
    sources[token] = handler
    return token
  }

  /// Changes what is waited for.
  package func change(fd: CInt, token: UInt64, events: UInt32) throws {
    checkIsolated()
    var event = epoll_event(events: events, data: epoll_data(u64: token))
    guard epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0 else { throw Errno(errno, "epoll_ctl", "change") }
  }

  package func unwatch(fd: CInt, token: UInt64) {
    checkIsolated()
    // A descriptor that epoll does not know any more is what was asked for.
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nil)
    sources[token] = nil
  }

  /// Runs `handler` on the loop's thread after `delay`.
  @discardableResult
  package func schedule(after delay: Duration, _ handler: @escaping () -> Void) -> LoopTimer {
    checkIsolated()
    return timers.add(deadline: .now + delay, handler)
  }

  package func cancel(_ timer: LoopTimer) {
    checkIsolated()
    timers.cancel(timer)
  }

  // MARK: The loop

  private func run() {
    threadID.store(UInt(pthread_self()), ordering: .relaxed)
    var events = [epoll_event](repeating: epoll_event(), count: 256)
    while true {
      let count = epoll_wait(epoll, &events, CInt(events.count), timers.timeoutMilliseconds(at: .now))
      if count < 0 { precondition(errno == EINTR, "epoll_wait on the loop's own descriptor can't fail") }
      for index in 0..<max(0, Int(count)) {
        let event = events[index]
        if event.data.u64 == 0 { drainWakeup() } else { sources[event.data.u64]?(event.events) }
      }
      for handler in timers.due(at: .now) { handler() }
      runJobs()
    }
  }

  private func drainWakeup() {
    var value: UInt64 = 0
    _ = read(wakeup, &value, 8)
  }

  /// Runs what was enqueued before this turn; what it enqueues waits for the next, so descriptors get their turn.
  private func runJobs() {
    let jobs = inbox.withLock { inbox in
      defer { inbox.jobs.removeAll(keepingCapacity: false) }
      return inbox.jobs
    }
    for work in jobs {
      switch work {
      case .job(let job): job.runSynchronously(on: asUnownedSerialExecutor())
      case .call(let call): call()
      }
    }
    let more = inbox.withLock { inbox in
      inbox.isAwake = !inbox.jobs.isEmpty
      return inbox.isAwake
    }
    guard more else { return }
    var one: UInt64 = 1
    _ = write(wakeup, &one, 8)
  }
}
