import Cgroups
import JobletConfig
import JobletModel

/// What supervision takes from the configuration: the node's own bounds, whatever a caller asks for.
package struct WorkerSettings: Sendable {
  package var nodeID: String
  /// The node's 32 bits in job IDs.
  package var nodeNumber: UInt32
  /// `/run/joblet/jobs`.
  package var stateRoot: String
  /// `/run/joblet/prepared`: of sandboxes that have no job yet. Beside the jobs', so that a rename makes it one.
  package var preparedRoot: String { "\(stateRoot)/../prepared" }
  /// `/run/joblet/keys`: see ``RunKeyFile``.
  package var keyFile: String { "\(stateRoot)/../keys" }
  package var ringSize: Int
  package var maxRecords: Int
  package var maxRunning: Int
  package var maxQueue: Int
  package var stopGrace: Duration
  package var cleanupTimeout: Duration
  /// How long a workspace stays after its job, and after a job that failed.
  package var keepWorkspace: Duration
  package var keepFailedWorkspace: Duration
  package var limits: NodeLimits
  package var defaultTimeout: Duration?
  package var link: PersistLink.Settings
  /// `ipc.enabled`: what jobs do is stored.
  package var isStoring: Bool
  /// How long an ended job's ring stays for its followers where nothing is stored.
  package var linger: Duration = .seconds(2)
  /// `metrics.interval`.
  package var sampleInterval: Duration

  package init(_ configuration: Configuration, stateRoot: String, cgroups: CgroupRoot, disk: WorkDisk, software: String)
  {
    nodeID = configuration.server.nodeID
    nodeNumber = WorkerSettings.number(of: nodeID)
    self.stateRoot = stateRoot
    ringSize = RingMapping.dataSize(forRecords: configuration.ipc.bufferSize)
    maxRecords = configuration.ipc.bufferSize
    let jobs = configuration.joblet
    maxRunning = jobs.maxConcurrentJobs
    maxQueue = jobs.maxQueue
    stopGrace = jobs.stopGrace
    cleanupTimeout = jobs.cleanupTimeout
    let workspace = configuration.filesystem.workspace
    keepWorkspace = workspace.keep
    keepFailedWorkspace = max(workspace.keep, workspace.preserveOnFailure)
    // A default whose controller is missing has stopped the start, but for that of processes, which was warned of.
    limits = NodeLimits(
      cgroups: cgroups, disk: disk,
      defaults: Limits(
        cpuPercent: jobs.defaultCPULimit > 0 ? jobs.defaultCPULimit : nil,
        memoryMB: jobs.defaultMemoryLimit > 0 ? jobs.defaultMemoryLimit : nil,
        ioBps: jobs.defaultIOLimit > 0 ? jobs.defaultIOLimit : nil,
        pids: cgroups.controllers.contains(.pids) ? configuration.process.pids : nil))
    defaultTimeout = jobs.jobTimeout > .zero ? jobs.jobTimeout : nil
    isStoring = configuration.ipc.enabled
    sampleInterval = configuration.metrics.interval
    link = PersistLink.Settings(
      socket: configuration.ipc.socket, reconnectDelay: configuration.ipc.reconnectDelay,
      // Jobs from before the storing was turned off may wait for a persist that never comes: no reason to end.
      maxReconnects: isStoring ? configuration.ipc.maxReconnects : 0, software: software)
  }

  /// FNV-1a of the node's name: the same on every start.
  static func number(of node: String) -> UInt32 {
    node.utf8.reduce(0x811C_9DC5) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
  }

  /// A request with this node's defaults filled in where it asks for nothing.
  /// - Throws: `Problem` for a limit this node can't hold.
  func effective(_ request: JobRequest) throws(Problem) -> JobRequest {
    var request = request
    request.limits = try limits.effective(request.limits)
    return request
  }
}
