import CLinux

/// A user namespace with its maps written, ready for a job to enter. It lives as long as the descriptor.
public struct UserNamespace: ~Copyable, Sendable {
  public let descriptor: FileDescriptor
  /// The host's ID that is 0 inside, for users and groups.
  public let firstID: UInt32
  /// How many IDs follow.
  public let count: UInt32

  /// Makes one: IDs 0 to `count`-1 inside are `firstID` on outside. Takes about 0.3 ms, so keep some in stock.
  ///
  /// Its owner is `firstID`, so that what the kernel counts for its processes in the parent namespace too (inotify instances,
  /// queued signals and timers, message queues: user_namespaces(7)) is counted on that user and not on the caller.
  ///
  /// Blocks the calling thread for that long; any thread will do. Needs CAP_SETUID, CAP_SETGID, CAP_SETPCAP and
  /// CAP_SYS_PTRACE. The calling process becomes non-dumpable (prctl(2), PR_SET_DUMPABLE).
  public static func make(firstID: UInt32, count: UInt32 = 65_536) throws(Errno) -> UserNamespace {
    let raw = try Kernel.check(
      "unshare CLONE_NEWUSER", "\(firstID):\(count)", cl_make_user_namespace(firstID, count))
    return UserNamespace(descriptor: FileDescriptor(owning: raw), firstID: firstID, count: count)
  }
}
