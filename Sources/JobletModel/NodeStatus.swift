/// How a node stands: the answer to `GET /v1/node` and the data of its SSE event `node`.
///
/// joblet-exec tells what it sees of the host and of its jobs, the gateway adds what only it knows. What could not be
/// measured, or whose teller is away, is absent, never 0.
public struct NodeStatus: Codable, Hashable, Sendable {
  /// When the figures were taken.
  public var time: Timestamp
  /// `server.nodeId`.
  public var nodeID: String
  /// Where other nodes and clients reach it: `server.advertise`, else where it listens.
  public var address: String?
  /// True if it takes new jobs; else ``reasons`` says why not, as `/readyz` does.
  public var isReady: Bool?
  public var reasons: [String]?
  public var versions: Versions
  public var host: HostDescription?
  public var cpu: ProcessorFigures?
  public var memory: MemoryFigures?
  public var load: LoadFigures?
  public var pressure: PressureReport?
  /// The file systems Joblet keeps something on, each once.
  public var disks: [DiskFigures]?
  /// Every network interface but the loopback.
  public var network: [InterfaceFigures]?
  public var jobs: JobsFigures?
  public var services: Services?
  public var certificates: [CertificateStatus]?
  public var gateway: GatewayFigures?

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case time, address, reasons, versions, host, cpu, memory, load, pressure, disks, network, jobs, services
    case certificates, gateway
    case nodeID = "node_id"
    case isReady = "ready"
  }

  public init(time: Timestamp = .now(), nodeID: String, versions: Versions = Versions()) {
    self.time = time
    self.nodeID = nodeID
    self.versions = versions
  }

  /// The programs' versions; absent while one is away.
  public struct Versions: Codable, Hashable, Sendable {
    public var api: String?
    public var exec: String?
    public var persist: String?

    public init(api: String? = nil, exec: String? = nil, persist: String? = nil) {
      self.api = api
      self.exec = exec
      self.persist = persist
    }

    public enum CodingKeys: String, CodingKey, CaseIterable { case api, exec, persist }
  }

  /// Jobs in hand, what the node can take, and what all jobs together use.
  public struct JobsFigures: Codable, Hashable, Sendable {
    /// Jobs that hold one of ``maxRunning`` places, and those that wait for one.
    public var running: Int?
    public var queued: Int?
    /// `joblet.maxConcurrentJobs`, or as many as there are ranges of IDs.
    public var maxRunning: Int?
    /// `joblet.max_queue`.
    public var maxQueued: Int?
    /// Jobs the gateway knows by status: all that have not ended, and the newest 1,000 that have.
    public var byStatus: [String: Int]?
    /// `cpu.stat` usage_usec of all jobs together.
    public var cpuUsec: Int64?
    /// `memory.current` of all jobs, and the most they get (`memory.max`).
    public var memoryBytes: Int64?
    public var memoryLimitBytes: Int64?
    /// `pids.current` of all jobs, and the most they get.
    public var pids: Int64?
    public var pidsLimit: Int64?

    public init() {}

    public enum CodingKeys: String, CodingKey, CaseIterable {
      case running, queued, pids
      case maxRunning = "max_running"
      case maxQueued = "max_queued"
      case byStatus = "by_status"
      case cpuUsec = "cpu_usec"
      case memoryBytes = "memory_bytes"
      case memoryLimitBytes = "memory_limit_bytes"
      case pidsLimit = "pids_limit"
    }
  }

  /// The services behind the gateway.
  public struct Services: Codable, Hashable, Sendable {
    public var exec: Exec
    /// Absent where nothing is stored (`ipc.enabled: false`).
    public var persist: Persist?

    public init(exec: Exec, persist: Persist? = nil) {
      self.exec = exec
      self.persist = persist
    }

    public enum CodingKeys: String, CodingKey, CaseIterable { case exec, persist }

    public struct Exec: Codable, Hashable, Sendable {
      public var isConnected: Bool

      public init(isConnected: Bool) { self.isConnected = isConnected }

      public enum CodingKeys: String, CodingKey, CaseIterable { case isConnected = "connected" }
    }

    public struct Persist: Codable, Hashable, Sendable {
      public var isConnected: Bool
      /// Where it stores: `local`.
      public var backend: String?
      /// Free bytes where it stores.
      public var freeBytes: Int64?
      /// When the oldest job began whose data is kept.
      public var oldest: Timestamp?
      public var acceptsJobs: Bool?
      /// Why it takes no new jobs.
      public var reason: String?

      public init(isConnected: Bool) { self.isConnected = isConnected }

      public enum CodingKeys: String, CodingKey, CaseIterable {
        case backend, oldest, reason
        case isConnected = "connected"
        case freeBytes = "free_bytes"
        case acceptsJobs = "accepts_jobs"
      }
    }
  }

  /// Who is connected to the gateway.
  public struct GatewayFigures: Codable, Hashable, Sendable {
    public var connections: Int
    public var streams: Int

    public init(connections: Int, streams: Int) {
      self.connections = connections
      self.streams = streams
    }

    public enum CodingKeys: String, CodingKey, CaseIterable { case connections, streams }
  }
}

