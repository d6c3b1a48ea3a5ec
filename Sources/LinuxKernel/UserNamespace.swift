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
  /// Blocks the calling thread for that long; any thread will do. Needs CAP_SETUID and CAP_SETGID.
  public static func make(firstID: UInt32, count: UInt32 = 65_536) throws(Errno) -> UserNamespace {
    let raw = try Kernel.check(
      "clone3 CLONE_NEWUSER", "\(firstID):\(count)", cl_make_user_namespace(firstID, count))
    return UserNamespace(descriptor: FileDescriptor(owning: raw), firstID: firstID, count: count)
  }
}
