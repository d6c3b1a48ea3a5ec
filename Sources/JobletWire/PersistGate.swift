import JobletModel
import Logging

/// The readiness gate: a daemon that needs persist serves nobody before persist has answered a ping and a real log query.
public enum PersistGate {
  public static let readyMessage = "persist service is ready and healthy"
  public static let fatalMessage = "FATAL: persist service is not available but ipc.enabled=true"

  /// persist did not answer in all the tries there were.
  public struct Unavailable: Error, CustomStringConvertible {
    public var lastError: String
    public var description: String { "\(PersistGate.fatalMessage) (\(lastError))" }
  }

  /// Tries until persist answers.
  /// - Parameters:
  ///   - tries: how often, `pause` apart; each may take as long as `pause`.
  ///   - onTry: called before each try with its number: to pet the watchdog and say in `STATUS=` what is waited for.
  /// - Throws: ``Unavailable`` after the last try, for the daemon to log as its last line, or `CancellationError`.
  public static func wait(
    querySocket: String, tries: Int = 30, pause: Duration = .seconds(1), logger: Logger,
    onTry: @Sendable (Int) -> Void = { _ in }
  ) async throws {
    var lastError = "no try was made"
    for attempt in 1...max(1, tries) {
      onTry(attempt)
      let started = ContinuousClock.now
      do {
        let reply = try await withTimeout(pause) { try await probe(querySocket) }
        logger.info("\(readyMessage)", metadata: ["persist": "\(reply.version)", "backend": "\(reply.backend)"])
        return
      } catch is CancellationError {
        throw CancellationError()
      } catch {
        lastError = "\(error)"
        logger.warning("persist service does not answer yet (try \(attempt) of \(tries)): \(error)")
      }
      if attempt < tries { try await Task.sleep(until: started + pause, clock: .continuous) }
    }
    throw Unavailable(lastError: lastError)
  }

  private static func probe(_ socket: String) async throws -> PingReply {
    let connection = try await FrameClient.connect(path: socket, timeout: .seconds(1))
    do {
      let pong: PingReply = try await connection.request(Frame(FrameHeader(.ping))).decode()
      try await queryNothing(connection)
      await connection.close()
      return pong
    } catch {
      await connection.close()
      throw error
    }
  }

  /// A log query that walks the real path: persist must look into its store to say that this job is unknown.
  private static func queryNothing(_ connection: FrameConnection) async throws {
    do {
      let query = LogQuery(job: .none, limit: 1)
      let reply = try await connection.request(Frame(FrameHeader(.queryLogs), json: query))
      guard reply.header.type == .done else { throw FrameError.unexpected(reply.header.type) }
    } catch let problem as Problem where problem.kind == .notFound {
      // The expected answer.
    }
  }
}
