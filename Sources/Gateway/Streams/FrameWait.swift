import JobletModel
import JobletWire
import NIOCore
import NIOPosix

extension FrameConnection {
  /// The next reply, however long it takes; meanwhile `onSilence` is called every `interval`.
  ///
  /// The timer is an event loop's, see ``withDeadline(_:_:_:)``.
  /// - Throws: the peer's ``JobletModel/Problem``, what `onSilence` throws, or what the connection fails with.
  func reply(every interval: Duration, onSilence: () async throws -> Void) async throws -> Frame {
    try await withThrowingTaskGroup(of: Frame?.self) { group in
      defer { group.cancelAll() }
      group.addTask { try await reply() }
      group.addTask { try await FrameConnection.tick(interval) }
      while let next = try await group.next() {
        if let frame = next { return frame }
        try await onSilence()
        group.addTask { try await FrameConnection.tick(interval) }
      }
      throw CancellationError()  // the group has a task in it as long as there is no reply
    }
  }

  private static func tick(_ interval: Duration) async throws -> Frame? {
    let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .nanoseconds(interval.nanoseconds)) {}
    try await withTaskCancellationHandler {
      try await timer.futureResult.get()
    } onCancel: {
      timer.cancel()
    }
    return nil
  }
}
