import CCurl
import CCurlShim
import Glibc
import Synchronization

/// libcurl's multi interface on a thread of its own. Everyone else posts commands; only the thread touches a transfer.
final class CurlLoop: Sendable {
  enum Command: Sendable {
    case start(Transfer)
    case resume(UInt64)
    case cancel(UInt64)
    case stop
  }

  /// libcurl's multi handle. Sent between threads in the open: the loop's thread alone uses it, but for
  /// curl_multi_wakeup(3), which may be called from any thread while the handle lives; ``Inbox`` sees to that.
  private struct Multi: @unchecked Sendable {
    let handle: UnsafeMutableRawPointer
  }

  private struct Inbox: ~Copyable {
    var commands: [Command] = []
    /// Nil once the thread is done with it: nobody may wake it then.
    var multi: Multi?
  }

  private let inbox = Mutex(Inbox())
  private let nextID = Atomic<UInt64>(1)
  private let credentials: TLSCredentials

  /// curl_global_init(3), once a process.
  private static let globalInit: CURLcode = curl_global_init(Int(CURL_GLOBAL_ALL))

  init(_ credentials: TLSCredentials) throws {
    self.credentials = credentials
    guard CurlLoop.globalInit == CURLE_OK, let multi = curl_multi_init() else {
      throw HTTPError(.other, "libcurl can't be started")
    }
    let shared = Multi(handle: multi)
    inbox.withLock { $0.multi = shared }
    let box = Unmanaged.passRetained(self)
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, { CurlLoop.enter($0) }, box.toOpaque())
    guard code == 0 else {
      box.release()
      curl_multi_cleanup(multi)
      throw HTTPError(.other, "no thread for HTTP: \(String(cString: strerror(code)))")
    }
    pthread_detach(thread)
  }

  func makeTransfer(_ request: HTTPRequest) -> Transfer {
    Transfer(id: nextID.add(1, ordering: .relaxed).oldValue, request: request, loop: self)
  }

  /// Hands a command to the thread and wakes it. After `stop` commands are dropped, and new transfers fail.
  func post(_ command: Command) {
    let isDropped = inbox.withLock { inbox in
      guard let multi = inbox.multi else { return true }
      inbox.commands.append(command)
      // Under the lock, so that the handle can't be freed meanwhile (curl_multi_wakeup(3) is safe from any thread).
      curl_multi_wakeup(multi.handle)
      return false
    }
    if isDropped, case .start(let transfer) = command {
      transfer.finish(HTTPError(.other, "the HTTP client was shut down"))
    }
  }

  // MARK: the thread

  private static func enter(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context else { return nil }
    // Signals are for other threads. SIGPIPE above all: a TLS library writes to sockets that the server has closed.
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    Unmanaged<CurlLoop>.fromOpaque(context).takeRetainedValue().run()
    return nil
  }

  private func run() {
    guard let multi = inbox.withLock({ $0.multi })?.handle else { return }
    var active: [UInt64: ActiveTransfer] = [:]
    var isStopping = false
    while !isStopping {
      let commands = inbox.withLock { inbox in
        let commands = inbox.commands
        inbox.commands = []
        return commands
      }
      for command in commands {
        switch command {
        case .start(let transfer):
          switch ActiveTransfer.make(transfer, credentials, multi) {
          case .success(let started): active[transfer.id] = started
          case .failure(let error): transfer.finish(error)
          }
        case .resume(let id): active[id]?.resume()
        case .cancel(let id): active.removeValue(forKey: id)?.end(CancellationError(), multi)
        case .stop: isStopping = true
        }
      }
      var running: CInt = 0
      curl_multi_perform(multi, &running)
      var result = CURLE_OK
      while let easy = joblet_curl_multi_next_done(multi, &result) {
        guard let id = active.first(where: { $0.value.easy == easy })?.key else { continue }
        active.removeValue(forKey: id)?.end(result, multi)
      }
      if !isStopping { curl_multi_poll(multi, nil, 0, 60_000, nil) }
    }
    for transfer in active.values { transfer.end(HTTPError(.other, "the HTTP client was shut down"), multi) }
    let late = inbox.withLock { inbox in
      inbox.multi = nil
      return inbox.commands
    }
    for case .start(let transfer) in late { transfer.finish(HTTPError(.other, "the HTTP client was shut down")) }
    curl_multi_cleanup(multi)
  }
}
