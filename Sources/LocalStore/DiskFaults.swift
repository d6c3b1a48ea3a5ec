/// A disk's failures on demand, so that tests can show what happens when a write or a sync fails: no such thing exists
/// outside them, and without it nothing is asked.
package struct DiskFaults: Sendable {
  /// What is about to be done to a file or a directory.
  package enum Call: Sendable, Hashable { case open, write, sync, allocate, remove }

  /// How a call fails.
  package struct Refusal: Sendable, Hashable {
    package var errno: Int32
    /// Bytes of a write that still reach the file before it fails.
    package var written: Int

    package init(errno: Int32, written: Int = 0) {
      self.errno = errno
      self.written = written
    }
  }

  private let decide: @Sendable (Call, _ path: String) -> Refusal?

  /// - Parameter decide: asked before each call; nil lets it through. It is called on any thread.
  package init(_ decide: @escaping @Sendable (Call, _ path: String) -> Refusal?) { self.decide = decide }

  package func refusal(of call: Call, _ path: String) -> Refusal? { decide(call, path) }
}
