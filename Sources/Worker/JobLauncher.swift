import Cgroups
import Glibc
import JobletModel
import LinuxKernel
import Sandbox

/// A job that has its sandbox.
package struct LaunchedJob: Sendable {
  package var process: InitProcess
  package var files: JobFiles
  package var firstID: UInt32
  /// The name of its cgroup.
  package var cgroup: String
  /// To name a failed step; without the values of the environment.
  var plans: [Plan]
}

/// What became of a launch. With a `problem` the job can't start; it may have a sandbox all the same, which has to be removed.
package struct LaunchOutcome: Sendable {
  package var job: LaunchedJob?
  package var problem: SetupProblem?
}

/// What every launch needs, made once at start. Everything here blocks: it runs on threads kept for it.
package struct JobLauncher: Sendable {
  let sandboxes: any SandboxSource
  let cgroups: CgroupRoot
  let namespaces: NamespaceStock
  let settings: SandboxSettings
  let filters: SeccompFilters
  let workspaces: Workspaces
  /// What every sandbox does before it has a job: to name a step of it that failed.
  let sandboxPlan: Plan
  private let hostNames: OwnHostName

  package init(
    sandboxes: any SandboxSource, cgroups: CgroupRoot, namespaces: NamespaceStock, settings: SandboxSettings,
    filters: SeccompFilters, workspaces: Workspaces, sandboxPlan: Plan
  ) throws(Errno) {
    self.sandboxes = sandboxes
    self.cgroups = cgroups
    self.namespaces = namespaces
    self.settings = settings
    self.filters = filters
    self.workspaces = workspaces
    self.sandboxPlan = sandboxPlan
    hostNames = try OwnHostName()
  }

  package final class SharedSpawner: Sendable {
    let spawner: InitSpawner
    package init(_ spawner: consuming InitSpawner) { self.spawner = spawner }
  }

  /// exec's own uts namespace.
  private final class OwnHostName: Sendable {
    let namespace: Namespace
    init() throws(Errno) { namespace = try .open(.hostName, of: getpid()) }
  }

  /// What a job is made from.
  package struct Order: Sendable {
    package var job: JobID
    /// With the real values of its secrets.
    package var request: JobRequest
    /// Those of the request in the kernel's units.
    package var limits: Result<CgroupLimits, SetupProblem>
    package var timeout: Duration?
    /// The job's record now, encoded.
    package var record: [UInt8]
    package var directory: JobStateDirectory
    /// It has a state directory already, for it had to wait.
    package var isThere: Bool
    /// Nobody stores what it does.
    package var isLive: Bool
    /// Its request had an `Idempotency-Key`.
    package var key: KeyedRun?

    package init(
      job: JobID, request: JobRequest, limits: Result<CgroupLimits, SetupProblem>, timeout: Duration?,
      record: [UInt8], directory: JobStateDirectory, isThere: Bool, isLive: Bool, key: KeyedRun? = nil
    ) {
      self.job = job
      self.request = request
      self.limits = limits
      self.timeout = timeout
      self.record = record
      self.directory = directory
      self.isThere = isThere
      self.isLive = isLive
      self.key = key
    }
  }

  /// Takes a sandbox for a job and makes it the job's: state directory first, which admits the job; then all that it has to have
  /// before its go. Its command can't run before that.
  /// - Throws: what keeps the job from being admitted; then nothing of it is left. Anything later is the outcome's problem.
  package func launch(_ order: Order) throws -> LaunchOutcome {
    let sandbox: PreparedSandbox
    do {
      sandbox = try sandboxes.take()
    } catch {
      if !order.isThere {
        // No room for its output: a refusal, and whoever asked may ask elsewhere.
        if ["ring", "state directory"].contains(error.step) { throw error }
        try order.directory.create(
          request: order.request, record: order.record, isLive: order.isLive, key: order.key)
      }
      return LaunchOutcome(problem: error)
    }
    do {
      try sandbox.directory.writeJob(
        request: order.request, record: order.record, isLive: order.isLive, key: order.key)
      try sandbox.directory.become(order.directory, exists: order.isThere)
    } catch {
      sandboxes.discard(sandbox)
      throw error
    }
    var launched = LaunchedJob(
      process: sandbox.process, files: sandbox.files, firstID: sandbox.firstID, cgroup: "\(sandbox.name)",
      plans: [sandboxPlan])
    do {
      launched.plans.append(try claim(sandbox, order))
      return LaunchOutcome(job: launched)
    } catch {
      return LaunchOutcome(job: launched, problem: error)
    }
  }

  /// - Returns: the job's plan, without the values of its environment.
  private func claim(_ sandbox: PreparedSandbox, _ order: Order) throws(SetupProblem) -> Plan {
    try step("workspace") { try workspaces.rename("\(sandbox.name)", to: order.job) }
    // Before the go, and not while the job runs: it must not have an instant without them.
    let limits = try order.limits.get()
    try step("cgroup") { try JobCgroup(root: cgroups, name: "\(sandbox.name)").apply(limits, root: cgroups) }
    try step("host name") {
      try sandbox.hostNames.setHostName(Plan.hostName(of: order.job), from: hostNames.namespace)
    }
    try step("facts") { try order.directory.writeFacts(Plan.facts(of: order.job)) }
    return try step("plan") {
      let plan = try Plan.job(order.request, timeout: order.timeout, settings: settings, filters: filters)
      // joblet-init trusts it only once it is sealed: afterwards nobody changes it, exec included.
      try sandbox.jobPlan.fillAndSeal(plan.encoded())
      return Plan(steps: plan.steps.map { if case .environment = $0 { .environment([]) } else { $0 } })
    }
  }

  private func step<T>(_ name: String, _ body: () throws -> T) throws(SetupProblem) -> T {
    do {
      return try body()
    } catch {
      throw SetupProblem(step: name, message: "\(error)")
    }
  }
}
