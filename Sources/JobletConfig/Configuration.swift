import JobletModel

/// The whole configuration file, `version: "3.0"`. Every key has its default here; `config/joblet-config.yml` shows the
/// same ones with comments, and a test holds the two equal.
public struct Configuration: Sendable, Equatable {
  public var server = Server()
  public var joblet = Jobs()
  public var filesystem = Filesystem()
  public var process = Process()
  public var isolation = Isolation()
  public var cgroup = Cgroup()
  public var ipc = IPC()
  public var persist = Persist()
  public var state = State()
  public var metrics = Metrics()
  public var logging = Logging()
  public var security = Security()
  public var network = Network()
  public var volumes = Volumes()

  /// Where it was read from, and what it should say otherwise one day.
  public var origin = Origin()

  public init() {}

  /// The configuration file's only version.
  public static let version = "3.0"

  /// Two configurations are equal when they say the same, wherever they were read.
  public struct Origin: Sendable, Equatable {
    /// The file; empty for the defaults in code.
    public var path = ""
    /// Deprecated keys that were given, each a sentence for the log.
    public var warnings: [String] = []
    public static func == (a: Origin, b: Origin) -> Bool { true }
  }

  /// The file of an installed node.
  public static let installedPath = "/opt/joblet/joblet-config.yml"
  /// A link to ``installedPath``, or the file itself; a second, different file is refused.
  public static let alternativePath = "/opt/joblet/config/joblet-config.yml"
  /// Where joblet-exec listens for the gateway: `exec.sock` beside ``IPC/socket``, so that a developer's run in a folder of
  /// its own finds its own worker.
  public var execSocket: String {
    let folder = ipc.socket.lastIndex(of: "/").map { ipc.socket[...$0] } ?? ""
    return folder + "exec.sock"
  }

  public struct Server: Sendable, Equatable {
    /// `nodeId`: unique in a fleet; install makes one.
    public var nodeID = ""
    public var address = "0.0.0.0"
    public var port = 50051
    public var advertise = ""
    public var health = Health()
    public var tls = TLS()
    public var timeouts = Timeouts()
    public var maxConnections = 10_000
    public var maxBody: Int64 = 1 << 30

    public struct Health: Sendable, Equatable {
      public var address = "127.0.0.1"
      public var port = 9090
    }
    public struct TLS: Sendable, Equatable {
      /// `1.2` or `1.3`.
      public var minVersion = "1.3"
    }
    public struct Timeouts: Sendable, Equatable {
      public var handshake: Duration = .seconds(10)
      public var header: Duration = .seconds(10)
      public var idle: Duration = .seconds(120)
      public var drain: Duration = .seconds(30)
    }
  }

  public struct Jobs: Sendable, Equatable {
    /// `defaultCpuLimit`: percent of one core; 0 = unlimited.
    public var defaultCPULimit = 0
    /// `defaultMemoryLimit`: MB; 0 = unlimited.
    public var defaultMemoryLimit = 0
    /// `defaultIoLimit`: bytes a second; 0 = unlimited.
    public var defaultIOLimit: Int64 = 0
    /// 0 = unlimited.
    public var maxConcurrentJobs = 0
    public var maxQueue = 10_000
    /// 0 = none.
    public var jobTimeout: Duration = .zero
    public var stopGrace: Duration = .seconds(10)
    public var cleanupTimeout: Duration = .seconds(10)
  }

  public struct Filesystem: Sendable, Equatable {
    public var baseDir = "/opt/joblet/jobs"
    public var workspaceDir = "/work"
    public var allowedMounts = [
      "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/ca-certificates", "/etc/alternatives",
    ]
    public var workspace = Workspace()
    public var tmpSize: Int64 = 64 << 20

    public struct Workspace: Sendable, Equatable {
      public var defaultQuota: Int64 = 1 << 30
      public var keep: Duration = .zero
      public var preserveOnFailure: Duration = .seconds(3600)
    }
  }

  public struct Process: Sendable, Equatable {
    public var defaultUser = "nobody"
    public var defaultGroup = "nogroup"
    public var pids = 1024
  }

  public struct Isolation: Sendable, Equatable {
    /// First host ID and how many: the pool that jobs' user namespaces are cut from, 65,536 each.
    public var idPool = IDPool(first: 1_879_048_192, count: 268_435_456)
    public var seccomp = "default"
    /// `auto`: where the kernel has it, `required`: or exec does not start, `off`.
    public var landlock = "auto"
    /// How many sandboxes wait made for the next jobs; 0 = none.
    public var prepared = 8

    public struct IDPool: Sendable, Equatable {
      public var first: UInt32
      public var count: UInt32
      public init(first: UInt32, count: UInt32) {
        self.first = first
        self.count = count
      }
    }
  }

  public struct Cgroup: Sendable, Equatable {
    public var enableControllers = ["cpu", "cpuset", "io", "memory", "pids"]
  }

  public struct IPC: Sendable, Equatable {
    public var enabled = true
    public var socket = "/opt/joblet/run/persist-ipc.sock"
    /// Records a job's ring holds, and at most 1 MiB.
    public var bufferSize = 10_000
    public var reconnectDelay: Duration = .seconds(5)
    /// 0 = for ever.
    public var maxReconnects = 0
  }

