import FoundationEssentials
import Glibc
import JobletConfig
import LinuxKernel

extension HostFacts {
  /// Looks at this host. Reads files of bounded size and asks the kernel; changes nothing.
  init(_ configuration: Configuration, paths: ExecPaths) {
    self.init()
    kernel = KernelFeatures.release()
    lookAtCgroups(paths)
    hasPressure = access("/proc/pressure/cpu", R_OK) == 0
    hasSystemd = access("/run/systemd/system", F_OK) == 0
    lookAtSettings()
    notification = HostFacts.probe { () throws(Errno) in try KernelFeatures.checkSeccompNotification() }
    cloneIntoCgroup = HostFacts.probe { () throws(Errno) in try KernelFeatures.checkCloneIntoCgroup() }
    landlock = Landlock.abi().mapError { LandlockError(name: $0.name) }
    lookAtNamespaces(configuration)
    do {
      quota = .success(try WorkspaceReport(configuration).state)
    } catch {
      quota = .failure(QuotaError(description: "\(error)"))
    }
    lookAtState()
    takenIDs = HostFacts.subordinate("/etc/subuid") + HostFacts.subordinate("/etc/subgid") + HostFacts.accounts()
    // A heading, and a line for each.
    hasSwap = HostFacts.text("/proc/swaps").split(separator: "\n").count > 1
    initProgram =
      access(paths.initProgram, X_OK) == 0
      ? .works : .fails("\(paths.initProgram): \(Errno.text(of: errno))")
    hasGatewayUser = HostFacts.text("/etc/passwd").split(separator: "\n").contains { $0.hasPrefix("joblet-api:") }
  }

  private static func probe(_ body: () throws(Errno) -> Void) -> Probe {
    do {
      try body()
      return .works
    } catch {
      return .fails("\(error)")
    }
  }

  /// A file's text, at most 1 MiB of it; empty if it can't be read.
  private static func text(_ path: String) -> String {
    do {
      return String(decoding: try FileDescriptor.open(path, O_RDONLY).readAll(limit: 1 << 20), as: UTF8.self)
    } catch {
      return ""
    }
  }

  private mutating func lookAtCgroups(_ paths: ExecPaths) {
    let scope = paths.cgroupRoot ?? JobsScope.path
    cgroupPath = access(scope, F_OK) == 0 ? scope : "/sys/fs/cgroup"
    isUnified = HostFacts.isFileSystem(cgroupPath, 0x6367_7270)  // CGROUP2_SUPER_MAGIC
    guard isUnified else { return }
    let names = HostFacts.text("\(cgroupPath)/cgroup.controllers")
    controllers = names.split { $0 == " " || $0 == "\n" }.map(String.init)
    if cgroupPath == scope {
      cgroupFiles = HostFacts.names(in: scope)
    } else if let child = HostFacts.names(in: cgroupPath).sorted().first(where: {
      access("\(cgroupPath)/\($0)/cgroup.procs", F_OK) == 0
    }) {
      cgroupFiles = HostFacts.names(in: "\(cgroupPath)/\(child)")
    }
  }

  /// Empty if it can't be read.
  private static func names(in path: String) -> Set<String> {
    do { return Set(try Kernel.names(in: path)) } catch { return [] }
  }

  /// The settings that bound how many namespaces of a kind there may be.
  static let namespaceCounts = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].map {
    "user.max_\($0)_namespaces"
  }

  private mutating func lookAtSettings() {
    for name in HostFacts.namespaceCounts + [
      "kernel.pid_max", "kernel.core_pattern", "kernel.apparmor_restrict_unprivileged_userns", "fs.suid_dumpable",
      "fs.protected_symlinks", "fs.protected_hardlinks",
    ] {
      let path = "/proc/sys/\(String(name.map { $0 == "." ? "/" : $0 }))"
      guard access(path, R_OK) == 0 else { continue }
      settings[name] = HostFacts.text(path).split(separator: "\n").first.map(String.init) ?? ""
    }
  }

  private mutating func lookAtNamespaces(_ configuration: Configuration) {
    guard geteuid() == 0 else {
      userNamespace = .notTried("only root can make one for other IDs; run this as root")
      idMapping = .notTried("only root can make one; run this as root")
      return
    }
    do {
      let namespace = try UserNamespace.make(firstID: configuration.isolation.idPool.first)
      userNamespace = .works
      guard access(configuration.filesystem.baseDir, F_OK) == 0 else {
        idMapping = .notTried("there is no \(configuration.filesystem.baseDir) yet")
        return
      }
      try KernelFeatures.checkIDMappedMount(of: configuration.filesystem.baseDir, namespace)
      idMapping = .works
    } catch {
      if userNamespace == .works {
        idMapping = .fails("\(error)")
      } else {
        userNamespace = .fails("\(error)")
        idMapping = .notTried("it takes a user namespace")
      }
    }
  }

  private mutating func lookAtState() {
    isStateOnTmpfs = HostFacts.isFileSystem("/run", 0x0102_1994)  // TMPFS_MAGIC
    var status = statvfs()
    guard statvfs("/run", &status) == 0 else { return }
    stateBytesFree = Int64(clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).0)
  }

  private static func isFileSystem(_ path: String, _ type: Int64) -> Bool {
    do {
      return try KernelFeatures.fileSystemType(of: path) == type
    } catch {
      return false
    }
  }

  /// subuid(5): `name:first:count` a line.
  package static func subordinate(_ path: String) -> [TakenIDs] { subordinate(text(path), file: path) }

  package static func subordinate(_ text: String, file: String) -> [TakenIDs] {
    text.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: ":", omittingEmptySubsequences: false)
      // Larger numbers are no IDs, and their sum could overflow.
      guard parts.count == 3, let first = UInt32(parts[1]), let count = UInt32(parts[2]) else { return nil }
      return TakenIDs(file: file, name: String(parts[0]), first: UInt64(first), count: UInt64(count))
    }
  }

  /// passwd(5) and group(5): accounts with their own ID.
  private static func accounts() -> [TakenIDs] {
    ["/etc/passwd", "/etc/group"].flatMap { file in
      text(file).split(separator: "\n").compactMap { line -> TakenIDs? in
        let parts = line.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count > 3, let id = UInt32(parts[2]) else { return nil }
        return TakenIDs(file: file, name: String(parts[0]), first: UInt64(id), count: 1)
      }
    }
  }
}
