import JobletModel

/// What the node grants every job, whatever a caller asks for: exec's own configuration, never a request's.
public struct SandboxSettings: Sendable, Equatable {
  /// Host paths every job sees read-only at the same place. A symlink is made anew; what does not exist is left out.
  public var allowedMounts: [String]
  /// Where the job finds its workspace; its working directory.
  public var workspacePath: String
  /// Bytes `/tmp` may hold, and as many `/dev/shm`.
  public var tmpSize: Int64
  /// Whom the payload runs as inside its user namespace.
  public var runAs: RunAs
  /// An empty directory of the host that the new root is mounted on, each job in its own mount namespace.
  public var stagingDirectory: String
  /// From SIGTERM to `cgroup.kill` when joblet-init's own time-out fires.
  public var timeoutGrace: Duration
  /// Open files a process of the job may have (RLIMIT_NOFILE).
  public var openFiles: UInt64
  /// Nil: jobs run without Landlock.
  public var landlock: LandlockSupport?

  public init(
    allowedMounts: [String], workspacePath: String = "/work", tmpSize: Int64 = 64 << 20, runAs: RunAs = .nobody,
    stagingDirectory: String = "/run/joblet/root", timeoutGrace: Duration = .seconds(10), openFiles: UInt64 = 65_536,
    landlock: LandlockSupport? = nil
  ) {
    self.allowedMounts = allowedMounts
    self.workspacePath = workspacePath
    self.tmpSize = tmpSize
    self.runAs = runAs
    self.stagingDirectory = stagingDirectory
    self.timeoutGrace = timeoutGrace
    self.openFiles = openFiles
    self.landlock = landlock
  }

  /// The user inside the namespace that joblet-init becomes. Not the payload's: with the same IDs the payload could signal it,
  /// or set its resource limits so that the kernel kills it.
  static let initID: UInt32 = 65_535
}

/// A user and group inside a job's user namespace, and the names its `/etc/passwd` gives them.
public struct RunAs: Sendable, Equatable {
  public var uid: UInt32
  public var gid: UInt32
  public var user: String
  public var group: String

  public static let nobody = RunAs(uid: 65_534, gid: 65_534, user: "nobody", group: "nogroup")

  init(uid: UInt32, gid: UInt32, user: String, group: String) {
    self.uid = uid
    self.gid = gid
    self.user = user
    self.group = group
  }

  /// Reads `process.default_user` and `process.default_group`: `root`, `nobody` (`nogroup`), or a number below 65535, which
  /// is an ID inside the job and has nothing to do with the host's users.
  public init(user: String, group: String) throws(SandboxError) {
    uid = try RunAs.id(user, key: "process.default_user", nobody: "nobody")
    gid = try RunAs.id(group, key: "process.default_group", nobody: "nogroup")
    self.user = uid == 0 ? "root" : uid == 65_534 ? "nobody" : "job"
    self.group = gid == 0 ? "root" : gid == 65_534 ? "nogroup" : "job"
  }

  private static func id(_ text: String, key: String, nobody: String) throws(SandboxError) -> UInt32 {
    if text == "root" { return 0 }
    if text == nobody { return 65_534 }
    guard let number = UInt32(text), number < SandboxSettings.initID else {
      throw SandboxError(
        field: key,
        message: "'\(text.prefix(64))' is not allowed; allowed is root, \(nobody), or a number from 0 to 65534")
    }
    return number
  }
}

/// Why no plan could be made: which setting or field, and what is allowed.
public struct SandboxError: Error, Hashable, Sendable, CustomStringConvertible {
  public var field: String
  public var message: String

  public init(field: String, message: String) {
    self.field = field
    self.message = message
  }

  public var description: String { "\(field): \(message)" }
}
