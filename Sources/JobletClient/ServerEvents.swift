import FoundationEssentials
import HTTPClient
import JobletModel

/// What a stream of a node's events says.
public enum ServerEvent<Event: Sendable & Hashable>: Sendable, Hashable {
  case event(Event)
  /// The connection was lost and is being made anew; it goes on after the last event that came.
  case reconnecting(why: String)
}

/// An endless stream of a node's events, in batches as they arrive. A stream that breaks is opened again.
public struct ServerEvents<Event: Sendable & Hashable>: AsyncSequence, Sendable {
  public typealias Element = [ServerEvent<Event>]

  let client: JobletClient
  /// Path and query; the second without what a stream that goes on does not ask for again.
  let path: String
  let resumedPath: String
  /// Nil for events of a later version.
  let decode: @Sendable (SSEEvent) throws -> Event?

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(events: self) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    private let events: ServerEvents
    private var source = StreamSource()
    private var lastID: String?
    private var failure: JobletError?

    init(events: ServerEvents) { self.events = events }

    /// At least one event; never nil.
    /// - Throws: ``JobletError`` if the stream can't be opened, or not again; `CancellationError`.
    public mutating func next() async throws -> [ServerEvent<Event>]? {
      while true {
        if let failure { throw failure }
        let (events, lastID) = (events, lastID)
        let piece = try await source.next(isFollowed: true) {
          try await events.client.openStream(lastID == nil ? events.path : events.resumedPath, lastID: lastID)
        }
        switch piece {
        case .lost(let why): return [.reconnecting(why: why)]
        case .ended: return nil
        case .events(let raw):
          let batch = try read(raw)
          if !batch.isEmpty { return batch }
        }
      }
    }

    private mutating func read(_ raw: [SSEEvent]) throws -> [ServerEvent<Event>] {
      var batch: [ServerEvent<Event>] = []
      for event in raw {
        switch event.name {
        case "reconnect":
          batch.append(.reconnecting(why: try source.isToReconnect()))
          return batch
        case "problem":
          failure = try StreamSource.problem(event)
          source.close()
          return batch
        default:
          do {
            if let read = try events.decode(event) { batch.append(.event(read)) }
          } catch {
            throw JobletError.badReply("the event '\(event.name)' can't be read: \(error)")
          }
          if let id = event.lastID { lastID = id }
          source.progressed()
        }
      }
      return batch
    }
  }
}

/// A change of some job.
public enum JobChange: Sendable, Hashable {
  /// The job's record as it is now.
  case job(JobRecord)
  case deleted(JobID)
  /// A snapshot is complete; what follows are changes.
  case synced(jobs: Int)
  /// Changes since then may be missing.
  case gap(since: Timestamp)

  static func decode(_ event: SSEEvent) throws -> JobChange? {
    func read<T: Decodable>(_ type: T.Type) throws -> T { try JSONDecoder().decode(type, from: Data(event.data)) }
    return switch event.name {
    case "job": .job(try read(JobRecord.self))
    case "deleted": .deleted(try read(Deleted.self).id)
    case "synced": .synced(jobs: try read(Synced.self).jobs)
    case "gap": .gap(since: try read(Gap.self).since)
    default: nil
    }
  }

  private struct Deleted: Decodable { var id: JobID }
  private struct Synced: Decodable { var jobs: Int }
  private struct Gap: Decodable { var since: Timestamp }
}

/// Whose changes are asked for. All conditions hold at once.
public struct JobChangesRequest: Sendable, Hashable {
  /// Any of these; empty for every status.
  public var statuses: [JobStatus] = []
  public var owner: String?
  public var name: String?
  /// `key=value`, or `key` for any value; the job must have all of them.
  public var labels: [String] = []
  /// Any of these; empty for all.
  public var jobs: [JobID] = []
  /// Begin with the jobs as they are.
  public var wantsSnapshot = false

  public init() {}

  func path(isResumed: Bool) -> String {
    var query = URLQuery()
    query.add("status", statuses.isEmpty ? nil : statuses.map(\.rawValue).joined(separator: ","))
    query.add("owner", owner)
    query.add("name", name)
    query.add("label", labels.isEmpty ? nil : labels.joined(separator: ","))
    query.add("job", jobs.isEmpty ? nil : jobs.map(\.description).joined(separator: ","))
    if wantsSnapshot, !isResumed { query.add("snapshot", "true") }
    return "/v1/events" + query.text
  }
}

extension JobletClient {
  /// Changes of jobs as they happen. Nothing is sent before the first batch is asked for.
  public func events(_ request: JobChangesRequest = JobChangesRequest()) -> ServerEvents<JobChange> {
    ServerEvents(
      client: self, path: request.path(isResumed: false), resumedPath: request.path(isResumed: true),
      decode: JobChange.decode)
  }

  /// How the node stands, again and again.
  /// - Parameter interval: between two, in the form of ``JobletModel/DurationText``, 1s to 1h; nil for the node's own.
  public func nodeEvents(interval: String? = nil) -> ServerEvents<NodeStatus> {
    var query = URLQuery()
    query.add("stream", "true")
    query.add("interval", interval)
    let path = "/v1/node" + query.text
    return ServerEvents(client: self, path: path, resumedPath: path) { event in
      event.name == "node" ? try JSONDecoder().decode(NodeStatus.self, from: Data(event.data)) : nil
    }
  }
}
