import Cgroups
import Glibc
import JobletModel
import LinuxKernel

/// What one look at a job found. Its number and its CPU percentage are given later, by ``MetricSeries``.
package struct Measurement: Hashable, Sendable {
  package var time: Timestamp
  /// CLOCK_MONOTONIC in nanoseconds: it goes on across restarts of exec, and nobody sets it.
  package var clock: Int64
  package var figures: CgroupFigures
  package var network: NetworkCounters?
  /// What was there and could not be read.
  package var problems: [String]

  package init(
    time: Timestamp, clock: Int64, figures: CgroupFigures, network: NetworkCounters? = nil, problems: [String] = []
  ) {
    self.time = time
    self.clock = clock
    self.figures = figures
    self.network = network
    self.problems = problems
  }

  /// True if nothing at all could be measured, as when the cgroup is gone.
  package var isEmpty: Bool { figures == CgroupFigures() && network == nil }
}

/// Looks at jobs. Blocks, for some tens of microseconds when all is well: never on the loop.
package struct JobMeter: Sendable {
  let cgroups: CgroupRoot

  package init(cgroups: CgroupRoot) { self.cgroups = cgroups }

  /// - Parameters:
  ///   - cgroup: the name of the job's.
  ///   - process: its joblet-init, which holds the network namespace; nil if it is gone.
  package func measure(cgroup: String, process: InitProcess?) -> Measurement {
    var problems: [String] = []
    let clock = JobMeter.clock()
    let time = Timestamp.now()
    let figures = JobCgroup(root: cgroups, name: cgroup).figures(problems: &problems)
    var network: NetworkCounters?
    do { network = try process?.handle.networkCounters() } catch { problems.append("\(error)") }
    return Measurement(time: time, clock: clock, figures: figures, network: network, problems: problems)
  }

  /// CLOCK_MONOTONIC in nanoseconds.
  package static func clock() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}
