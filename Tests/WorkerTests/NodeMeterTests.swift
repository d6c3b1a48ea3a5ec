import Cgroups
import DaemonKit
import Glibc
import JobletModel
import LinuxKernel
import Testing
import Worker

@Suite(.timeLimit(.minutes(2))) struct NodeMeterTests {
  /// A host made of files.
  final class FakeHost {
    let directory = TemporaryDirectory()

    init() throws {
      for path in ["proc", "proc/pressure", "proc/self", "proc/self/net", "cgroup", "work"] {
        mkdir("\(directory.path)/\(path)", 0o755)
      }
      try write("proc/stat", HostTextTests.stat)
      try write("proc/meminfo", "MemTotal: 1000 kB\n")
      try write("proc/loadavg", "1.00 2.00 3.00 1/2 3\n")
      try write("proc/pressure/cpu", "some avg10=1.00 avg60=2.00 avg300=0.00 total=3\n")
      try write("proc/self/net/dev", "a\nb\neth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
      try write("cgroup/cpu.stat", "usage_usec 5000000\nuser_usec 1\n")
      try write("cgroup/memory.current", "4096\n")
      try write("cgroup/memory.max", "max\n")
      try write("cgroup/pids.current", "3\n")
    }

    func write(_ file: String, _ text: String) throws {
      try FileDescriptor.open("\(directory.path)/\(file)", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        .writeAll(Array(text.utf8))
    }

    var meter: NodeMeter {
      let work = "\(directory.path)/work"
      return NodeMeter(
        nodeID: "n", places: [(work, "workspaces"), (directory.path, "logs"), ("/no/such/place", "volumes")],
        cgroup: CgroupDirectory(path: "\(directory.path)/cgroup"), proc: "\(directory.path)/proc")
    }
  }

  @Test func tellsOfTheHostItsDisksAndTheJobs() throws {
    let host = try FakeHost()
    let status = host.meter.status()
    #expect(status.nodeID == "n" && status.versions.exec == jobletVersion)
    #expect(status.cpu?.count == 2 && status.memory?.totalBytes == 1_024_000 && status.load?.fiveMinutes == 2)
    #expect(status.pressure?.cpu?.someTotalUsec == 3 && status.pressure?.io == nil)
    #expect(status.network?.map(\.name) == ["eth0"])
    #expect(status.host?.kernel == KernelFeatures.release() && status.host?.bootedAt != nil)
    // One file system once, with all it holds; what is not there is left out.
    #expect(status.disks?.count == 1 && status.disks?.first?.holds == ["workspaces", "logs"])
    #expect(status.disks?.first?.totalBytes ?? 0 > 0)
    #expect(status.jobs?.cpuUsec == 5_000_000 && status.jobs?.memoryBytes == 4096 && status.jobs?.pids == 3)
    #expect(status.jobs?.memoryLimitBytes == nil && status.jobs?.pidsLimit == nil)
  }

  @Test func whatIsUsedIsHeldAgainstAnEarlierLook() throws {
    let host = try FakeHost()
    let meter = host.meter
    #expect(meter.needsLook)
    meter.look()
    #expect(!meter.needsLook)
    let begun = JobMeter.clock()
    // 160 ticks of 10 ms more: 1.6 s of CPU time.
    try host.write("proc/stat", HostTextTests.stat.replacing("cpu  1000 ", with: "cpu  1160 "))
    while JobMeter.clock() - begun < 100_000_000 { usleep(1000) }
    let percent = try #require(meter.status().cpu?.usedPercent)
    let ceiling = 1.6e9 / 1e8 * 100
    #expect(percent > 0 && percent <= ceiling)
  }

  @Test func aHostThatTellsNothingIsNoError() {
    let meter = NodeMeter(nodeID: "n", places: [], cgroup: CgroupDirectory(path: "/no/such"), proc: "/no/such")
    let status = meter.status()
    #expect(status.memory == nil && status.load == nil && status.pressure == nil && status.network == nil)
    #expect(status.cpu == ProcessorFigures() && status.jobs == NodeStatus.JobsFigures())
  }

  @Test func metricsHaveTheJobsAndTheHost() throws {
    var figures = SupervisorFigures()
    figures.running = 2
    figures.queued = 5
    figures.isPersistConnected = true
    figures.isOpen = true
    figures.counters.noteAdmitted()
    figures.counters.noteEnd(.failed, .oomKilled)
    figures.counters.noteEnd(.completed, nil)
    figures.counters.noteRefused(Problem(.tooManyJobs, "x"))
    figures.counters.noteStart(nanoseconds: 4_000_000)
    figures.counters.noteQueueWait(nanoseconds: 2_000_000_000)
    let host = try FakeHost()
    let text = NodeMetrics.text(figures, host.meter.status(), prepared: 8, process: .own())
    for line in [
      "joblet_exec_running_jobs 2", "joblet_exec_queued_jobs 5", "joblet_exec_jobs_admitted_total 1",
      #"joblet_exec_jobs_ended_total{status="FAILED",reason="oom_killed"} 1"#,
      #"joblet_exec_jobs_ended_total{status="COMPLETED",reason=""} 1"#,
      #"joblet_exec_jobs_refused_total{kind="too-many-jobs"} 1"#, #"joblet_exec_start_seconds_bucket{le="0.003"} 0"#,
      #"joblet_exec_start_seconds_bucket{le="0.005"} 1"#, "joblet_exec_start_seconds_sum 0.004",
      #"joblet_exec_queue_wait_seconds_bucket{le="5.0"} 1"#, "joblet_exec_queue_wait_seconds_count 1",
      "joblet_exec_prepared_sandboxes 8", "joblet_exec_persist_connected 1", "joblet_exec_accepts_jobs 1",
      #"joblet_node_cpu_seconds_total{mode="busy"} 16.1"#, "joblet_node_memory_bytes 1024000",
      #"joblet_node_load{over="1m"} 1.0"#, #"joblet_node_network_received_bytes_total{interface="eth0"} 1"#,
      "joblet_node_jobs_memory_bytes 4096", "joblet_node_jobs_cpu_seconds_total 5.0",
    ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
    withExtendedLifetime(host) {}
    #expect(text.contains("joblet_exec_process_resident_bytes ") && !text.contains("jobs_memory_limit"))
  }

  @Test func aDiskThatHangsHoldsNobodyUp() async throws {
    let host = try FakeHost()
    let queue = try WorkQueue(name: "jl-test", threads: 1)
    let report = NodeReport(meter: host.meter, queue: queue, patience: .milliseconds(20)) { 8 }
    var figures = SupervisorFigures()
    figures.running = 2
    let hang = HungDisk()
    queue.submit { hang.wait() }
    await withTaskGroup(of: (String, NodeStatus).self) { [figures] group in
      for _ in 0..<200 { group.addTask { (await report.metrics(figures), await report.status(figures)) } }
      for await (text, status) in group {
        #expect(text.contains("\njoblet_exec_running_jobs 2\n") && !text.contains("joblet_node_"))
        #expect(status.nodeID == "n" && status.jobs?.running == 2 && status.memory == nil)
      }
    }
    hang.end()
    while await report.status(figures).memory == nil { await Task.yield() }
    #expect(await report.metrics(figures).contains("\njoblet_node_memory_bytes 1024000\n"))
    withExtendedLifetime(host) {}
  }

  /// Blocks a thread, as a file system that does not answer would.
  private final class HungDisk: Sendable {
    private let pipe: (read: CInt, write: CInt)

    init() {
      var ends: [CInt] = [-1, -1]
      let made = Glibc.pipe(&ends)
      #expect(made == 0)
      pipe = (ends[0], ends[1])
    }
    deinit { close(pipe.read) }

    func wait() {
      var byte: UInt8 = 0
      let count = read(pipe.read, &byte, 1)
      #expect(count == 0)
    }
    func end() { close(pipe.write) }
  }
}
