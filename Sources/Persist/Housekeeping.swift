import JobletConfig
import JobletModel
import JobletWire
import LogStore

/// What persist tells of itself, and what keeps its disk from filling.
final class Housekeeping: Sendable {
  let intake: Intake
  let space: SpaceWatch
  let sweeper: Sweeper
  private let isSyncing: Bool

  init(intake: Intake, space: SpaceWatch, sweeper: Sweeper, isSyncing: Bool) {
    self.intake = intake
    self.space = space
    self.sweeper = sweeper
    self.isSyncing = isSyncing
  }

  /// Takes bounds that were read again.
  func apply(_ retention: Configuration.Persist.Retention) {
    sweeper.retention = retention
    space.floor = retention.minFree
    space.look()
  }

  func ping() throws -> PingReply {
    PingReply(
      version: jobletVersion, backend: intake.logs.name, freeBytes: try space.free()?.bytes,
      oldest: try sweeper.oldest(), condition: intake.board.condition)
  }

  /// Prometheus text of everything that is counted.
  func statistics() throws -> String {
    var gauges = intake.monitor.withLock { state in
      var gauges = Statistics.Gauges()
      gauges.sealQueue = state.sealQueue.count
      gauges.jobs = state.jobs.count
      gauges.unsealedBytes = state.unsealedBytes
      gauges.unsealedLines = state.jobs.values.reduce(0) { $0 + $1.unsealedLines }
      return gauges
    }
    gauges.backend = intake.logs.name
    gauges.isSyncing = isSyncing
    gauges.logBytes = intake.log.totalBytes
    gauges.freeBytes = try space.free()?.bytes
    gauges.floor = space.floor
    gauges.condition = intake.board.condition
    return intake.statistics.text(gauges)
  }
}
