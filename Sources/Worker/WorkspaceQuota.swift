import Glibc
import LinuxKernel
import Synchronization

/// `filesystem.workspace.default_quota`: what every workspace may hold, by a project quota of the file system under
/// `filesystem.baseDir`.
///
/// Each workspace has a project ID of its own. Nothing here remembers which: the file system knows, for an ID that is in use
/// has a limit or an inode. So IDs of kept workspaces are safe over any restart, and nothing can go stale.
package final class WorkspaceQuota: Sendable {
  /// Where the project IDs come from. `/etc/projid` and other users of the file system should stay off them; one that is in
  /// use all the same is passed over.
  package static let firstID: UInt32 = 0x4A00_0000
  package static let idCount: UInt32 = 1 << 20

  /// Bytes of allocated blocks.
  package let bytes: UInt64
  package let inodes: UInt64
  private let base: FileDescriptor
  /// The next ID to look at, counted from the first: an ID rests as long as possible before it is used again. Claiming is
  /// done with the lock held, so that no two workspaces find the same ID unused.
  private let cursor = Mutex<UInt32>(0)

  /// - Parameters:
  ///   - path: a directory of the file system.
  ///   - bytes: the limit. Inodes get one for every 4 KiB of it, 1024 at least: what such a file system would have.
  init(path: String, bytes: UInt64) throws(Errno) {
    self.bytes = bytes
    inodes = max(bytes / 4096, 1024)
    base = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
  }

  /// Gives `directory`, which is empty, a project with this limit. What is made in it is counted there from the start.
  ///
  /// The limit comes before the first inode: the other way round a directory could be without one, and after a crash between
  /// the two it would stay so.
  func apply(to directory: borrowing FileDescriptor) throws(Errno) {
    let id = try claim()
    do {
      try ProjectQuota.assign(id, to: directory)
    } catch {
      try ProjectQuota.limit(id, bytes: 0, inodes: 0, on: base)
      throw error
    }
  }

  private func claim() throws(Errno) -> UInt32 {
    try cursor.withLock { (cursor) throws(Errno) -> UInt32 in
      for _ in 0..<WorkspaceQuota.idCount {
        let id = WorkspaceQuota.firstID + cursor
        cursor = (cursor + 1) % WorkspaceQuota.idCount
        if let account = try ProjectQuota.account(of: id, on: base), !account.isUnused { continue }
        try ProjectQuota.limit(id, bytes: bytes, inodes: inodes, on: base)
        return id
      }
      throw Errno(EDQUOT, "quotactl_fd", "all \(WorkspaceQuota.idCount) project IDs of workspaces are in use")
    }
  }

  /// What a directory's project may hold and holds; nil if it has none of ours.
  func account(of directory: borrowing FileDescriptor) throws(Errno) -> ProjectQuota.Account? {
    guard let id = try WorkspaceQuota.id(of: directory) else { return nil }
    return try ProjectQuota.account(of: id, on: base)
  }

  /// Takes limits off projects that have no inode: a crash between limit and directory leaves such a one.
  func sweep() throws(Errno) {
    var id = WorkspaceQuota.firstID
    while let next = try ProjectQuota.account(from: id, on: base), WorkspaceQuota.isOurs(next.id) {
      if next.account.usedInodes == 0, !next.account.isUnused {
        try ProjectQuota.limit(next.id, bytes: 0, inodes: 0, on: base)
      }
      id = next.id + 1
    }
  }

  /// Takes the limit off a workspace that is to be removed. Its project is unused when its last inode is gone.
  ///
  /// Before the removal and not after it: removing a tree moves directories up, which may take a block where a full quota
  /// gives none; and a crash between the two leaves a directory, which the next start removes, and no limit without one.
  static func lift(_ directory: borrowing FileDescriptor) throws(Errno) {
    guard let id = try id(of: directory) else { return }
    do {
      try ProjectQuota.limit(id, bytes: 0, inodes: 0, on: directory)
    } catch let error where error.code == ESRCH || error.code == ENOSYS {
      // The file system is mounted without quotas by now, so there is no limit to take off.
    }
  }

  private static func id(of directory: borrowing FileDescriptor) throws(Errno) -> UInt32? {
    guard let project = try ProjectQuota.project(of: directory), isOurs(project.id) else { return nil }
    return project.id
  }

  private static func isOurs(_ id: UInt32) -> Bool { id >= firstID && id - firstID < idCount }
}
