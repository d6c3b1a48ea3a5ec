import Glibc

/// Holds threads until it is opened.
final class Gate: Sendable {
  private let ends: (read: CInt, write: CInt)

  init() {
    var pair: [CInt] = [0, 0]
    precondition(pipe(&pair) == 0)
    ends = (pair[0], pair[1])
  }

  deinit {
    close(ends.read)
    close(ends.write)
  }

  func wait() {
    var byte: UInt8 = 0
    _ = read(ends.read, &byte, 1)
  }

  func open() {
    var byte: UInt8 = 1
    _ = write(ends.write, &byte, 1)
  }
}
