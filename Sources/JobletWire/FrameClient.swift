#if canImport(Glibc)
  import Glibc
#endif
import NIOCore
import NIOPosix

/// Opens frame connections to a unix socket.
public enum FrameClient {
  /// Connects. A socket that systemd holds open accepts connections with nobody behind it: only an answer proves a peer.
  /// - Throws: ``ConnectError`` when nobody listens.
  public static func connect(
    path: String, maxPayload: Int = 16 << 20, timeout: Duration = .seconds(5)
  ) async throws -> FrameConnection {
    do {
      return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .channelOption(.autoRead, value: false)
        // As it comes, a connection keeps what four reads of 64 KiB were read into, as long as it is open.
        .channelOption(.maxMessagesPerRead, value: 1)
        .channelOption(
          .recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 2048, maximum: 32 << 10)
        )
        .connectTimeout(.nanoseconds(timeout.components.seconds * 1_000_000_000))
        .connect(unixDomainSocketPath: path) { channel in
          FrameConnection.wrap(channel, maxPayload: maxPayload)
        }
    } catch let error as IOError {
      throw ConnectError(path: path, code: error.errnoCode)
    }
  }
}

/// A unix socket that can't be connected to.
public struct ConnectError: Error, CustomStringConvertible {
  public var path: String
  /// errno of connect(2).
  public var code: CInt

  public var description: String { "connect \(path): \(String(cString: strerror(code)))" }
}

/// An operation that took longer than it was given.
public struct TimedOut: Error, CustomStringConvertible {
  public init() {}
  public var description: String { "no answer in time" }
}

/// Runs `body`, cancelling it after `limit`.
///
/// The limit is an event loop's timer: a cancelled `Task.sleep` keeps its task until the time is up, and whoever asks often and
/// is answered soon would gather them.
/// - Throws: ``TimedOut``, or what `body` throws.
public func withTimeout<Result: Sendable>(
  _ limit: Duration, _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  let timer = MultiThreadedEventLoopGroup.singleton.any().scheduleTask(in: .nanoseconds(limit.nanoseconds)) {}
  return try await withThrowingTaskGroup(of: Result?.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await withTaskCancellationHandler {
        // Fails only when it is cancelled.
        do { try await timer.futureResult.get() } catch { throw CancellationError() }
      } onCancel: {
        timer.cancel()
      }
      return nil
    }
    defer { group.cancelAll() }
    guard let first = try await group.next(), let result = first else { throw TimedOut() }
    return result
  }
}
