import Glibc
import JobletConfig
import JobletModel
import LinuxKernel
import Synchronization

/// `filesystem.baseDir`: `<id>/work` of every job. `<id>` is root's alone (0700), for a job may leave set-user-ID files in
/// its `work`, which nobody on the host must reach. Quota and project hang on `<id>`, so they go along when it is renamed.
///
/// A workspace that is kept after its job has its due time as the modification time of `<id>`, which no job can touch; so a
/// restart forgets nothing, and what a crash left behind is due at once.
package struct Workspaces: Sendable {
  let path: String
  /// nil: workspaces have no limit.
  let quota: WorkspaceQuota?
  private let underRemoval = UnderRemoval()

  /// The names that somebody removes at the moment; every copy of these workspaces has the same.
  private final class UnderRemoval: Sendable {
    let names = Mutex<Set<String>>([])
  }

  package init(path: String, quota: WorkspaceQuota? = nil) {
    self.path = path
    self.quota = quota
  }

  /// The node's, as configured.
  /// - Throws: ``SetupError`` if `default_quota` can't be held on the file system of `baseDir`, which is there.
  init(_ configuration: Configuration.Filesystem) throws {
    path = configuration.baseDir
    guard configuration.workspace.defaultQuota > 0 else {
      quota = nil
      return
    }
    try Workspaces.checkFileSystem(path)
    let quota = try WorkspaceQuota(path: path, bytes: UInt64(configuration.workspace.defaultQuota))
    self.quota = quota
    try quota.sweep()
    try proveQuota(quota)
  }

  /// The directory that becomes `/work`.
  func inner(_ sandbox: JobID) -> String { "\(path)/\(sandbox)/work" }

  /// Makes the workspace `name`, with its quota.
  package func make(_ name: String, uid: uid_t, gid: gid_t) throws(Errno) {
    let outer = "\(path)/\(name)"
    let inner = "\(outer)/work"
    try Kernel.call("mkdir", outer) { mkdir(outer, 0o700) }
    // Before there is anything in it: what is in a directory already is not counted.
    if let quota { try quota.apply(to: try Workspaces.open(outer)) }
    try Kernel.call("mkdir", inner) { mkdir(inner, 0o755) }
    try Kernel.call("chown", inner) { chown(inner, uid, gid) }
  }

  package func make(_ job: JobID, uid: uid_t, gid: gid_t) throws(Errno) { try make("\(job)", uid: uid, gid: gid) }

  /// Gives a workspace that was made ahead to a job. Its quota and what is mounted from it go along.
  package func rename(_ name: String, to job: JobID) throws(Errno) {
    try Kernel.call("rename", "\(path)/\(name)") { Glibc.rename("\(path)/\(name)", "\(path)/\(job)") }
  }

  /// Removes a workspace, or marks it to go after `keep`. An empty one goes at once: there is nothing to look at.
  /// - Throws: EBUSY, among others, if another removal of it is under way.
  package func remove(_ name: String, after keep: Duration) throws(Errno) {
    guard try removeUnlessGoing(name, after: keep) else {
      throw Errno(EBUSY, "remove", "\(path)/\(name): another removal of it is under way")
    }
  }

  /// As `remove`, but a removal that is under way is as good.
  /// - Returns: false if there is one. It tells of its own failure.
  package func removeUnlessGoing(_ name: String, after keep: Duration) throws(Errno) -> Bool {
    // A teardown, an owner's DELETE, a second one and the sweep may all mean the same workspace. One remover at a time: they
    // would move directories away under each other's feet.
    guard underRemoval.names.withLock({ $0.insert(name).inserted }) else { return false }
    defer { underRemoval.names.withLock { _ = $0.remove(name) } }
    try removeAlone(name, after: keep)
    return true
  }

  private func removeAlone(_ name: String, after keep: Duration) throws(Errno) {
    let outer = "\(path)/\(name)"
    if keep > .zero, rmdir("\(outer)/work") != 0, errno == ENOTEMPTY {
      let due = time(nil) + Int(keep.components.seconds)
      let times = [timespec(tv_sec: due, tv_nsec: 0), timespec(tv_sec: due, tv_nsec: 0)]
      try Kernel.call("utimensat", outer) { utimensat(AT_FDCWD, outer, times, AT_SYMLINK_NOFOLLOW) }
      return
    }
    do {
      try WorkspaceQuota.lift(try Workspaces.open(outer))
    } catch let error where error.code == ENOENT {
      return
    }
    try TreeRemover.remove(name, in: path)
  }

  package func remove(_ job: JobID, after keep: Duration) throws(Errno) { try remove("\(job)", after: keep) }

  /// The workspaces that were due before `moment` (Unix seconds).
  package func due(before moment: Int) throws(Errno) -> [JobID] {
    try JobStateDirectory.jobs(root: path).filter { job in
      var info = stat()
      return lstat("\(path)/\(job)", &info) == 0 && info.st_mtim.tv_sec < moment
    }
  }

  private static func open(_ path: String) throws(Errno) -> FileDescriptor {
    try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
  }
}

extension Workspaces {
  /// A quota that is not held would be a promise broken in silence, so it stops the start.
  private static func checkFileSystem(_ path: String) throws {
    let why: String
    switch try ProjectQuota.state(of: try open(path)) {
    case .enforced: return
    case .counted: why = "counts project quotas but enforces none (the mount option pqnoenforce)"
    case .missing: why = "has no project quotas, or is mounted without (the option prjquota)"
    }
    throw SetupError(
      description:
        "filesystem.workspace.default_quota: the file system of \(path) \(why), so nothing would limit what a job writes to its workspace. Run contrib/install, which puts an image with quotas there; or mount xfs, or ext4 made with -O project,quota, at \(path) with the option prjquota; or set default_quota to 0 for workspaces without a limit"
    )
  }

  /// Makes a workspace and looks whether it is counted and limited as jobs' ones have to be.
  private func proveQuota(_ quota: WorkspaceQuota) throws {
    let name = ".joblet-quota-check"
    try remove(name, after: .zero)
    try make(name, uid: 0, gid: 0)
    let account = try quota.account(of: try Workspaces.open("\(path)/\(name)/work"))
    try remove(name, after: .zero)
    guard let account, account.limitBytes == quota.bytes / 1024 * 1024, account.limitInodes == quota.inodes,
      account.usedInodes == 2
    else {
      let found = account.map { "\($0)" } ?? "no project"
      throw SetupError(
        description:
          "filesystem.workspace.default_quota: a directory made in \(path) is not limited as asked (found: \(found)). Set default_quota to 0, or use another file system"
      )
    }
  }
}
