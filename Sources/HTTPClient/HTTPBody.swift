/// A reply's body as chunks, in order. It has one reader; one that is dropped before its end cancels the transfer.
///
/// The reader sets the pace: when about 256 KiB wait for it, the connection is no longer read, and the server feels it.
public final class HTTPBody: AsyncSequence, Sendable {
  public typealias Element = [UInt8]

  private let transfer: Transfer

  init(_ transfer: Transfer) { self.transfer = transfer }

  deinit { transfer.cancel() }

  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let body: HTTPBody

    /// All bytes that have arrived since the last call, at least one; nil after the last.
    /// - Throws: ``HTTPError``, or `CancellationError` if the task was cancelled.
    public mutating func next() async throws -> [UInt8]? { try await body.transfer.nextChunk() }
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(body: self) }

  /// The whole body.
  /// - Parameter limit: bytes at most.
  /// - Throws: ``HTTPError`` of kind `other` for a body that is longer.
  public func collect(upTo limit: Int) async throws -> [UInt8] {
    var all: [UInt8] = []
    for try await chunk in self {
      guard all.count + chunk.count <= limit else { throw HTTPError(.other, "the reply is larger than \(limit) bytes") }
      all += chunk
    }
    return all
  }
}
