import JobletModel
import Logging

/// Where the time of one start went: a point in time for each step, by the clock joblet-init uses too. Kept only at log level
/// DEBUG; nothing is decided by it.
package struct StartTrace: Sendable {
  /// exec's own steps, in their order.
  package enum Step: String, Sendable, CaseIterable {
    /// The request's frame is read and decoded.
    case frame
    /// There is room for the job.
    case admitted
    /// Its request and its first record are in its state directory.
    case stateWritten = "state_written"
    /// Its cgroup is there, with its limits.
    case cgroup
    /// joblet-init is there.
    case cloned
    /// exec knows that everything is prepared.
    case ready
    /// `started` is in the state directory.
    case started
    /// The go is given.
    case go
    /// exec knows that the command runs.
    case running
  }

  /// `enum joblet_trace`, in its order.
  private static let initSteps = [
    "init_begin", "init_root", "init_ready", "init_go", "payload_cloned", "payload_confined", "payload_exec",
  ]

  private var times: [Step: Int64] = [:]

  package init() {}

  package mutating func note(_ step: Step) { times[step] = JobMeter.clock() }

  /// `frame=0 admitted=12 …`: microseconds since the first of all steps, in the order in which they happened.
  package func line(_ ring: RingMapping?) -> String {
    var points = times.map { ($0.key.rawValue, $0.value) }
    if let ring {
      for (index, name) in StartTrace.initSteps.enumerated() {
        let time = Int64(bitPattern: ring.load64(RingLayout.Field.trace + 8 * index))
        if time > 0 { points.append((name, time)) }
      }
    }
    points.sort { $0.1 < $1.1 }
    let first = points.first?.1 ?? 0
    return points.map { "\($0.0)=\(($0.1 - first) / 1000)" }.joined(separator: " ")
  }
}
