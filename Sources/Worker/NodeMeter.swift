import Cgroups
import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Synchronization

/// Looks at the host and at what all jobs together use. Blocks, for some milliseconds when all is well: never on the loop.
package final class NodeMeter: Sendable {
  /// A look at the CPUs that the next one is held against.
  private struct Look {
    /// CLOCK_MONOTONIC in nanoseconds.
    var clock: Int64
    var busyUsec: Int64
  }

  let nodeID: String
  private let places: [(path: String, holds: String)]
  private let cgroup: CgroupDirectory
  /// Where proc is mounted; tests have one of their own.
  private let proc: String
  private let looks = Mutex<[Look]>([])

  /// The percentage says what the CPUs did between two looks: over less than this, it would be chance.
  private static let shortest: Int64 = 900_000_000
  /// And over more than this, history.
  private static let longest: Int64 = 20_000_000_000

  package init(
    nodeID: String, places: [(path: String, holds: String)], cgroup: CgroupDirectory, proc: String = "/proc"
  ) {
    self.nodeID = nodeID
    self.places = places
    self.cgroup = cgroup
    self.proc = proc
  }

  convenience init(_ configuration: Configuration, paths: ExecPaths, cgroups: CgroupRoot) {
    var places = [(configuration.filesystem.baseDir, "workspaces")]
    if configuration.ipc.enabled {
      let storage = configuration.persist.storage
      places += [
        (storage.local.logs.directory, "logs"), (storage.local.metrics.directory, "metrics"),
        ("\(storage.baseDir)/persist", "records"),
      ]
    }
    places += [(configuration.volumes.basePath, "volumes"), (paths.stateDirectory, "state")]
    self.init(nodeID: configuration.server.nodeID, places: places, cgroup: cgroups.directory)
  }

  /// True if there is no look that a percentage could be taken from: then look, wait a moment, and look again.
  package var needsLook: Bool {
    let now = JobMeter.clock()
    return !looks.withLock { $0.contains { now - $0.clock <= NodeMeter.longest } }
  }

  /// Looks at the CPUs alone, for the next percentage.
  package func look() { _ = processors() }

  /// Looks where a percentage needs a first look.
  /// - Returns: true if it did: then wait a moment, and look again.
  func lookIfNeeded() -> Bool {
    guard needsLook else { return false }
    look()
    return true
  }

  /// The host, its disks, and the jobs' cgroup.
  package func status() -> NodeStatus {
    var status = NodeStatus(nodeID: nodeID, versions: .init(exec: jobletVersion))
    let (cpu, bootedAt) = processors()
    status.cpu = cpu
    status.host = host(bootedAt: bootedAt)
    status.memory = text("meminfo").map(HostText.memory)
    status.load = text("loadavg").flatMap(HostText.load)
    let pressure = PressureReport(
      cpu: text("pressure/cpu").flatMap(HostText.pressure), memory: text("pressure/memory").flatMap(HostText.pressure),
      io: text("pressure/io").flatMap(HostText.pressure))
    if pressure != PressureReport() { status.pressure = pressure }
    // exec's own network namespace is the host's.
    status.network = text("self/net/dev").map(HostText.network)
    status.disks = disks()
    status.jobs = jobs()
    return status
  }

  private func processors() -> (ProcessorFigures, Timestamp?) {
    guard let stat = text("stat") else { return (ProcessorFigures(), nil) }
    let clock = JobMeter.clock()
    var (figures, bootedAt) = HostText.processors(stat, ticks: Int64(sysconf(Int32(_SC_CLK_TCK))))
    figures.model = text("cpuinfo", limit: 16 << 10).flatMap(HostText.processorModel)
    guard let busy = figures.busyUsec else { return (figures, bootedAt) }
    figures.usedPercent = looks.withLock { looks in
      // The newest that is old enough; where somebody looks all the time, that is about a second ago.
      let base =
        looks.last { (NodeMeter.shortest...NodeMeter.longest).contains(clock - $0.clock) } ?? looks.last
      if looks.last.map({ clock - $0.clock >= NodeMeter.shortest }) ?? true {
        looks = looks.suffix(3) + [Look(clock: clock, busyUsec: busy)]
      }
      guard let base, clock - base.clock >= 50_000_000, busy >= base.busyUsec else { return nil }
      let percent = Double(busy - base.busyUsec) * 1000 / Double(clock - base.clock) * 100
      return (percent * 10).rounded() / 10
    }
    return (figures, bootedAt)
  }

  private func host(bootedAt: Timestamp?) -> HostDescription {
    var host = HostDescription()
    var name = utsname()
    if uname(&name) == 0 {
      func word(_ field: some Any) -> String {
        withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      }
      host.hostname = word(name.nodename)
      host.kernel = word(name.release)
      host.architecture = word(name.machine)
    }
    host.os = NodeMeter.read("/etc/os-release", limit: 16 << 10).flatMap(HostText.osName)
    host.bootedAt = bootedAt
    return host
  }

  /// Every file system once, by its device number.
  private func disks() -> [DiskFigures] {
    let counters = text("diskstats").map(HostText.disks) ?? [:]
    var order: [dev_t] = []
    var found: [dev_t: DiskFigures] = [:]
    for place in places {
      var info = stat()
      guard stat(place.path, &info) == 0 else { continue }
      if found[info.st_dev] != nil {
        found[info.st_dev]?.holds.append(place.holds)
        continue
      }
      order.append(info.st_dev)
      found[info.st_dev] = disk(place.path, place.holds, counters)
    }
    return order.compactMap { found[$0] }
  }

  private func disk(_ path: String, _ holds: String, _ counters: [String: HostText.DiskCounters]) -> DiskFigures {
    var disk = DiskFigures(path: path, holds: [holds])
    var space = statvfs()
    if statvfs(path, &space) == 0 {
      let unit = UInt64(space.f_frsize)
      func bytes(_ blocks: UInt64) -> Int64? {
        let (bytes, isBeyond) = blocks.multipliedReportingOverflow(by: unit)
        return isBeyond ? nil : Int64(exactly: bytes)
      }
      disk.totalBytes = bytes(UInt64(space.f_blocks))
      disk.availableBytes = bytes(UInt64(space.f_bavail))
      // A file system that makes inodes as it needs them says 0.
      if space.f_files > 0 {
        disk.inodes = Int64(exactly: space.f_files)
        disk.inodesAvailable = Int64(exactly: space.f_favail)
      }
    }
    do {
      let device = "\(try BlockDevice.behind(path))"
      disk.device = device
      guard let counted = counters[device] else { return disk }
      disk.readBytes = counted.readBytes
      disk.writeBytes = counted.writeBytes
      disk.readOps = counted.readOps
      disk.writeOps = counted.writeOps
      disk.busyUsec = counted.busyUsec
    } catch {
      // tmpfs, overlay or btrfs: there is no disk whose counters were this file system's.
    }
    return disk
  }

  private func jobs() -> NodeStatus.JobsFigures {
    var jobs = NodeStatus.JobsFigures()
    jobs.cpuUsec = figure("cpu.stat") { FigureText.value(of: "usage_usec", in: $0) }
    jobs.memoryBytes = figure("memory.current", FigureText.number)
    jobs.memoryLimitBytes = figure("memory.max", FigureText.number)
    jobs.pids = figure("pids.current", FigureText.number)
    jobs.pidsLimit = figure("pids.max", FigureText.number)
    return jobs
  }

  private func figure<Value>(_ file: String, _ parse: (UnsafeRawBufferPointer) -> Value?) -> Value? {
    NodeMeter.bytes("\(cgroup.path)/\(file)", limit: 4096)?.withUnsafeBytes(parse)
  }

  // MARK: Files

  private func text(_ file: String, limit: Int = 1 << 20) -> String? {
    NodeMeter.read("\(proc)/\(file)", limit: limit)
  }

  /// Nil for what is not there: a kernel without it, or a controller that is not enabled. What a node tells of itself is never
  /// worth an error.
  private static func bytes(_ path: String, limit: Int) -> [UInt8]? {
    do { return try FileDescriptor.open(path, O_RDONLY).readAll(limit: limit) } catch { return nil }
  }

  private static func read(_ path: String, limit: Int) -> String? {
    bytes(path, limit: limit).map { String(decoding: $0, as: UTF8.self) }
  }
}
