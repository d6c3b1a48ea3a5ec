import Synchronization

/// One exchange, as its reader and the loop's thread share it.
final class Transfer: Sendable {
  /// Above this many unread bytes the connection is not read on. libcurl hands over 16 KiB at most in one go, so this
  /// plus 16 KiB bounds a transfer's memory here.
  static let highWater = 256 << 10

  let id: UInt64
  let request: HTTPRequest
  private let loop: CurlLoop
  private let state = Mutex(State())

  struct Head: Sendable {
    var status: Int
    var headers: [(name: String, value: String)]
  }

  private struct State: ~Copyable {
    var partialHead = Head(status: 0, headers: [])
    var head: Head?
    var unread: [UInt8] = []
    var isPaused = false
    /// Set once, at the end: nil inside means that all went well.
    var end: (any Error)??
    var waiter: CheckedContinuation<Void, Never>?

    mutating func takeWaiter() -> CheckedContinuation<Void, Never>? {
      defer { waiter = nil }
      return waiter
    }
  }

  init(id: UInt64, request: HTTPRequest, loop: CurlLoop) {
    self.id = id
    self.request = request
    self.loop = loop
  }

  // MARK: the reader's side

  func cancel() { loop.post(.cancel(id)) }

  func awaitHead() async throws -> Head {
    try await wait(until: { $0.head != nil || $0.end != nil }) { state in
      if let head = state.head { return head }
      throw (state.end ?? nil) ?? HTTPError(.interrupted, "the server closed the connection without a reply")
    }
  }

  func nextChunk() async throws -> [UInt8]? {
    let (chunk, wasPaused): ([UInt8]?, Bool) = try await wait(until: { !$0.unread.isEmpty || $0.end != nil }) { state in
      if !state.unread.isEmpty {
        let chunk = state.unread
        state.unread = []
        let wasPaused = state.isPaused
        state.isPaused = false
        return (chunk, wasPaused)
      }
      if let error = state.end ?? nil { throw error }
      return (nil, false)
    }
    if wasPaused { loop.post(.resume(id)) }
    return chunk
  }

  /// Waits until the state is ready, then takes what is there; ready states stay so until something is taken.
  private func wait<T: Sendable>(
    until isReady: (borrowing State) -> Bool, _ take: (inout State) throws -> T
  ) async throws -> T {
    try await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        // The look and the promise to be woken are made under one lock, so that no change falls between the two.
        let isReadyNow = state.withLock { state in
          if isReady(state) { return true }
          state.waiter = continuation
          return false
        }
        if isReadyNow { continuation.resume() }
      }
      return try state.withLock { state in try take(&state) }
    } onCancel: {
      cancel()
    }
  }

  // MARK: the loop's side

  /// One header line with its line end. Answers false to give the transfer up.
  func receive(headerLine bytes: UnsafeRawBufferPointer) {
    let line = String(decoding: bytes, as: UTF8.self).trimmingLineEnd()
    let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
      guard state.head == nil else { return nil }  // trailers
      if line.hasPrefix("HTTP/") {
        let status = line.split(separator: " ", maxSplits: 2).dropFirst().first.flatMap { Int($0) } ?? 0
        state.partialHead = Head(status: status, headers: [])
      } else if line.isEmpty {
        guard state.partialHead.status >= 200 else { return nil }  // 100 Continue and its like
        state.head = state.partialHead
        return state.takeWaiter()
      } else if let colon = line.firstIndex(of: ":") {
        let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
        state.partialHead.headers.append((line[..<colon].lowercased(), String(value)))
      }
      return nil
    }
    waiter?.resume()
  }

  /// Body bytes. False if they were not taken: the transfer pauses and libcurl keeps them.
  func receive(body bytes: UnsafeRawBufferPointer) -> Bool {
    let (isTaken, waiter): (Bool, CheckedContinuation<Void, Never>?) = state.withLock { state in
      guard state.unread.count < Transfer.highWater else {
        state.isPaused = true
        return (false, nil)
      }
      state.unread.append(contentsOf: bytes)
      return (true, state.takeWaiter())
    }
    waiter?.resume()
    return isTaken
  }

  func finish(_ error: (any Error)?) {
    let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
      guard state.end == nil else { return nil }
      state.end = .some(error)
      return state.takeWaiter()
    }
    waiter?.resume()
  }
}

extension String {
  fileprivate func trimmingLineEnd() -> String {
    String(decoding: utf8.prefix { $0 != 0x0D && $0 != 0x0A }, as: UTF8.self)
  }
}
