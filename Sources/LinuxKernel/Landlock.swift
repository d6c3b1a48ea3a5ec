import CLinux

/// The kernel's Landlock (landlock(7)).
public enum Landlock {
  /// The version of its interface, 1 or more.
  /// - Returns: `ENOSYS` where the kernel was built without it, `EOPNOTSUPP` where it was turned off at boot.
  public static func abi() -> Result<Int, Errno> {
    let result = cl_landlock_abi()
    return result < 0 ? .failure(Errno(-result, "landlock_create_ruleset")) : .success(Int(result))
  }
}
