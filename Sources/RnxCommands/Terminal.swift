import ArgumentParser
import Dispatch
import Glibc

/// The process's outputs. Writes may block on a slow reader, so they have a queue of their own; a caller waits for its
/// write, and so goes at the reader's pace.
public struct Terminal: Sendable {
  private let queue = DispatchQueue(label: "output")

  public init() {}

  /// Writes to stdout (1) or stderr (2), whole.
  /// - Throws: ``Failure`` if it can't be written. A reader that left mostly ends the process by SIGPIPE before that; where
  ///   whoever started us ignores or blocks that signal, it is an `ExitCode` that ends it quietly and as a shell counts it.
  public func write(_ bytes: [UInt8], to descriptor: CInt = STDOUT_FILENO) async throws {
    guard !bytes.isEmpty else { return }
    let code: CInt = await withCheckedContinuation { continuation in
      queue.async { continuation.resume(returning: Terminal.writeAll(bytes, descriptor)) }
    }
    if let error = Terminal.error(code) { throw error }
  }

  /// What an error number of write(2) means for a verb; nil for 0.
  package static func error(_ code: CInt) -> (any Error)? {
    switch code {
    case 0: nil
    case EPIPE: ExitCode(ExitCodes.readerGone)
    default:
      Failure(
        "the output can't be written", why: String(cString: strerror(code)),
        next: "look where the output goes: a full disk?")
    }
  }

  public func print(_ line: String) async throws { try await write(Array((line + "\n").utf8)) }

  /// For people only; scripts that gather stderr get the job's own bytes and nothing else.
  public func note(_ line: String) async throws {
    if isatty(STDERR_FILENO) == 1 { try await warn(line) }
  }

  public func warn(_ line: String) async throws { try await write(Array("rnx: \(line)\n".utf8), to: STDERR_FILENO) }

  /// A line typed at stdin; nil at its end. Waits on a thread of its own.
  static func line() async -> String? {
    await withCheckedContinuation { continuation in
      DispatchQueue(label: "input").async { continuation.resume(returning: readLine()) }
    }
  }

  /// The last words before the process ends, written at once; there is nobody left to tell if that fails.
  static func writeNow(_ text: String, to descriptor: CInt) { _ = writeAll(Array(text.utf8), descriptor) }

  private static func writeAll(_ bytes: [UInt8], _ descriptor: CInt) -> CInt {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress?.advanced(by: done), $0.count - done)
      }
      if count >= 0 {
        done += count
      } else if errno == EAGAIN {
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&wait, 1, -1)
      } else if errno != EINTR {
        return errno
      }
    }
    return 0
  }

  /// Columns of the terminal stdout is; nil if it is none (then nothing is cut).
  public static func width() -> Int? {
    guard isatty(STDOUT_FILENO) == 1 else { return nil }
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }
}
