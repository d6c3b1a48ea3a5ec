import CLinux

/// A copy of one mount that nobody can reach but by its descriptor, for joblet-init to put in its place. Gone with the last
/// descriptor if nobody does.
public struct DetachedMount: ~Copyable, Sendable {
  public let descriptor: FileDescriptor

  /// A directory that belongs to a job: nosuid, nodev, and through the ID maps of `userNamespace`, so that ID 0 of the job is ID 0
  /// on the disk (mount_setattr(2), MOUNT_ATTR_IDMAP). What is mounted below the directory is left out.
  /// - Throws: `EINVAL` if the directory's file system takes no ID maps.
  public static func workspace(_ path: String, userNamespace: CInt) throws(Errno) -> DetachedMount {
    DetachedMount(
      descriptor: FileDescriptor(
        owning: try Kernel.check("mount_setattr", path, cl_detached_mount(path, userNamespace, 0))))
  }

  /// A directory that a job may read: read-only, nosuid, nodev, noexec.
  public static func readOnly(_ path: String) throws(Errno) -> DetachedMount {
    DetachedMount(
      descriptor: FileDescriptor(owning: try Kernel.check("mount_setattr", path, cl_detached_mount(path, -1, 1))))
  }
}
