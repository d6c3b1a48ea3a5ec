import CSystemd
import Glibc
import NIOCore
import Synchronization

/// Tells the service manager that the loops which do the work still turn (`WATCHDOG=1`, sd_watchdog_enabled(3)).
///
/// Each loop has a ``Heart`` and beats it on every turn. The message goes out only when every heart has beaten since the
/// last one, so one stuck loop is enough for systemd to restart the daemon; a timer of its own would prove nothing.
public final class Watchdog: Sendable {
  /// How often a loop that has nothing to do must still turn: a third of `WatchdogSec=`. Nil without a watchdog.
  public let interval: Duration?
  private let state = Mutex(State())
  private let send: @Sendable () -> Void

  private struct State {
    var hearts: [ObjectIdentifier: Heart] = [:]
    var sent: UInt64 = 0
  }

  /// The watchdog systemd set for this process.
  public convenience init() {
    var microseconds: UInt64 = 0
    let enabled = sd_watchdog_enabled(0, &microseconds) > 0
    self.init(interval: enabled ? .microseconds(Int64(clamping: microseconds / 3)) : nil) {
      ServiceManager().send("WATCHDOG=1")
    }
  }

  package init(interval: Duration?, send: @escaping @Sendable () -> Void) {
    self.interval = interval
    self.send = send
  }

  /// A heart for one working loop. It counts from now on until it is given back by ``Heart/stop()``.
  public func heart(_ name: String) -> Heart {
    let heart = Heart(name: name, watchdog: self)
    state.withLock { $0.hearts[ObjectIdentifier(heart)] = heart }
    return heart
  }

  /// Beats from an event loop, several times an interval, for as long as the loop lives or until the heart is stopped.
  @discardableResult
  public func attach(to loop: any EventLoop, name: String) -> Heart {
    let heart = heart(name)
    heart.beat()
    if let interval {
      let pause = TimeAmount.nanoseconds(interval.nanosecondsClamped / 2)
      loop.scheduleRepeatedTask(initialDelay: pause, delay: pause) { task in
        if heart.isStopped { task.cancel() } else { heart.beat() }
      }
    }
    return heart
  }

  fileprivate func remove(_ heart: Heart) {
    state.withLock { $0.hearts[ObjectIdentifier(heart)] = nil }
    sendIfAllBeat(at: Watchdog.now())
  }

  fileprivate func sendIfAllBeat(at now: UInt64) {
    let due = state.withLock { state -> Bool in
      // A heart may have beaten on another thread at a moment later than `now`.
      guard !state.hearts.isEmpty, state.hearts.values.allSatisfy({ $0.lastBeat > state.sent }) else { return false }
      state.sent = now
      return true
    }
    if due { send() }
  }

  fileprivate static func now() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// The pulse of one working loop.
  public final class Heart: Sendable {
    public let name: String
    private let watchdog: Watchdog
    private let beaten = Atomic<UInt64>(0)
    private let stopped = Atomic<Bool>(false)
    private let every: UInt64

    fileprivate init(name: String, watchdog: Watchdog) {
      self.name = name
      self.watchdog = watchdog
      every = UInt64(clamping: (watchdog.interval ?? .zero).nanosecondsClamped)
    }

    fileprivate var lastBeat: UInt64 { beaten.load(ordering: .acquiring) }
    fileprivate var isStopped: Bool { stopped.load(ordering: .relaxed) }

    /// The loop turned. Call it on every turn, from the loop itself: without a watchdog it is one branch, else a clock read,
    /// and a message at most once an interval.
    public func beat() {
      guard every > 0 else { return }
      let now = Watchdog.now()
      // Half an interval apart is often enough, and keeps a busy loop off the lock.
      // The first beat always counts: on a host just booted the clock itself is younger than the interval.
      let last = lastBeat
      guard last == 0 || now &- last >= every / 2, !isStopped else { return }
      beaten.store(now, ordering: .releasing)
      watchdog.sendIfAllBeat(at: now)
    }

    /// The loop ended on purpose; from now on it is not waited for.
    public func stop() {
      guard !stopped.exchange(true, ordering: .relaxed) else { return }
      watchdog.remove(self)
    }
  }
}

extension Duration {
  var nanosecondsClamped: Int64 {
    let (whole, overflow) = components.seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max : whole &+ components.attoseconds / 1_000_000_000
  }
}
