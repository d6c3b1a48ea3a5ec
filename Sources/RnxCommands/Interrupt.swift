import Dispatch
import Glibc
import Synchronization

/// Ctrl-C while a job is followed.
///
/// It acts from its own queue, so that it works however stuck the rest is. The first Ctrl-C may begin something, the stop of the
/// job for instance, after which the following goes on; one more ends the process, as does the first where there is nothing to
/// begin.
final class Interrupt {
  /// What is done at the first Ctrl-C.
  struct Action: Sendable {
    var message: String
    var begin: @Sendable () -> Void
  }

  private let source: any DispatchSourceSignal

  /// - Parameters:
  ///   - farewell: said when the process ends.
  ///   - action: begun at the first Ctrl-C instead of the end.
  init(farewell: String, action: Action? = nil) {
    signal(SIGINT, SIG_IGN)
    source = DispatchSource.makeSignalSource(signal: SIGINT, queue: DispatchQueue(label: "interrupt"))
    let hasBegun = Atomic(false)
    source.setEventHandler {
      let isFirst = !hasBegun.exchange(true, ordering: .relaxed)
      guard let action, isFirst else {
        Terminal.writeNow("\nrnx: \(farewell)\n", to: STDERR_FILENO)
        _exit(ExitCodes.interrupted)
      }
      Terminal.writeNow("\nrnx: \(action.message)\n", to: STDERR_FILENO)
      action.begin()
    }
    source.activate()
  }

  /// Ctrl-C ends the process as before.
  func restore() {
    source.cancel()
    signal(SIGINT, SIG_DFL)
  }
}
