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
  public func run(_ request: JobRequest) async throws -> JobRecord {
    try await call("POST", "/v1/jobs", body: Array(JSONEncoder().encode(request)))
  }

  /// - Parameters:
  ///   - limit: jobs on the page, 1 to 1000. A page of a search may have fewer and yet a next one.
  ///   - cursor: ``JobPage/nextCursor`` of the page before.
  public func jobs(_ request: JobListRequest = JobListRequest(), limit: Int? = nil, cursor: String? = nil)
    async throws -> JobPage
  {
    var query = URLQuery()
    query.add("status", request.statuses.isEmpty ? nil : request.statuses.map(\.rawValue).joined(separator: ","))
    query.add("since", request.since)
    query.add("until", request.until)
    query.add("q", request.text)
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

  /// A job's output. Nothing is sent before the first batch is asked for.
  public func logs(_ id: JobID, _ request: LogRequest = LogRequest()) -> LogBatches {
    LogBatches(client: self, job: id, request: request)
  }

  /// A job's samples, or aggregates of them. Nothing is sent before the first batch is asked for.
  public func metrics(_ id: JobID, _ request: MetricRequest = MetricRequest()) -> MetricBatches {
    MetricBatches(client: self, job: id, request: request)
  }

  // MARK: exchanges

  private func call<Reply: Decodable>(_ method: String, _ path: String, body: [UInt8]? = nil) async throws -> Reply {
    let bytes = try await exchange(method, path, body: body)
    do {
      return try JSONDecoder().decode(Reply.self, from: Data(bytes))
    } catch {
      throw JobletError.badReply("the reply to \(method) \(path) can't be read: \(error)")
    }
  }

  private func exchange(_ method: String, _ path: String, body: [UInt8]? = nil) async throws -> [UInt8] {
    var request = HTTPRequest(method: method, url: endpoint.baseURL + path, body: body, timeout: .seconds(60))
    request.headers = [("accept", "application/json, application/problem+json")]
    if body != nil { request.headers.append(("content-type", "application/json")) }
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

  /// Opens a stream of a job's records, or opens it again where it broke.
  func openStream(_ id: JobID, _ wish: any StreamRequest, _ progress: StreamProgress) async throws -> HTTPBody {
    var request = HTTPRequest(url: "\(endpoint.baseURL)/v1/jobs/\(id)/\(wish.path)\(wish.query(progress))")
    request.headers = [("accept", "text/event-stream"), ("cache-control", "no-store")]
    if let lastID = progress.lastID { request.headers.append(("last-event-id", "\(lastID)")) }
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
        throw JobletError.badReply("the \(wish.path) came as '\(type.prefix(80))', not as text/event-stream")
      }
      return response.body
    } catch let error as HTTPError {
      throw JobletError.unreachable(error)
    }
  }
}
