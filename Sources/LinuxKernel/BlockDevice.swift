import Glibc

/// A whole disk, as cgroup v2's `io.max` and `io.stat` name it: `8:0`.
public struct BlockDevice: Hashable, Sendable, CustomStringConvertible {
  public var major: UInt32
  public var minor: UInt32

  public init(major: UInt32, minor: UInt32) {
    self.major = major
    self.minor = minor
  }

  /// From a `dev_t` as stat(2) gives it: 12 bits of major and 20 of minor number, each in two parts (makedev(3)).
  package init(device: dev_t) {
    major = UInt32(truncatingIfNeeded: (device >> 8) & 0xFFF | (device >> 32) & ~0xFFF)
    minor = UInt32(truncatingIfNeeded: device & 0xFF | (device >> 12) & ~0xFF)
  }

  public var description: String { "\(major):\(minor)" }

  /// Why no limit on I/O can be held for what lies in a directory.
  public enum Failure: Error, CustomStringConvertible {
    /// The file system has no block device of its own (btrfs, overlay, tmpfs, a network): its number is made up.
    case anonymous(path: String)
    case unreadable(Errno)
    /// sysfs says something that is no device number.
    case strange(path: String, text: String)

    public var description: String {
      switch self {
      case .anonymous(let path):
        "the file system of \(path) is on no block device of its own (btrfs, overlay, tmpfs or a network), and the kernel limits I/O by device; put it on ext4 or xfs"
      case .unreadable(let error): "\(error)"
      case .strange(let path, let text): "\(path) says '\(text)', which is no device number"
      }
    }
  }

  /// The whole disk that has the file system of `path`: for a partition the disk it is on, for `io.max` takes no partition
  /// (Documentation/admin-guide/cgroup-v2.rst, "IO Interface Files"; block/blk-cgroup.c, blkg_conf_open_bdev).
  ///
  /// - Parameter sysfs: where sysfs is mounted; tests have one of their own.
  public static func behind(_ path: String, sysfs: String = "/sys") throws(Failure) -> BlockDevice {
    var info = stat()
    do { try Kernel.call("stat", path) { stat(path, &info) } } catch { throw .unreadable(error) }
    return try disk(of: BlockDevice(device: info.st_dev), path: path, sysfs: sysfs)
  }

  package static func disk(of device: BlockDevice, path: String, sysfs: String) throws(Failure) -> BlockDevice {
    // Linux gives file systems without a device numbers with the major 0.
    guard device.major != 0 else { throw .anonymous(path: path) }
    let entry = "\(sysfs)/dev/block/\(device)"
    // A partition's folder lies in its disk's; the entry is a link there, so `..` is the disk.
    guard access("\(entry)/partition", F_OK) == 0 else {
      let code = errno
      guard code == ENOENT else { throw .unreadable(Errno(code, "access", "\(entry)/partition")) }
      return device
    }
    return try read("\(entry)/../dev")
  }

  private static func read(_ path: String) throws(Failure) -> BlockDevice {
    let bytes: [UInt8]
    do { bytes = try FileDescriptor.open(path, O_RDONLY).readAll(limit: 64) } catch { throw .unreadable(error) }
    let text = String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt32($0) }
    guard parts.count == 2, let major = parts[0], let minor = parts[1] else {
      throw .strange(path: path, text: text)
    }
    return BlockDevice(major: major, minor: minor)
  }
}
