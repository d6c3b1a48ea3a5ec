import JobletWire
import Synchronization

/// A connection a reader keeps while its client keeps up.
final class Held: Sendable {
  private let state = Mutex<(connection: FrameConnection?, wasLetGo: Bool)>((nil, false))

  /// True if the connection was closed because the client did not read.
  var wasLetGo: Bool { state.withLock { $0.wasLetGo } }

  func connection(_ open: @Sendable () async throws -> FrameConnection) async throws -> FrameConnection {
    if let connection = state.withLock({ $0.connection }) { return connection }
    let opened = try await open()
    state.withLock { $0 = (opened, false) }
    return opened
  }

  func letGo() {
    let connection = state.withLock { state in
      let connection = state.connection
      // What came before the close may still be read, and the client stall on it again: let go is let go.
      state = (nil, state.wasLetGo || connection != nil)
      return connection
    }
    if let connection { Task { await connection.close() } }
  }

  func close() async {
    let connection = state.withLock { state in
      defer { state = (nil, false) }
      return state.connection
    }
    await connection?.close()
  }
}
