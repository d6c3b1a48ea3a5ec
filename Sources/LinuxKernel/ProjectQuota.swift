import CLinux
import Glibc

/// Quotas of a file system by project: a number that every inode carries, that a directory hands down to what is made in it,
/// and that a limit on blocks and inodes hangs on (quotactl(2); Documentation/filesystems/ext4, "project"; xfs(5), "prjquota").
///
/// Only a process of the initial user namespace changes an inode's project or its inheritance (fs/file_attr.c,
/// `fileattr_set_prepare`), and only CAP_SYS_ADMIN there changes limits: what owns the files inside a user namespace can't.
public enum ProjectQuota {
  /// What a file system does with project quotas.
  public enum State: Sendable, Equatable {
    /// It has none: it knows none, is mounted without, or the kernel was built without. The kernel does not say which.
    case missing
    /// It counts and lets everything pass.
    case counted
    case enforced
  }

  /// Limits and use of one project. Bytes are those of allocated blocks, not of a file's length.
  public struct Account: Sendable, Equatable {
    /// 0: no limit. Kept by the kernel in whole KiB.
    public var limitBytes: UInt64
    /// 0: no limit. An inode is a file, a directory, a link, a device, whatever has a place of its own.
    public var limitInodes: UInt64
    public var usedBytes: UInt64
    public var usedInodes: UInt64

    /// Nothing is counted for it and nothing limits it: as good as never used.
    public var isUnused: Bool { limitBytes == 0 && limitInodes == 0 && usedBytes == 0 && usedInodes == 0 }

    fileprivate init(_ quota: cl_quota) {
      limitBytes = quota.limit_bytes
      limitInodes = quota.limit_inodes
      usedBytes = quota.used_bytes
      usedInodes = quota.used_inodes
    }
  }

  /// What the file system of `file` does. Needs Linux 5.14 for quotactl_fd(2); an older one throws ENOSYS as a file system
  /// without quotas does, and is `missing` too.
  public static func state(of file: borrowing FileDescriptor) throws(Errno) -> State {
    let value = cl_quota_state(file.raw)
    switch value {
    case CInt(bitPattern: CL_QUOTA_ENFORCED.rawValue): return .enforced
    case CInt(bitPattern: CL_QUOTA_COUNTED.rawValue): return .counted
    case CInt(bitPattern: CL_QUOTA_OFF.rawValue): return .missing
    // ENODEV: no block device behind it. ESRCH and EINVAL: quotas of other kinds only.
    case -ENOSYS, -ENODEV, -ESRCH, -EINVAL, -EOPNOTSUPP: return .missing
    default: throw Errno(-value, "quotactl_fd Q_XGETQSTATV")
    }
  }

  /// The project `file` is counted for and whether a directory hands it down; nil where the file system knows no projects.
  public static func project(of file: borrowing FileDescriptor) throws(Errno) -> (id: UInt32, inherited: Bool)? {
    var id: UInt32 = 0
    var inherits: CInt = 0
    let value = cl_project_get(file.raw, &id, &inherits)
    switch value {
    case 0: return (id, inherits != 0)
    case -ENOTTY, -EOPNOTSUPP, -EINVAL, -ENOSYS: return nil
    default: throw Errno(-value, "ioctl FS_IOC_FSGETXATTR")
    }
  }

  /// Counts `directory`, and whatever is made in it from now on, for project `id`. It must be empty: what is in it stays
  /// counted where it was.
  public static func assign(_ id: UInt32, to directory: borrowing FileDescriptor) throws(Errno) {
    try Kernel.check("ioctl FS_IOC_FSSETXATTR", "project \(id)", cl_project_set(directory.raw, id))
  }

  /// A project's account on the file system of `file`; nil where the file system has none, for it was never used.
  public static func account(of id: UInt32, on file: borrowing FileDescriptor) throws(Errno) -> Account? {
    var quota = cl_quota()
    let value = cl_quota_get(file.raw, id, &quota)
    if value == -ENOENT || value == -ESRCH { return nil }
    try Kernel.check("quotactl_fd Q_GETQUOTA", "project \(id)", value)
    return Account(quota)
  }

  /// The first account from project `id` on; nil: there is none.
  public static func account(
    from id: UInt32, on file: borrowing FileDescriptor
  ) throws(Errno) -> (id: UInt32, account: Account)? {
    var next = id
    var quota = cl_quota()
    let value = cl_quota_next(file.raw, &next, &quota)
    if value == -ENOENT || value == -ESRCH { return nil }
    try Kernel.check("quotactl_fd Q_GETNEXTQUOTA", "project \(id)", value)
    return (next, Account(quota))
  }

  /// Limits a project from now on: past them a write fails with EDQUOT or ENOSPC. 0: no limit. Bytes are rounded down to KiB.
  /// Needs CAP_SYS_ADMIN in the initial user namespace.
  public static func limit(
    _ id: UInt32, bytes: UInt64, inodes: UInt64, on file: borrowing FileDescriptor
  ) throws(Errno) {
    try Kernel.check("quotactl_fd Q_SETQUOTA", "project \(id)", cl_quota_set(file.raw, id, bytes, inodes))
  }
}
