import Dispatch
import Glibc
import Synchronization

/// Ctrl-C while a job is followed.
///
/// It acts from its own queue, so that it works however stuck the rest is. The first Ctrl-C may begin something, the stop of the
/// job for instance, after which the following goes on; one more ends the process, as does the first where there is nothing to
/// begin.
///
/// A handler of its own catches the signal and passes it on through a pipe. Dispatch's signal sources read signalfd(2), for
/// which the signal has to be ignored; but the kernel drops an ignored signal that the main thread does not block, before any
/// signalfd hears of it.
package final class Interrupt {
  /// What is done at the first Ctrl-C.
  package struct Action: Sendable {
    var message: String
    var begin: @Sendable () -> Void

    package init(message: String, begin: @escaping @Sendable () -> Void) {
      self.message = message
      self.begin = begin
    }
  }

  private let source: any DispatchSourceRead

  /// - Parameters:
  ///   - farewell: said when the process ends.
  ///   - action: begun at the first Ctrl-C instead of the end.
  /// - Throws: ``Failure`` if there is no pipe to be had.
  package init(farewell: String, action: Action? = nil) throws {
    let end = try Interrupt.readEnd.get()
    source = DispatchSource.makeReadSource(fileDescriptor: end, queue: DispatchQueue(label: "interrupt"))
    let hasBegun = Atomic(false)
    source.setEventHandler {
      var presses: [UInt8] = [0, 0]
      for _ in 0..<max(0, read(end, &presses, presses.count)) {
        let isFirst = !hasBegun.exchange(true, ordering: .relaxed)
        guard let action, isFirst else {
          Terminal.writeNow("\nrnx: \(farewell)\n", to: STDERR_FILENO)
          _exit(ExitCodes.interrupted)
        }
        Terminal.writeNow("\nrnx: \(action.message)\n", to: STDERR_FILENO)
        action.begin()
      }
    }
    source.activate()
    signal(SIGINT) { _ in Interrupt.passOn() }
    // Whoever started us may have blocked it, for every thread.
    var mask = sigset_t()
    sigemptyset(&mask)
    sigaddset(&mask, SIGINT)
    pthread_sigmask(SIG_UNBLOCK, &mask, nil)
  }

  /// Ctrl-C ends the process as before.
  package func restore() {
    signal(SIGINT, SIG_DFL)
    source.cancel()
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
  private static func passOn() {
    let before = errno
    var press: UInt8 = 1
    _ = write(writeEnd.load(ordering: .acquiring), &press, 1)
    errno = before
  }
}
