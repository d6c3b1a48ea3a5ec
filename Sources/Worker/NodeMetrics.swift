import DaemonKit
import JobletModel

/// What exec tells of its node, looked up when somebody asks: nothing of it is measured while nobody does.
package struct NodeReport: Sendable {
  private struct Seen: Sendable {
    var node: NodeStatus
    var process: ProcessFigures
  }

  private let nodeID: String
  /// Sandboxes that wait for a job.
  private let prepared: @Sendable () -> Int
  /// A disk that hangs must not hold a connection for each who asks: nobody could start or stop a job any more.
  private let host: SharedLook<Seen?>

  /// - Parameters:
  ///   - queue: a thread of its own: a file system that does not answer holds up no job's samples.
  ///   - patience: after it, what needs no file system is told alone. Below the two seconds that the gateway waits.
  package init(
    meter: NodeMeter, queue: WorkQueue, patience: Duration = .milliseconds(1500),
    prepared: @escaping @Sendable () -> Int
  ) {
    nodeID = meter.nodeID
    self.prepared = prepared
    host = SharedLook(age: .milliseconds(500), patience: patience) {
      do {
        if try await queue.run({ meter.lookIfNeeded() }) { try await Task.sleep(for: .milliseconds(250)) }
        return try await queue.run { Seen(node: meter.status(), process: .own()) }
      } catch {
        return nil  // cancelled, which nobody does
      }
    }
  }

  /// - Parameter figures: of the supervisor, now.
  package func status(_ figures: SupervisorFigures) async -> NodeStatus {
    var status = await seen()?.node ?? nothingSeen
    var jobs = status.jobs ?? NodeStatus.JobsFigures()
    jobs.running = figures.running
    jobs.queued = figures.queued
    jobs.maxRunning = figures.maxRunning > 0 ? figures.maxRunning : nil
    jobs.maxQueued = figures.maxQueued
    status.jobs = jobs
    return status
  }

  package func metrics(_ figures: SupervisorFigures) async -> String {
    let seen = await seen()
    return NodeMetrics.text(figures, seen?.node ?? nothingSeen, prepared: prepared(), process: seen?.process)
  }

  private func seen() async -> Seen? { await host.value() ?? nil }

  private var nothingSeen: NodeStatus { NodeStatus(nodeID: nodeID, versions: .init(exec: jobletVersion)) }
}

