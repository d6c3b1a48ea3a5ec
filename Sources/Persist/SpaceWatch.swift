import Glibc
import JobletModel
import JobletWire
import Logging
import Synchronization

/// Looks at the free space now and then, and posts what it means for new jobs.
final class SpaceWatch: Sendable {
  private struct State {
    var floor = FreeSpaceFloor()
    var lastFailure: String?
  }
  private let state = Mutex(State())
  private let minFree: Atomic<Int64>
  private let board: ConditionBoard
  private let measure: @Sendable () throws -> FreeSpace?
  private let onTurn: @Sendable (StoreCondition) -> Void
  private let onGone: @Sendable (PersistError) -> Void
  private let logger: Logger

  /// - Parameters:
  ///   - measure: what is free where it is least; nil where that means nothing.
  ///   - onGone: called when a directory that is written to is no longer there.
  ///   - onTurn: called when new jobs are refused from now on, or taken on again.
  init(
    board: ConditionBoard, minFree: Int64, logger: Logger, measure: @escaping @Sendable () throws -> FreeSpace?,
    onGone: @escaping @Sendable (PersistError) -> Void, onTurn: @escaping @Sendable (StoreCondition) -> Void
  ) {
    self.onGone = onGone
    self.board = board
    self.minFree = Atomic(minFree)
    self.logger = logger
    self.measure = measure
    self.onTurn = onTurn
  }

  /// `persist.retention.min_free`; may be set while it runs.
  var floor: Int64 {
    get { minFree.load(ordering: .relaxed) }
    set { minFree.store(newValue, ordering: .relaxed) }
  }

  func free() throws -> FreeSpace? { try measure() }

  /// One look.
  func look() {
    let space: FreeSpace?
    do {
      space = try measure()
      state.withLock { $0.lastFailure = nil }
    } catch let error as PersistError where error.isMissing {
      onGone(error)
      return
    } catch {
      // What was true last stays so: a look that fails says nothing of the space. Each reason is told once.
      let isNews = state.withLock { state in
        defer { state.lastFailure = "\(error)" }
        return state.lastFailure != "\(error)"
      }
      if isNews { logger.error("can't see how much space is free: \(error)") }
      return
    }
    guard let space else { return }
    let condition = state.withLock { $0.floor.judge(space, floor: floor) }
    guard board.post(condition) else { return }
    if let reason = condition.reason {
      logger.error("new jobs are refused from now on: \(reason)")
    } else {
      logger.notice("\(ByteCount.text(space.bytes)) are free again: new jobs are taken on")
    }
    onTurn(condition)
  }

  /// The fullest of the file systems the directories are on.
  static func least(of directories: [String]) throws -> FreeSpace? {
    var least: FreeSpace?
    for path in directories {
      var status = statvfs()
      guard statvfs(path, &status) == 0 else { throw PersistError.system(call: "statvfs", path: path, errno: errno) }
      let bytes = Int64(status.f_bavail) * Int64(status.f_frsize)
      if bytes < least?.bytes ?? .max { least = FreeSpace(bytes: bytes, path: path) }
    }
    return least
  }
}
