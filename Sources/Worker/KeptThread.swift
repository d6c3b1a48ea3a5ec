import CEvents
import Glibc
import LinuxKernel
import Synchronization

/// Threads for what may block: never the cooperative pool.
package enum KeptThread {
  private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  /// Starts a thread that stays until `body` returns. Signals are blocked on it: they belong to the program's own handlers.
  package static func start(name: String, _ body: @escaping @Sendable () -> Void) throws {
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(
      Body {
        ce_name_thread(name)
        body()
      }
    ).toOpaque()
    var all = sigset_t()
    var old = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &old)
    defer { pthread_sigmask(SIG_SETMASK, &old, nil) }
    let code = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
        return nil
      }, argument)
    guard code == 0 else {
      Unmanaged<Body>.fromOpaque(argument).release()
      throw Errno(code, "pthread_create", name)
    }
    pthread_detach(thread)
  }
}

/// A few kept threads that take work in order: the system calls of launching and tearing down, which may block.
package final class WorkQueue: Sendable {
  private struct State: ~Copyable {
    var work: [@Sendable () -> Void] = []
    var head = 0
  }
  private let state = Mutex(State())
  private let wakeup: CInt

  /// - Parameter threads: how many pieces of work may run at once.
  package init(name: String, threads: Int) throws {
    wakeup = eventfd(0, ce_eventfd_cloexec | ce_eventfd_semaphore)
    guard wakeup >= 0 else { throw Errno(errno, "eventfd", name) }
    for number in 0..<threads {
      try KeptThread.start(name: "\(name)-\(number)") { [self] in run() }
    }
  }

  package func submit(_ work: @escaping @Sendable () -> Void) {
    state.withLock { $0.work.append(work) }
    var one: UInt64 = 1
    _ = write(wakeup, &one, 8)
  }

  /// Runs `work` on one of the threads and waits for it.
  package func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      submit { continuation.resume(with: Result(catching: work)) }
    }
  }

  private func run() {
    while true {
      var value: UInt64 = 0
      guard read(wakeup, &value, 8) == 8 else { continue }
      let work = state.withLock { state -> (@Sendable () -> Void)? in
        guard state.head < state.work.count else { return nil }
        let work = state.work[state.head]
        state.head += 1
        if state.head == state.work.count || state.head > 1024 {
          state.work.removeFirst(state.head)
          state.head = 0
        }
        return work
      }
      work?()
    }
  }
}