  public struct Persist: Sendable, Equatable {
    public var server = Server()
    public var ipc = IPC()
    public var wal = WAL()
    public var retention = Retention()
    public var storage = Storage()
    /// What differs for persist from ``Configuration/logging``; see ``Configuration/persistLogging``.
    public var logging = LoggingOverride()

    public struct LoggingOverride: Sendable, Equatable {
      /// Each nil where it is inherited.
      public var level: Logging.Level?
      public var format: Logging.Format?
      public var output: String?
    }
    public struct Server: Sendable, Equatable {
      public var querySocket = "/opt/joblet/run/persist-query.sock"
      /// The seeds' older name of ``querySocket``; a symlink to it stands there.
      public var grpcSocket = "/opt/joblet/run/persist-grpc.sock"
      public var maxConnections = 500
    }
    public struct IPC: Sendable, Equatable {
      public var socket = "/opt/joblet/run/persist-ipc.sock"
      public var maxConnections = 10
      public var maxMessageSize: Int64 = 134_217_728
    }
    public struct WAL: Sendable, Equatable {
      public enum Fsync: String, Sendable, CaseIterable { case always, interval, never }
      public var fsync = Fsync.interval
      public var fsyncInterval: Duration = .seconds(1)
      public var maxSize: Int64 = 256 << 20
      public var maxUnsealed: Int64 = 64 << 20
      public var sealInterval: Duration = .seconds(300)
    }
    public struct Retention: Sendable, Equatable {
      public var days = 0
      public var maxBytesPerJob: Int64 = 0
      public var maxBytes: Int64 = 0
      public var minFree: Int64 = 1 << 30
    }
    public struct Storage: Sendable, Equatable {
      public enum Kind: String, Sendable, CaseIterable { case local, cloudwatch, s3 }
      public var type = Kind.local
      public var baseDir = "/opt/joblet"
      public var localKeep: Duration = .seconds(86_400)
      public var local = Local()
      public var cloudwatch = CloudWatch()
      public var s3 = S3()

      public struct Local: Sendable, Equatable {
        public var logs = Files(directory: "/opt/joblet/logs")
        public var metrics = Files(directory: "/opt/joblet/metrics")
        public struct Files: Sendable, Equatable {
          public var directory: String
          public var format = "jsonl.gz"
          public init(directory: String) { self.directory = directory }
        }
      }
      public struct CloudWatch: Sendable, Equatable {
        public var region = ""
        public var endpoint = ""
        public var logGroupPrefix = "/joblet"
        public var logStreamPrefix = ""
        public var metricNamespace = "Joblet/Jobs"
        public var metricDimensions: [String: String] = [:]
        public var logBatchSize = 100
        public var metricBatchSize = 20
        public var logRetentionDays = 7
      }
      public struct S3: Sendable, Equatable {
        public var region = ""
        public var endpoint = ""
        public var bucket = ""
        public var keyPrefix = "jobs/"
        public var flushInterval: Duration = .seconds(30)
        public var flushThreshold: Int64 = 5 << 20
        public var maxBufferSize: Int64 = 50 << 20
        public var storageClass = "STANDARD"
        public var sse = ""
        public var kmsKeyID = ""
      }
    }
  }

  public struct State: Sendable, Equatable {
    public enum Backend: String, Sendable, CaseIterable { case local, memory, dynamodb }
    public var backend = Backend.local
    public var storage = Storage()

    public struct Storage: Sendable, Equatable {
      public var dynamodb = DynamoDB()
      public struct DynamoDB: Sendable, Equatable {
        public var region = ""
        public var endpoint = ""
        public var tableName = "joblet-jobs"
        public var ttlEnabled = true
        public var ttlAttribute = "expiresAt"
        public var ttlDays = 30
        public var readCapacity = 0
        public var writeCapacity = 0
      }
    }
  }

  public struct Metrics: Sendable, Equatable {
    public var interval: Duration = .seconds(5)
  }

  public struct Logging: Sendable, Equatable {
    public enum Level: String, Sendable, CaseIterable {
      case debug = "DEBUG", info = "INFO", warn = "WARN", error = "ERROR"
    }
    public enum Format: String, Sendable, CaseIterable { case text, json }
    public var level = Level.info
    public var format = Format.text
    /// `stdout`, `stderr`, or a file; stdout goes to the journal with fields under systemd.
    public var output = "stdout"
  }

  /// How persist logs: ``logging``, but for what ``Persist/logging`` says otherwise.
  public var persistLogging: Logging {
    Logging(
      level: persist.logging.level ?? logging.level, format: persist.logging.format ?? logging.format,
      output: persist.logging.output ?? logging.output)
  }

  public struct Security: Sendable, Equatable {
    /// PEM, or the path of a file with it; the same for the next ones.
    public var serverCert = ""
    public var serverKey = ""
    public var caCert = ""
    public var crl = ""
    public var audit = Audit()

    public struct Audit: Sendable, Equatable {
      public var enabled = true
      public var logFile = ""
    }
  }

  public struct Network: Sendable, Equatable {
    public var defaultNetwork = "none"
    public var networks: [String: String] = [:]
  }

  public struct Volumes: Sendable, Equatable {
    public var basePath = "/opt/joblet/volumes"
    public var maxVolumes = 100
    public var maxSize: Int64 = 100_000_000_000
    public var defaultSize: Int64 = 1_000_000_000
  }
}
