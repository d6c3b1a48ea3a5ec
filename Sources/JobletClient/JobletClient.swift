import FoundationEssentials
import HTTPClient
import JobletModel

/// Which jobs are asked for. Every condition holds at once.
public struct JobListRequest: Sendable, Hashable {
  /// Any of these; empty for every status.
  public var statuses: [JobStatus]
  /// Bounds of the time a job was posted, both inclusive, in any form of ``JobletModel/TimeText``. The node reads them, by
  /// its own clock.
  public var since: String?
  public var until: String?
  /// Text that the job's ID, name, owner, labels or command line contain.
  public var text: String?

  public init(statuses: [JobStatus] = [], since: String? = nil, until: String? = nil, text: String? = nil) {
    self.statuses = statuses
    self.since = since
    self.until = until
    self.text = text
  }

  var query: URLQuery {
    var query = URLQuery()
    query.add("status", statuses.isEmpty ? nil : statuses.map(\.rawValue).joined(separator: ","))
    query.add("since", since)
    query.add("until", until)
    query.add("q", text)
    return query
  }
}

/// A page of jobs, newest first.
public struct JobPage: Codable, Sendable {
  public var jobs: [JobRecord]
  /// Gives the next page; nil on the last one.
  public var nextCursor: String?

  enum CodingKeys: String, CodingKey {
    case jobs
    case nextCursor = "next_cursor"
  }

  public init(jobs: [JobRecord], nextCursor: String? = nil) {
    self.jobs = jobs
    self.nextCursor = nextCursor
  }
}

/// A node's REST API in types. Every call throws ``JobletError``, or `CancellationError` if its task was cancelled.
public final class JobletClient: Sendable {
  /// No reply but a stream is larger.
  static let maxReply = 64 << 20
  /// For an exchange that is no stream. Longer than a node's gateway waits for its own parts: who waits for it hears from the
  /// gateway what became of the request.
  static let timeout: Duration = .seconds(60)

  private let endpoint: Endpoint
  private let http: HTTPClient

  /// - Throws: ``JobletError`` if libcurl can't be started.
  public init(_ endpoint: Endpoint) throws {
    self.endpoint = endpoint
    do {
      http = try HTTPClient(credentials: endpoint.credentials)
    } catch let error as HTTPError {
      throw JobletError.unreachable(error)
    }
  }

  /// Posts a job and returns its first record.
  ///
  /// With a key a lost reply is no reason to fail: the node knows the second request with it, so it is sent again, and there
  /// is one job.
  /// - Parameters:
  ///   - key: an `Idempotency-Key`, new for each job; nil sends none, and tries once.
  ///   - noRoom: called when the node has no room for the job and it is tried again: at first, and not for each try.
  /// - Throws: ``JobletError/startUnknown(_:)`` where a try failed in such a way that there may be a job.
  public func run(
    _ request: JobRequest, key: String? = nil, noRoom: (JobletError.Refusal) async throws -> Void = { _ in }
  ) async throws -> JobRecord {
    let body = Array(try JSONEncoder().encode(request))
    let headers: Headers = if let key { [("idempotency-key", key)] } else { [] }
    let start = ContinuousClock.now
    var retry = RunRetry()
    var isTold = false
    while true {
      do {
        return try await call("POST", "/v1/jobs", body: body, headers: headers)
      } catch let error as JobletError {
        let pause = retry.pause(after: error, at: start.duration(to: .now))
        guard let pause, key != nil else { throw retry.mayHaveStarted ? .startUnknown(error) : error }
        if case .refused(let refusal) = error, refusal.status == 429, !isTold {
          isTold = true
          try await noRoom(refusal)
        }
        try await Task.sleep(for: pause)
      }
    }
  }

  /// - Parameters:
  ///   - limit: jobs on the page, 1 to 1000. A page of a search may have fewer and yet a next one.
  ///   - cursor: ``JobPage/nextCursor`` of the page before.
  public func jobs(_ request: JobListRequest = JobListRequest(), limit: Int? = nil, cursor: String? = nil)
    async throws -> JobPage
  {
    var query = request.query
    query.add("limit", limit.map(String.init))
    query.add("cursor", cursor)
    return try await call("GET", "/v1/jobs" + query.text)
  }

  public func job(_ id: JobID) async throws -> JobRecord { try await call("GET", "/v1/jobs/\(id)") }

