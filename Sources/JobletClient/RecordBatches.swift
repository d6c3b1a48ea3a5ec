import FoundationEssentials
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
    private var source = StreamSource()
    private var progress = StreamProgress()
    /// When it was asked for first; nil before.
    private var begun: ContinuousClock.Instant?
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
        let (client, job, request, begun) = (client, job, request, begun)
        var progress = progress
        if begun == nil { self.begun = .now }
        let piece = try await source.next(isFollowed: request.follow) {
          // Now, not before the pause.
          progress.age = begun?.duration(to: .now) ?? .zero
          return try await client.openStream(
            "/v1/jobs/\(job)/\(request.path)\(request.query(progress))", lastID: progress.lastID.map { "\($0)" })
        }
        switch piece {
        case .lost(let why): return [.reconnecting(why: why)]
        case .ended: isDone = true  // without follow, the end of the stored records
        case .events(let raw):
          let events = try read(raw)
          if !events.isEmpty { return events }
        }
      }
      return nil
    }

    private mutating func read(_ raw: [SSEEvent]) throws -> [StreamEvent<Record>] {
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
          source.close()
        case "problem":
          failure = try StreamSource.problem(event)
          source.close()
          return events
        case "reconnect":
          events.append(.reconnecting(why: try source.isToReconnect()))
          return events
        default: break  // events of a later version
        }
        source.progressed()
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
  /// Since it was asked for first; zero the first time.
  package var age = Duration.zero

  package init() {}

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
