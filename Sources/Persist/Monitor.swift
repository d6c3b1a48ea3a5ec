import CGNU
import Glibc

/// What threads wait for.
enum Signal: Int, CaseIterable {
  /// A job is to be sealed.
  case work
  /// A record is to be committed.
  case records
  /// Memory became free.
  case space
  /// A seal or a sync ended.
  case settled
}

/// A value, its lock, and conditions to wait for: for threads of our own only, since it blocks.
///
/// Safe to share: `state` is touched only with `mutex` held, which ``withLock(_:)`` and ``wait(_:timeout:_:)`` see to; the
/// pointers never change after `init`.
final class Monitor<State>: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let conditions = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: Signal.allCases.count)
  private var state: State

  init(_ state: sending State) {
    self.state = state
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)  // a changed wall clock must not stretch a wait
    for signal in Signal.allCases { pthread_cond_init(conditions + signal.rawValue, &attributes) }
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    for signal in Signal.allCases { pthread_cond_destroy(conditions + signal.rawValue) }
    pthread_mutex_destroy(mutex)
    conditions.deallocate()
    mutex.deallocate()
  }

  func withLock<Result>(_ body: (inout State) throws -> Result) rethrows -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&state)
  }

  /// Waits until `body` answers something; it is asked at once and after every signal.
  /// - Returns: nil if `timeout` passed first.
  func wait<Result>(_ signal: Signal, timeout: Duration? = nil, _ body: (inout State) throws -> Result?) rethrows
    -> Result?
  {
    let deadline = timeout.map { Moment.now + UInt64(max(0, $0.nanosecondCount)) }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = try body(&state) { return result }
      guard let deadline else {
        pthread_cond_wait(conditions + signal.rawValue, mutex)
        continue
      }
      var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
      if pthread_cond_timedwait(conditions + signal.rawValue, mutex, &time) == ETIMEDOUT { return try body(&state) }
    }
  }

  /// Wakes those who wait for `signal`, after a change of the state that was made under the lock.
  func signal(_ signal: Signal) { pthread_cond_broadcast(conditions + signal.rawValue) }

  /// The same for a change of something else that they look at: under the lock, so that it can't fall between a waiter's
  /// look and its sleep. Not to be called with the lock held.
  func notify(_ signal: Signal) {
    withLock { _ in _ = pthread_cond_broadcast(conditions + signal.rawValue) }
  }
}

/// CLOCK_MONOTONIC in nanoseconds.
enum Moment {
  static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

extension Duration {
  /// Whole nanoseconds.
  var nanosecondCount: Int64 { components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000 }
}

/// A thread of our own, for work that blocks.
struct WorkerThread: Sendable {
  private let handle: pthread_t

  /// Starts a thread. Its name, up to 15 bytes, is what `top -H` shows.
  init(_ name: String, _ body: @escaping @Sendable () -> Void) throws {
    final class Start {
      let name: String
      let body: @Sendable () -> Void
      init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
      }
    }
    var handle = pthread_t()
    let start = Unmanaged.passRetained(Start(name, body))
    let code = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        pthread_setname_np(pthread_self(), String(start.name.prefix(15)))
        start.body()
        return nil
      }, start.toOpaque())
    guard code == 0 else {
      start.release()
      throw PersistError.system(call: "pthread_create", path: name, errno: code)
    }
    self.handle = handle
  }

  /// Waits for the thread's end; once.
  func join() { pthread_join(handle, nil) }

  /// Lets the thread go: nobody will join it.
  func detach() { pthread_detach(handle) }

  /// Runs blocking work on a thread of its own, away from the cooperative pool.
  static func run<Result: Sendable>(_ name: String, _ body: @escaping @Sendable () throws -> Result) async throws
    -> Result
  {
    try await withCheckedThrowingContinuation { continuation in
      do {
        let thread = try WorkerThread(name) {
          do {
            continuation.resume(returning: try body())
          } catch {
            continuation.resume(throwing: error)
          }
        }
        thread.detach()
      } catch {
        continuation.resume(throwing: error)
      }
    }
  }
}
