import Dispatch
import Glibc

/// Ctrl-C while a job is followed: the following stops, the job goes on, and the user is told how to come back.
///
/// It ends the process from its own queue, so that it works however stuck the rest is.
final class Interrupt {
  private let source: any DispatchSourceSignal

  init(message: String) {
    signal(SIGINT, SIG_IGN)
    source = DispatchSource.makeSignalSource(signal: SIGINT, queue: DispatchQueue(label: "interrupt"))
    source.setEventHandler {
      let text = "\nrnx: \(message)\n"
      Terminal.writeNow(text, to: STDERR_FILENO)
      _exit(ExitCodes.interrupted)
    }
    source.activate()
  }

  /// Ctrl-C ends the process as before.
  func restore() {
    source.cancel()
    signal(SIGINT, SIG_DFL)
  }
}
