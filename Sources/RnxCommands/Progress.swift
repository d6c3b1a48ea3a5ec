import Glibc

/// How far a long work has come, on one line of the terminal that the next overwrites. For people only.
struct Progress {
  let terminal: Terminal
  private var isShown = false

  init(_ terminal: Terminal) { self.terminal = terminal }

  mutating func show(_ line: String) async throws {
    guard isatty(STDERR_FILENO) == 1 else { return }
    isShown = true
    try await terminal.write(Array("\r\u{1B}[K\(line)".utf8), to: STDERR_FILENO)
  }

  /// Takes the line away, if there is one.
  mutating func clear() async throws {
    guard isShown else { return }
    isShown = false
    try await terminal.write(Array("\r\u{1B}[K".utf8), to: STDERR_FILENO)
  }
}
