import HTTPClient
import JobletModel

/// A node's event stream that is opened again when it breaks: what ``RecordBatches`` and ``ServerEvents`` have in common.
package struct StreamSource {
  package enum Piece {
    /// Events as they came, perhaps none.
    case events([SSEEvent])
    /// The connection was lost; the next call opens it anew, after a pause.
    case lost(why: String)
    /// A stream that is not followed came to its end.
    case ended
  }

  private var body: HTTPBody.AsyncIterator?
  private var parser = SSEParser()
  private var reconnect = Reconnect()
  private var pause: Duration?
  /// When it was opened last; nil before the first time.
  private var opened: ContinuousClock.Instant?
  private let now: @Sendable () -> ContinuousClock.Instant

  package init(now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }) { self.now = now }

  /// What the stream says next.
  /// - Parameters:
  ///   - isFollowed: its end is a loss.
  ///   - open: asks for it, from where it has come to.
  /// - Throws: ``JobletError`` if it can't be opened, or not again; `CancellationError`.
  package mutating func next(isFollowed: Bool, open: () async throws -> HTTPBody) async throws -> Piece {
    do {
      if body == nil {
        if let pause { try await Task.sleep(for: pause) }
        pause = nil
        body = try await open().makeAsyncIterator()
        parser = SSEParser()
        opened = now()
      }
      guard let chunk = try await body?.next() else {
        body = nil
        guard isFollowed else { return .ended }
        return .lost(why: try lost(.unreachable(HTTPError(.interrupted, "the node closed the stream"))))
      }
      if let opened { reconnect.heard(at: opened.duration(to: now())) }
      return .events(try parsed(chunk))
    } catch let error as HTTPError {
      return .lost(why: try lost(.unreachable(error)))
    } catch JobletError.unreachable(let error) where opened != nil {
      return .lost(why: try lost(.unreachable(error)))
    } catch JobletError.refused(let refusal) where opened != nil && refusal.status == 503 {
      return .lost(why: try lost(.refused(refusal), retryAfter: refusal.retryAfter))
    }
  }

  private mutating func parsed(_ chunk: [UInt8]) throws -> [SSEEvent] {
    var events: [SSEEvent] = []
    do {
      try parser.feed(chunk, into: &events)
    } catch {
      throw JobletError.badReply(error.description)
    }
    return events
  }

  /// An event was good: the next loss is the first again.
  mutating func progressed() { reconnect.progressed() }

  mutating func close() { body = nil }

  /// Plans the next try, and says why it is needed; throws what broke the stream if there is none left.
  mutating func lost(_ error: JobletError, retryAfter: Int? = nil) throws -> String {
    body = nil
    switch reconnect.lost(wish: parser.retryMilliseconds, retryAfter: retryAfter) {
    case .after(let pause): self.pause = pause
    case .giveUp: throw error
    }
    return error.description
  }

  /// The node says that it is about to stop.
  mutating func isToReconnect() throws -> String {
    try lost(.unreachable(HTTPError(.interrupted, "the node is restarting")))
  }

  /// What an event `problem` says.
  static func problem(_ event: SSEEvent) throws -> JobletError {
    do {
      return .refused(try JobletError.Refusal(event: event.data))
    } catch {
      throw JobletError.badReply("the event '\(event.name)' can't be read: \(error)")
    }
  }
}