  /// Asks a job to stop: SIGTERM, then the grace, then SIGKILL. Returns at once, with the record as it is.
  /// - Parameter grace: `5s`; nil for the node's own.
  public func stop(_ id: JobID, grace: String? = nil) async throws -> JobRecord {
    let body = try grace.map { Array(try JSONEncoder().encode(["grace": $0])) }
    return try await call("POST", "/v1/jobs/\(id)/stop", body: body)
  }

  /// Freezes a running job; returns when every process of it stands still. One that is paused already stays so.
  public func pause(_ id: JobID) async throws -> JobRecord { try await call("POST", "/v1/jobs/\(id)/pause") }

  /// Lets a paused job go on.
  public func resume(_ id: JobID) async throws -> JobRecord { try await call("POST", "/v1/jobs/\(id)/resume") }

  /// Deletes an ended job, its record and its output.
  public func delete(_ id: JobID) async throws { _ = try await exchange("DELETE", "/v1/jobs/\(id)") }

  /// Deletes ended jobs with their output, all that meet the conditions. The node does a part of many at a time, and says so.
  public func deleteAll(_ request: JobListRequest = JobListRequest()) async throws -> JobsDeleted {
    try await call("DELETE", "/v1/jobs" + request.query.text)
  }

  /// How the node stands.
  public func node() async throws -> NodeStatus { try await call("GET", "/v1/node") }

  /// The nodes the node knows, itself among them.
  public func nodes() async throws -> [NodeSummary] {
    struct List: Decodable { var nodes: [NodeSummary] }
    let list: List = try await call("GET", "/v1/nodes")
    return list.nodes
  }

  /// A job's output. Nothing is sent before the first batch is asked for.
  public func logs(_ id: JobID, _ request: LogRequest = LogRequest()) -> LogBatches {
    LogBatches(client: self, job: id, request: request)
  }

  /// A job's samples, or aggregates of them. Nothing is sent before the first batch is asked for.
  public func metrics(_ id: JobID, _ request: MetricRequest = MetricRequest()) -> MetricBatches {
    MetricBatches(client: self, job: id, request: request)
  }

  // MARK: exchanges

  private typealias Headers = [(name: String, value: String)]

  private func call<Reply: Decodable>(
    _ method: String, _ path: String, body: [UInt8]? = nil, headers: Headers = []
  ) async throws -> Reply {
    let bytes = try await exchange(method, path, body: body, headers: headers)
    do {
      return try JSONDecoder().decode(Reply.self, from: Data(bytes))
    } catch {
      throw JobletError.badReply("the reply to \(method) \(path) can't be read: \(error)")
    }
  }

  private func exchange(
    _ method: String, _ path: String, body: [UInt8]? = nil, headers: Headers = []
  ) async throws -> [UInt8] {
    var request = HTTPRequest(method: method, url: endpoint.baseURL + path, body: body, timeout: JobletClient.timeout)
    request.headers = [("accept", "application/json, application/problem+json")]
    if body != nil { request.headers.append(("content-type", "application/json")) }
    request.headers += headers
    do {
      let response = try await http.send(request)
      let bytes = try await response.body.collect(upTo: JobletClient.maxReply)
      guard (200..<300).contains(response.status) else {
        throw JobletError.refused(JobletError.Refusal(response, body: bytes))
      }
      return bytes
    } catch let error as HTTPError {
      throw JobletError.unreachable(error)
    }
  }

  /// Opens a stream of events, or opens it again where it broke.
  /// - Parameters:
  ///   - path: with its query.
  ///   - lastID: the `id` of the last event that came.
  func openStream(_ path: String, lastID: String?) async throws -> HTTPBody {
    var request = HTTPRequest(url: endpoint.baseURL + path)
    request.headers = [("accept", "text/event-stream"), ("cache-control", "no-store")]
    if let lastID { request.headers.append(("last-event-id", lastID)) }
    // The node sends a comment every 15 seconds; three missed mean that nobody is there.
    request.idleTimeout = .seconds(45)
    do {
      let response = try await http.send(request)
      guard response.status == 200 else {
        throw JobletError.refused(
          JobletError.Refusal(response, body: try await response.body.collect(upTo: 1 << 20)))
      }
      let type = response.header("content-type") ?? "none"
      guard type.lowercased().hasPrefix("text/event-stream") else {
        throw JobletError.badReply(
          "\(path.prefix { $0 != "?" }) came as '\(type.prefix(80))', not as text/event-stream")
      }
      return response.body
    } catch let error as HTTPError {
      throw JobletError.unreachable(error)
    }
  }
}
