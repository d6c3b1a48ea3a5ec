import JobletModel
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle

/// Serves frame connections on a listening unix socket: checks who connects, bounds how many, and gives each a task.
public struct FrameServer: Service {
  private let descriptor: CInt
  private let maxPayload: Int
  private let maxConnections: Int
  private let allowedUsers: Set<UInt32>
  private let logger: Logger
  private let handle: @Sendable (FrameConnection) async throws -> Void

  /// - Parameters:
  ///   - descriptor: a listening socket; the server closes it when it stops.
  ///   - maxPayload: the longest payload a peer may send.
  ///   - maxConnections: one more is refused with ``Problem/Kind/unavailable``.
  ///   - allowedUsers: user IDs that may connect.
  ///   - handle: serves one connection, which is closed when it returns. What it throws is logged.
  public init(
    listening descriptor: CInt, maxPayload: Int, maxConnections: Int, allowedUsers: Set<UInt32>, logger: Logger,
    handle: @Sendable @escaping (FrameConnection) async throws -> Void
  ) {
    self.descriptor = descriptor
    self.maxPayload = maxPayload
    self.maxConnections = maxConnections
    self.allowedUsers = allowedUsers
    self.logger = logger
    self.handle = handle
  }

  /// Serves until the task is cancelled or a graceful shutdown begins; then every connection is closed.
  public func run() async throws {
    try await cancelWhenGracefulShutdown {
      do {
        try await serve()
      } catch is CancellationError {
        // This is how it stops.
      }
    }
  }

  private func serve() async throws {
    let maxPayload = maxPayload
    let server = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .serverChannelInitializer { [logger] channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(AcceptFailures(logger: logger))
        }
      }
      .childChannelOption(.autoRead, value: false)
      .bind(descriptor, cleanupExistingSocketFile: false) { channel in
        FrameConnection.wrap(channel, maxPayload: maxPayload).map { Optional($0) }.recover { _ in
          channel.close(promise: nil)  // gone before it could say who it was
          return nil
        }
      }
    try await server.executeThenClose { connections in
      try await withThrowingDiscardingTaskGroup { group in
        defer { group.cancelAll() }
        let open = ConnectionCount()
        for try await accepted in connections {
          guard let connection = accepted else { continue }
          group.addTask {
            let isWithinLimit = await open.enter(limit: maxConnections)
            await serve(connection, isWithinLimit: isWithinLimit)
            if isWithinLimit { await open.leave() }
          }
        }
      }
    }
  }

  private func serve(_ connection: FrameConnection, isWithinLimit: Bool) async {
    do {
      if !allowedUsers.contains(connection.peer.uid) {
        logger.warning("refused a connection of uid \(connection.peer.uid), pid \(connection.peer.pid)")
        try await connection.send(
          Frame(
            FrameHeader(.problem), json: Problem(.forbidden, "uid \(connection.peer.uid) may not use this socket")))
      } else if !isWithinLimit {
        logger.warning("refused a connection: \(maxConnections) are open, which is the limit")
        let problem = Problem(.unavailable, "\(maxConnections) connections are open, which is the limit", retryAfter: 1)
        try await connection.send(Frame(FrameHeader(.problem), json: problem))
      } else {
        try await handle(connection)
      }
    } catch is CancellationError {
      // The server stops.
    } catch let error as FrameError {
      logger.warning("closed a connection of pid \(connection.peer.pid): \(error)")
    } catch {
      logger.debug("a connection of pid \(connection.peer.pid) ended: \(error)")
    }
    await connection.close()
  }
}

private actor ConnectionCount {
  private var count = 0

  func enter(limit: Int) -> Bool {
    guard count < limit else { return false }
    count += 1
    return true
  }

  func leave() { count -= 1 }
}