/// A certificate of the node and how long it is good for.
public struct CertificateStatus: Codable, Hashable, Sendable {
  public enum State: String, Codable, Sendable, CaseIterable {
    case valid
    /// It ends within ``CertificateStatus/warningDays``.
    case expiring
    case expired
  }

  /// What it is for: `server`, `authority`; a second of a kind is `authority-2`.
  public var name: String
  public var subject: String
  public var notAfter: Timestamp
  /// Whole days left, below 0 once it has ended.
  public var daysLeft: Int
  public var state: State

  /// From so many days before its end on a certificate is told of as expiring.
  public static let warningDays = 30

  public init(name: String, subject: String, notAfter: Timestamp, now: Timestamp = .now()) {
    self.name = name
    self.subject = subject
    self.notAfter = notAfter
    // In seconds: the difference of two far moments is more nanoseconds than 64 bits count.
    let seconds = notAfter.nanoseconds / 1_000_000_000 - now.nanoseconds / 1_000_000_000
    let (days, rest) = seconds.quotientAndRemainder(dividingBy: 86_400)
    daysLeft = Int(rest < 0 ? days - 1 : days)
    state = now > notAfter ? .expired : daysLeft < CertificateStatus.warningDays ? .expiring : .valid
  }

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case name, subject, state
    case notAfter = "not_after"
    case daysLeft = "days_left"
  }
}

/// A line of `GET /v1/nodes`.
public struct NodeSummary: Codable, Hashable, Sendable {
  public var nodeID: String
  public var address: String?
  /// True if it takes new jobs.
  public var isReady: Bool
  public var reasons: [String]?
  public var version: String
  public var hostname: String?
  public var cpus: Int?
  public var memoryBytes: Int64?
  public var memoryAvailableBytes: Int64?
  /// Processes that ran or waited for the disk, averaged over a minute.
  public var load: Double?
  public var running: Int?
  public var queued: Int?
  public var maxRunning: Int?
  /// When this was known.
  public var seenAt: Timestamp

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case address, reasons, version, hostname, cpus, load, running, queued
    case nodeID = "node_id"
    case isReady = "ready"
    case memoryBytes = "memory_bytes"
    case memoryAvailableBytes = "memory_available_bytes"
    case maxRunning = "max_running"
    case seenAt = "seen_at"
  }

  public init(_ status: NodeStatus, version: String) {
    nodeID = status.nodeID
    address = status.address
    isReady = status.isReady ?? false
    reasons = status.reasons
    self.version = version
    hostname = status.host?.hostname
    cpus = status.cpu?.count
    memoryBytes = status.memory?.totalBytes
    memoryAvailableBytes = status.memory?.availableBytes
    load = status.load?.oneMinute
    running = status.jobs?.running
    queued = status.jobs?.queued
    maxRunning = status.jobs?.maxRunning
    seenAt = status.time
  }
}
