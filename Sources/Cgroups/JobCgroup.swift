import Glibc
import LinuxKernel

/// The directory under which every job has its cgroup, and what it offers. Made once when exec starts.
public struct CgroupRoot: Sendable {
  public let directory: CgroupDirectory
  /// The controllers that jobs get here.
  public let controllers: Set<Controller>

  /// Takes over a cgroup directory (in production the delegated `joblet-jobs.scope`, whose own processes must sit in a leaf
  /// below it: cgroup v2 gives controllers only to children of a directory without processes).
  /// - Parameter wanted: the controllers to enable for jobs; those the kernel does not offer here are left out of
  ///   ``controllers``, and a limit that needs one is refused later. The caller decides whether a missing one stops the start.
  public init(path: String, enabling wanted: Set<Controller>) throws(CgroupError) {
    directory = CgroupDirectory(path: path)
    guard access("\(path)/cgroup.controllers", F_OK) == 0 else { throw .notCgroup2(path: path) }
    do {
      controllers = wanted.intersection(try directory.controllers())
      try directory.enableForChildren(controllers)
    } catch { throw .kernel(error) }
  }

  /// The names of the job directories that are there, for adoption after a restart.
  public func jobNames() throws(Errno) -> [String] {
    try Kernel.names(in: directory.path).filter {
      !$0.hasPrefix(".") && access("\(directory.path)/\($0)/pay", F_OK) == 0
    }
  }
}

/// A job's cgroup: `job/` with two leaves. Limits, OOM kills and stops act on `pay/`, where only the payload lives, so that they
/// never take PID 1 (in `init/`), and with it the output and the exit status, along.
public struct JobCgroup: Hashable, Sendable {
  public let directory: CgroupDirectory
  public var initLeaf: CgroupDirectory { directory.child("init") }
  public var payLeaf: CgroupDirectory { directory.child("pay") }

  /// Names the cgroup of a job; touches nothing.
  /// - Parameter name: its sandbox's: a cgroup can't be renamed, so it keeps the name it had before there was a job.
  public init(root: CgroupRoot, name: String) { directory = root.directory.child(name) }

  /// Makes the three directories, with the controllers and what every job has; ``apply(_:root:)`` sets the limits.
  /// Leaves nothing behind if it fails.
  public func create(root: CgroupRoot) throws(CgroupError) {
    do {
      try directory.create()
    } catch { throw .kernel(error) }
    do {
      try initLeaf.create()
      try payLeaf.create()
      if !root.controllers.isEmpty { try directory.enableForChildren(root.controllers) }
      try prepare(root: root)
    } catch {
      _ = try? removeOnce()  // what is reported is the first failure
      throw .kernel(error)
    }
  }

  /// Opens `pay/cgroup.kill` for writing: joblet-init keeps it to end what a job leaves behind.
  public func openPayKill() throws(Errno) -> FileDescriptor { try .open("\(payLeaf.path)/cgroup.kill", O_WRONLY) }

  /// Kills the payload and all it started; PID 1 stays and reports.
  public func killPayload() throws(Errno) {
    try payLeaf.kill()
    try liftIO()
  }

  /// Kills everything, PID 1 too: the last act before ``remove(timeout:)``.
  public func killAll() throws(Errno) {
    try directory.kill()
    try liftIO()
  }

  /// Removes the directories once. - Returns: false if a process still sits in one (`EBUSY`): try again shortly.
  public func removeOnce() throws(Errno) -> Bool {
    for group in [payLeaf, initLeaf, directory] where rmdir(group.path) != 0 {
      switch errno {
      case ENOENT: continue
      case EBUSY: return false
      default: throw Errno(errno, "rmdir", group.path)
      }
    }
    return true
  }

  /// Removes the directories, waiting for the last processes to go: a killed one is gone from its cgroup only when the
  /// kernel is done with it. Suspends the task between tries, blocks nothing.
  /// - Throws: `EBUSY` after `timeout`, or when the task is cancelled.
  public func remove(timeout: Duration) async throws(Errno) {
    let deadline = ContinuousClock.now + timeout
    var pause = Duration.milliseconds(1)
    while try !removeOnce() {
      guard ContinuousClock.now < deadline else { throw Errno(EBUSY, "rmdir", directory.path) }
      do { try await Task.sleep(for: pause) } catch { throw Errno(EBUSY, "rmdir", directory.path) }
      pause = min(pause * 2, .milliseconds(100))
    }
  }
}
