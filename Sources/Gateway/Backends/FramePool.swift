import JobletModel
import JobletWire
import Logging
import Synchronization

/// Connections to one of the internal services: a few idle ones are kept, and whoever needs one more gets it.
package final class FramePool: Sendable {
  private struct State {
    var idle: [FrameConnection] = []
    /// Raised by ``flush()``: a connection of an older age is not kept.
    var age = 0
  }

  private let path: String
  /// `joblet-exec`, for messages.
  let service: String
  private let capacity: Int
  private let state = Mutex(State())

  package init(path: String, service: String, capacity: Int = 8) {
    self.path = path
    self.service = service
    self.capacity = capacity
  }

  /// A new connection, which is the caller's own.
  /// - Throws: ``Problem`` `unavailable`.
  func connect() async throws -> FrameConnection {
    do {
      return try await FrameClient.connect(path: path, timeout: .seconds(2))
    } catch {
      throw away("nobody listens at \(path): \(error)")
    }
  }

  /// Sends a request and takes its one reply.
  /// - Parameters:
  ///   - isRepeatable: true if asking twice does no harm: a connection that was kept may have died unnoticed, and then a
  ///     new one is tried.
  /// - Throws: the service's ``Problem``, or one of kind `unavailable`.
  package func request(_ frame: Frame, timeout: Duration = .seconds(10), isRepeatable: Bool = true) async throws
    -> Frame
  {
    try await converse(timeout: timeout, isRepeatable: isRepeatable) { try await $0.request(frame) }
  }

  /// Runs a request with several replies, all of which `body` takes.
  func converse<Result: Sendable>(
    timeout: Duration, isRepeatable: Bool = true, _ body: @escaping @Sendable (FrameConnection) async throws -> Result
  ) async throws -> Result {
    let (kept, age) = state.withLock { state in (state.idle.popLast(), state.age) }
    if let kept {
      do {
        return try await use(kept, age: age, timeout: timeout, body)
      } catch let error where isLost(error) {
        // One that did not answer in time is no dead one, and the caller has waited as long as was said.
        guard isRepeatable, !(error is TimedOut) else { throw away("\(error)") }
        // Fall through to a new connection.
      }
    }
    do {
      return try await use(try await connect(), age: age, timeout: timeout, body)
    } catch let error where isLost(error) {
      throw away("\(error)")
    }
  }

  /// Forgets the idle connections: the service is known to have gone.
  func flush() {
    let idle = state.withLock { state in
      state.age += 1
      defer { state.idle = [] }
      return state.idle
    }
    guard !idle.isEmpty else { return }
    Task { for connection in idle { await connection.close() } }
  }

  func away(_ why: String) -> Problem {
    Problem(.unavailable, "\(service) does not answer; try again soon (\(why))", retryAfter: 2)
  }

  private func use<Result: Sendable>(
    _ connection: FrameConnection, age: Int, timeout: Duration,
    _ body: @escaping @Sendable (FrameConnection) async throws -> Result
  ) async throws -> Result {
    do {
      let result = try await withDeadline(timeout, connection) { try await body(connection) }
      await keep(connection, age)
      return result
    } catch let problem as Problem {
      // A refusal is an answer: the connection is as good as before.
      await keep(connection, age)
      throw problem
    } catch {
      await connection.close()
      throw error
    }
  }

  private func keep(_ connection: FrameConnection, _ age: Int) async {
    let isKept = state.withLock { state in
      guard state.age == age, state.idle.count < capacity else { return false }
      state.idle.append(connection)
      return true
    }
    if !isKept { await connection.close() }
  }

  private func isLost(_ error: any Error) -> Bool {
    !(error is Problem || error is CancellationError || error is ValidationError)
  }
}