/// exec's own metrics and the host's, as Prometheus text.
package enum NodeMetrics {
  /// - Parameters:
  ///   - prepared: sandboxes that wait for a job.
  ///   - process: nil where it is not known now.
  package static func text(
    _ figures: SupervisorFigures, _ node: NodeStatus, prepared: Int, process: ProcessFigures?
  ) -> String {
    var out = PrometheusText(prefix: "joblet_exec_")
    out.metric("info", .gauge, "What runs; always 1.")
    out.sample("info", ["version": jobletVersion], 1)
    writeJobs(figures, &out)
    out.gauge("prepared_sandboxes", "Sandboxes that wait for a job (isolation.prepared).", prepared)
    if let isConnected = figures.isPersistConnected {
      out.gauge("persist_connected", "1 while exec is connected to joblet-persist.", isConnected ? 1 : 0)
    }
    out.counter(
      "lost_samples_total", "Metrics samples that had to make room while persist was away.", figures.lostSamples)
    process?.write(to: &out)
    var host = PrometheusText(prefix: "joblet_node_")
    writeHost(node, &host)
    writeUse(node, &host)
    return out.text + host.text
  }

  private static func writeJobs(_ figures: SupervisorFigures, _ out: inout PrometheusText) {
    let counters = figures.counters
    out.counter("jobs_admitted_total", "Jobs taken.", counters.admitted)
    out.counter(
      "jobs_refused_total", "Requests for jobs that were refused, by kind.", label: "kind",
      counters.refused.map { ($0.key.rawValue, $0.value) }.sorted { $0.0 < $1.0 })
    out.metric("jobs_ended_total", .counter, "Jobs that ended, by status and reason.")
    let ends = counters.ended.map {
      (status: $0.key.status.rawValue, reason: $0.key.reason?.rawValue ?? "", count: $0.value)
    }
    for end in ends.sorted(by: { ($0.status, $0.reason) < ($1.status, $1.reason) }) {
      out.sample("jobs_ended_total", ["status": end.status, "reason": end.reason], end.count)
    }
    out.histogram(
      "start_seconds", "From when a job may start, at its admission or its turn, to its command's exec.", counters.start
    )
    out.histogram("queue_wait_seconds", "How long jobs waited that had to.", counters.queueWait)
    out.gauge("running_jobs", "Jobs that hold a place.", figures.running)
    out.gauge("running_jobs_limit", "Places there are; 0 for no bound.", figures.maxRunning)
    out.gauge("queued_jobs", "Jobs that wait for a place.", figures.queued)
    out.gauge("queued_jobs_limit", "How many may wait.", figures.maxQueued)
    out.gauge("held_jobs", "Jobs in memory: also those whose last records persist has not acknowledged.", figures.held)
    out.gauge("accepts_jobs", "1 while new jobs are taken.", figures.isOpen && figures.acceptsJobs ? 1 : 0)
  }

  private static func writeHost(_ node: NodeStatus, _ out: inout PrometheusText) {
    out.gauge("cpus", "CPUs that are online.", ifKnown: node.cpu?.count)
    out.metric(
      "cpu_seconds_total", .counter, "CPU time of the host since its boot, by what it was used for.", label: "mode",
      [
        ("busy", seconds(node.cpu?.busyUsec)), ("idle", seconds(node.cpu?.idleUsec)),
        ("iowait", seconds(node.cpu?.iowaitUsec)), ("steal", seconds(node.cpu?.stealUsec)),
      ])
    out.gauge("memory_bytes", "Memory of the host.", ifKnown: node.memory?.totalBytes)
    out.gauge("memory_available_bytes", "Memory that programs could still get.", ifKnown: node.memory?.availableBytes)
    out.gauge("swap_bytes", "Swap of the host.", ifKnown: node.memory?.swapTotalBytes)
    out.gauge("swap_free_bytes", "Swap that is free.", ifKnown: node.memory?.swapFreeBytes)
    out.metric(
      "load", .gauge, "Processes that ran or waited for a disk, averaged.", label: "over",
      [("1m", node.load?.oneMinute), ("5m", node.load?.fiveMinutes), ("15m", node.load?.fifteenMinutes)])
    let pressure = [("cpu", node.pressure?.cpu), ("memory", node.pressure?.memory), ("io", node.pressure?.io)]
    out.metric(
      "pressure_some_seconds_total", .counter, "Time in which some task waited for the resource.", label: "resource",
      pressure.map { ($0.0, seconds($0.1?.someTotalUsec)) })
    out.metric(
      "pressure_full_seconds_total", .counter, "Time in which all tasks waited for it.", label: "resource",
      pressure.map { ($0.0, seconds($0.1?.fullTotalUsec)) })
  }

  private static func writeUse(_ node: NodeStatus, _ out: inout PrometheusText) {
    let disks = node.disks ?? []
    func disk(_ name: String, _ kind: PrometheusText.Kind, _ help: String, _ value: (DiskFigures) -> Int64?) {
      out.metric(name, kind, help, label: "path", disks.map { ($0.path, value($0)) })
    }
    disk("disk_bytes", .gauge, "Size of a file system that Joblet keeps something on.") { $0.totalBytes }
    disk("disk_available_bytes", .gauge, "What can still be written there.") { $0.availableBytes }
    disk("disk_inodes", .gauge, "Files it can hold.") { $0.inodes }
    disk("disk_inodes_available", .gauge, "Files that can still be made.") { $0.inodesAvailable }
    disk("disk_read_bytes_total", .counter, "Read from its disk.") { $0.readBytes }
    disk("disk_written_bytes_total", .counter, "Written to its disk.") { $0.writeBytes }
    let network = node.network ?? []
    func interface(_ name: String, _ help: String, _ value: (InterfaceFigures) -> Int64) {
      out.metric(name, .counter, help, label: "interface", network.map { ($0.name, value($0)) })
    }
    interface("network_received_bytes_total", "Received by an interface.") { $0.rxBytes }
    interface("network_sent_bytes_total", "Sent by it.") { $0.txBytes }
    interface("network_receive_errors_total", "Packets it received damaged.") { $0.rxErrors }
    interface("network_send_errors_total", "Packets it could not send.") { $0.txErrors }
    if let cpu = seconds(node.jobs?.cpuUsec) { out.counter("jobs_cpu_seconds_total", "CPU time of all jobs.", cpu) }
    out.gauge("jobs_memory_bytes", "Memory of all jobs.", ifKnown: node.jobs?.memoryBytes)
    out.gauge("jobs_memory_limit_bytes", "The most they get together.", ifKnown: node.jobs?.memoryLimitBytes)
    out.gauge("jobs_pids", "Processes and threads of all jobs.", ifKnown: node.jobs?.pids)
    out.gauge("jobs_pids_limit", "The most they get together.", ifKnown: node.jobs?.pidsLimit)
  }

  private static func seconds(_ microseconds: Int64?) -> Double? { microseconds.map { Double($0) / 1e6 } }
}
