import CLinux
import Glibc

/// What the running kernel can do, asked without changing anything.
public enum KernelFeatures {
  /// `uname -r`.
  public static func release() -> String {
    var name = utsname()
    guard uname(&name) == 0 else { return "" }
    return withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  /// The kind of file system a path is on, as statfs(2) numbers it.
  public static func fileSystemType(of path: String) throws(Errno) -> Int64 {
    try Kernel.check("statfs", path, cl_file_system_type(path))
  }

  /// SECCOMP_RET_USER_NOTIF (seccomp_unotify(2)).
  /// - Throws: `EOPNOTSUPP` where it is unknown, `ENOSYS` or `EINVAL` without seccomp filters.
  public static func checkSeccompNotification() throws(Errno) {
    try Kernel.check("seccomp", "SECCOMP_RET_USER_NOTIF", cl_seccomp_action_available(0x7FC0_0000))
  }

  /// A process born in its cgroup: clone3 with CLONE_INTO_CGROUP (clone(2), Linux 5.7).
  public static func checkCloneIntoCgroup() throws(Errno) {
    try Kernel.check("clone3", "CLONE_INTO_CGROUP", cl_clone_into_cgroup_known())
  }

  /// An ID-mapped mount of a directory (mount_setattr(2)). Takes root.
  /// - Throws: `EINVAL` where its file system can't.
  public static func checkIDMappedMount(of path: String, _ namespace: borrowing UserNamespace) throws(Errno) {
    let raw = namespace.descriptor.raw
    try Kernel.check("mount_setattr", path, cl_idmapped_mount_possible(path, raw))
  }
}
