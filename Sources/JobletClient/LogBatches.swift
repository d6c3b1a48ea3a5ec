import FoundationEssentials
import HTTPClient
import JobletModel

/// A job's log events in batches, as they arrive. A followed stream that breaks is opened again and goes on after the
/// last line that came; it ends after ``LogEvent/end(_:)``. One that is not followed ends with the stored lines.
public struct LogBatches: AsyncSequence, Sendable {
  public typealias Element = [LogEvent]

  let client: JobletClient
  let job: JobID
  let request: LogRequest

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(client: client, job: job, request: request) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    private let client: JobletClient
    private let job: JobID
    private let request: LogRequest
    private var body: HTTPBody.AsyncIterator?
    private var parser = SSEParser()
    private var reconnect = Reconnect()
    private var pause: Duration?
    private var lastID: UInt64?
    private var wasOpen = false
    private var isDone = false

    init(client: JobletClient, job: JobID, request: LogRequest) {
      self.client = client
      self.job = job
      self.request = request
    }

    /// At least one event; nil after the last.
    /// - Throws: ``JobletError`` if the stream can't be opened, or not again; `CancellationError`.
    public mutating func next() async throws -> [LogEvent]? {
      while !isDone {
        do {
          if body == nil { try await open() }
          guard let chunk = try await body?.next() else {
            body = nil
            // Without follow, the end of the stored lines.
            guard request.follow else {
              isDone = true
              return nil
            }
            return [try lost(.unreachable(HTTPError(.interrupted, "the node closed the stream")))]
          }
          let events = try read(chunk)
          if !events.isEmpty { return events }
        } catch let error as HTTPError {
          return [try lost(.unreachable(error))]
        } catch JobletError.unreachable(let error) where wasOpen {
          return [try lost(.unreachable(error))]
        } catch JobletError.refused(let refusal) where wasOpen && refusal.status == 503 {
          return [try lost(.refused(refusal), retryAfter: refusal.retryAfter)]
        }
      }
      return nil
    }

    private mutating func open() async throws {
      if let pause { try await Task.sleep(for: pause) }
      pause = nil
      let opened = try await client.openLogs(job, request, lastID: lastID)
      body = opened.makeAsyncIterator()
      parser = SSEParser()
      wasOpen = true
    }

    /// The stream broke: plans the next try, or throws what broke it.
    private mutating func lost(_ error: JobletError, retryAfter: Int? = nil) throws -> LogEvent {
      body = nil
      switch reconnect.lost(wish: parser.retryMilliseconds, retryAfter: retryAfter) {
      case .after(let pause): self.pause = pause
      case .giveUp:
        isDone = true
        throw error
      }
      return .reconnecting(why: error.description)
    }

    private mutating func read(_ chunk: [UInt8]) throws -> [LogEvent] {
      var raw: [SSEEvent] = []
      do {
        try parser.feed(chunk, into: &raw)
      } catch {
        throw JobletError.badReply(error.description)
      }
      var events: [LogEvent] = []
      events.reserveCapacity(raw.count)
      for event in raw where !isDone {
        switch event.name {
        case "log":
          guard let line = LogLine(json: event.data) else {
            throw JobletError.badReply(
              "a log event can't be read: \(String(decoding: event.data.prefix(120), as: UTF8.self))")
          }
          // A line that came before is not shown twice, whatever the other side thinks of our cursor.
          if let lastID, line.seq <= lastID { continue }
          lastID = line.seq
          events.append(.line(line))
        case "gap":
          let gap = try decode(Gap.self, event)
          lastID = Swift.max(lastID ?? 0, gap.to)
          events.append(.gap(from: gap.from, to: gap.to))
        case "end":
          events.append(.end(try decode(JobEnd.self, event)))
          isDone = true
          body = nil
        case "reconnect":
          events.append(try lost(.unreachable(HTTPError(.interrupted, "the node is restarting"))))
          return events
        default: break  // events of a later version
        }
        reconnect.progressed()
      }
      return events
    }

    private func decode<T: Decodable>(_ type: T.Type, _ event: SSEEvent) throws -> T {
      do {
        return try JSONDecoder().decode(type, from: Data(event.data))
      } catch {
        throw JobletError.badReply("the event '\(event.name)' can't be read: \(error)")
      }
    }
  }

  private struct Gap: Decodable {
    var from: UInt64
    var to: UInt64
  }
}
