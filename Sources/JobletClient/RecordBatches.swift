import FoundationEssentials
import HTTPClient
import JobletModel

/// A job's log lines, see ``RecordBatches``.
public typealias LogBatches = RecordBatches<LogLine>
/// A job's samples or their aggregates, see ``RecordBatches``.
public typealias MetricBatches = RecordBatches<MetricLine>

/// A job's records in batches of events, as they arrive. A stream that breaks is opened again and goes on after the last
/// record that came. One that is followed ends after ``StreamEvent/end(_:)``, another with the stored records.
public struct RecordBatches<Record: StreamedRecord>: AsyncSequence, Sendable {
  public typealias Element = [StreamEvent<Record>]

  let client: JobletClient
  let job: JobID
  let request: any StreamRequest

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(client: client, job: job, request: request) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    private let client: JobletClient
    private let job: JobID
    private let request: any StreamRequest
    private var body: HTTPBody.AsyncIterator?
    private var parser = SSEParser()
    private var reconnect = Reconnect()
    private var pause: Duration?
    private var progress = StreamProgress()
    private var wasOpen = false
    private var isDone = false
    /// What ended the stream, behind the records that came before it.
    private var failure: JobletError?

    init(client: JobletClient, job: JobID, request: any StreamRequest) {
      self.client = client
      self.job = job
      self.request = request
    }

    /// At least one event; nil after the last.
    /// - Throws: ``JobletError`` if the stream can't be opened, or not again; `CancellationError`.
    public mutating func next() async throws -> [StreamEvent<Record>]? {
      while !isDone {
        if let failure {
          isDone = true
          throw failure
        }
        do {
          if body == nil { try await open() }
          guard let chunk = try await body?.next() else {
            body = nil
            // Without follow, the end of the stored records.
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
      let opened = try await client.openStream(job, request, progress)
      body = opened.makeAsyncIterator()
      parser = SSEParser()
      wasOpen = true
    }

    /// The stream broke: plans the next try, or throws what broke it.
    private mutating func lost(_ error: JobletError, retryAfter: Int? = nil) throws -> StreamEvent<Record> {
      body = nil
      switch reconnect.lost(wish: parser.retryMilliseconds, retryAfter: retryAfter) {
      case .after(let pause): self.pause = pause
      case .giveUp:
        isDone = true
        throw error
      }
      return .reconnecting(why: error.description)
    }

    private mutating func read(_ chunk: [UInt8]) throws -> [StreamEvent<Record>] {
      var raw: [SSEEvent] = []
      do {
        try parser.feed(chunk, into: &raw)
      } catch {
        throw JobletError.badReply(error.description)
      }
      var events: [StreamEvent<Record>] = []
      events.reserveCapacity(raw.count)
      for event in raw where !isDone {
        switch event.name {
        case Record.eventName:
          guard let record = Record(event: event.data) else {
            throw JobletError.badReply(
              "an event '\(event.name)' can't be read: \(String(decoding: event.data.prefix(120), as: UTF8.self))")
          }
          // A record that came before is not shown twice, whatever the other side thinks of our cursor.
          guard progress.isNew(record.number, isDescending: request.isReversed) else { continue }
          events.append(.record(record))
        case "gap":
          let gap = try decode(StreamGap.self, event)
          progress.pass(gap.from, gap.to, isDescending: request.isReversed)
          events.append(.gap(from: gap.from, to: gap.to))
        case "end":
          events.append(.end(try decode(JobEnd.self, event)))
          isDone = true
          body = nil
        case "problem":
          failure = .refused(try problem(event))
          body = nil
          return events
        case "reconnect":
          events.append(try lost(.unreachable(HTTPError(.interrupted, "the node is restarting"))))
          return events
        default: break  // events of a later version
        }
        reconnect.progressed()
      }
      return events
    }

    private func problem(_ event: SSEEvent) throws -> JobletError.Refusal {
      do {
        return try JobletError.Refusal(event: event.data)
      } catch {
        throw JobletError.badReply("the event '\(event.name)' can't be read: \(error)")
      }
    }

    private func decode<T: Decodable>(_ type: T.Type, _ event: SSEEvent) throws -> T {
      do {
        return try JSONDecoder().decode(type, from: Data(event.data))
      } catch {
        throw JobletError.badReply("the event '\(event.name)' can't be read: \(error)")
      }
    }
  }
}

private struct StreamGap: Decodable {
  var from: UInt64
  var to: UInt64
}

/// How far a stream has come, for the case that it breaks.
package struct StreamProgress: Sendable {
  /// The number of the last record that came.
  private(set) var lastID: UInt64?
  /// How many came.
  private(set) var received = 0

  mutating func isNew(_ number: UInt64?, isDescending: Bool) -> Bool {
    if let number {
      if let lastID, isDescending ? number >= lastID : number <= lastID { return false }
      lastID = number
    }
    received += 1
    return true
  }

  /// These are lost: they won't come.
  mutating func pass(_ first: UInt64, _ last: UInt64, isDescending: Bool) {
    lastID = isDescending ? min(lastID ?? .max, first) : max(lastID ?? 0, last)
  }
}
