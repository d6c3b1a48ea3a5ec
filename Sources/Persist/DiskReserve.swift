import Glibc
import LocalStore
import Synchronization

/// Space that is kept for a full disk: a preallocated file beside the write-ahead log, emptied when sealing or deleting
/// finds no room, and filled again when there is some. Both make more room than they take: members are a fraction of the
/// log they free.
///
/// It helps where log and members lie on one file system, as they do by default.
final class DiskReserve: Sendable {
  private enum State { case full, released, none }
  private let path: String
  private let size: Int
  private let faults: DiskFaults?
  private let state = Mutex(State.none)

  /// - Parameter size: in bytes; 0 keeps none.
  init(_ path: String, size: Int, faults: DiskFaults?) {
    self.path = path
    self.size = size
    self.faults = faults
  }

  /// Takes the space, where the disk can spare as much again. True if it is there now.
  @discardableResult
  func fill() throws(PersistError) -> Bool {
    try state.withLock { state throws(PersistError) in
      if state == .full { return true }
      guard size > 0 else { return false }
      let file = try LogFileHandle(path, flags: O_RDWR | O_CREAT, mode: 0o640, faults: faults)
      var disk = statvfs()
      guard fstatvfs(file.raw, &disk) == 0 else { throw .system(call: "statvfs", path: path, errno: errno) }
      var held = stat()
      guard fstat(file.raw, &held) == 0 else { throw .system(call: "fstat", path: path, errno: errno) }
      if Int(held.st_blocks) * 512 < size {
        // A reserve that takes the last of the disk would be given back at once.
        guard Int(disk.f_bavail) * Int(disk.f_frsize) > 2 * size else { return false }
        try file.preallocate(size)
      }
      state = .full
      return true
    }
  }

  /// Gives the space back. True if there was any, so that it is worth trying again what had no room.
  func release() -> Bool {
    state.withLock { state in
      guard state == .full, truncate(path, 0) == 0 else { return false }
      state = .released
      return true
    }
  }
}
