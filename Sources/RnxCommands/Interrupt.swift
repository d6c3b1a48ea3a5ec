import Dispatch
import Glibc
import Synchronization

/// Ctrl-C and SIGTERM while a job is followed.
///
/// It acts from its own queue, so that it works however stuck the rest is. What the signals do is ``InterruptMachine``'s to say.
///
/// A handler of its own catches the signal and passes it on through a pipe. Dispatch's signal sources read signalfd(2), for
/// which the signal has to be ignored; but the kernel drops an ignored signal that the main thread does not block, before any
/// signalfd hears of it.
package final class Interrupt {
  /// What is done at the first signal.
  package struct Action: Sendable {
    var message: String
    /// Said if the process is to end before ``perform`` has.
    var overdue: String
    /// Returns the farewell that is true when it is done.
    var perform: @Sendable () async -> String

    package init(message: String, overdue: String, perform: @escaping @Sendable () async -> String) {
      self.message = message
      self.overdue = overdue
      self.perform = perform
    }
  }

  /// How long the process outlives the signal that ends it, for what was begun to be done.
  private static let patience: DispatchTimeInterval = .seconds(5)

  private let source: any DispatchSourceRead
  private let state: State

  /// Reached from the queue, and at the end from the verb.
  private final class State: Sendable {
    let machine: Mutex<InterruptMachine>
    init(_ machine: InterruptMachine) { self.machine = Mutex(machine) }
  }

  /// - Parameters:
  ///   - farewell: said when the process ends.
  ///   - action: begun at the first signal instead of the end.
  /// - Throws: ``Failure`` if there is no pipe to be had.
  package init(farewell: String, action: Action? = nil) throws {
    let end = try Interrupt.readEnd.get()
    let queue = DispatchQueue(label: "interrupt")
    source = DispatchSource.makeReadSource(fileDescriptor: end, queue: queue)
    let state = State(InterruptMachine(farewell: farewell, overdue: action?.overdue))
    self.state = state
    source.setEventHandler {
      var signals: [UInt8] = [0, 0]
      let count = max(0, read(end, &signals, signals.count))
      for signal in signals.prefix(count) {
        let step = state.machine.withLock { $0.take(CInt(signal)) }
        if step == .begin, let action {
          Interrupt.say(action.message)
          Task {
            let farewell = await action.perform()
            queue.async { Interrupt.end(state.machine.withLock { $0.done(farewell) }) }
          }
        } else if step == .wait {
          queue.asyncAfter(deadline: .now() + Interrupt.patience) {
            Interrupt.end(state.machine.withLock { $0.giveUp() })
          }
        } else {
          Interrupt.end(step)
        }
      }
    }
    source.activate()
    for number in Interrupt.signals { signal(number) { Interrupt.passOn($0) } }
    // Whoever started us may have blocked them, for every thread.
    var mask = sigset_t()
    sigemptyset(&mask)
    for number in Interrupt.signals { sigaddset(&mask, number) }
    pthread_sigmask(SIG_UNBLOCK, &mask, nil)
  }

  private static let signals = [SIGINT, SIGTERM]

  /// The signals end the process as before.
  package func restore() {
    for number in Interrupt.signals { signal(number, SIG_DFL) }
    source.cancel()
  }

  /// Whether SIGTERM came: then the process exits so, however the job did.
  package var isTerminated: Bool { state.machine.withLock { $0.isTerminated } }

  private static func say(_ line: String) {
    // A terminal has echoed ^C where the cursor was.
    Terminal.writeNow("\(isatty(STDERR_FILENO) == 1 ? "\n" : "")rnx: \(line)\n", to: STDERR_FILENO)
  }

  private static func end(_ step: InterruptMachine.Step?) {
    guard case .end(let farewell, let code)? = step else { return }
    say(farewell)
    _exit(code)
  }

  // MARK: the pipe

  private static let writeEnd = Atomic<CInt>(-1)

  /// One pipe for the whole process, never closed: a handler that still runs can't write to somebody else's file.
  private static let readEnd: Result<CInt, Failure> = {
    var ends: [CInt] = [-1, -1]
    // Nonblocking: neither the handler nor the queue may hang. And no child has it.
    guard pipe(&ends) == 0,
      ends.allSatisfy({ fcntl($0, F_SETFL, O_NONBLOCK) == 0 && fcntl($0, F_SETFD, FD_CLOEXEC) == 0 })
    else {
      return .failure(
        Failure(
          "Ctrl-C can't be listened to", why: "no pipe: \(String(cString: strerror(errno)))",
          next: "raise the limit of open files ('ulimit -n')"))
    }
    writeEnd.store(ends[1], ordering: .releasing)
    return .success(ends[0])
  }()

  /// In the handler, where next to nothing may be called (signal-safety(7)): an atomic load of what was made before the handler
  /// was, and write(2).
  private static func passOn(_ signal: CInt) {
    let before = errno
    var byte = UInt8(truncatingIfNeeded: signal)
    _ = write(writeEnd.load(ordering: .acquiring), &byte, 1)
    errno = before
  }
}
