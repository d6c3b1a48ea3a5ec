import Glibc
import JobletModel
import LogStore

extension StoreRoot {
  /// Moves away what stands where a stream's file should be and is none of the store's: something else than a file, a file
  /// without a member in it, or, in the place of the job's directory, something else than a directory. It keeps its
  /// contents under a name of its own beside.
  /// - Returns: the new path; nil if nothing stands in the way.
  func setAside(_ job: JobID, _ name: String) throws(LocalStoreError) -> String? {
    let parent: Descriptor
    do throws(LocalStoreError) {
      guard let directory = try directory(job) else { return nil }
      parent = directory
    } catch {
      guard error.isObstacle else { throw error }
      return try moveAway(job.description, in: descriptor)
    }
    do throws(LocalStoreError) {
      guard let file = try Descriptor.open(name, in: parent, flags: O_RDONLY) else { return nil }
      guard try file.fileLength() > 0, try !hasMember(file), try MemberScan.isForeign(file) else { return nil }
    } catch {
      guard error.isObstacle else { throw error }
    }
    return try moveAway(name, in: parent)
  }

  private func hasMember(_ file: Descriptor) throws(LocalStoreError) -> Bool {
    var walk = MemberWalk(file, length: try file.fileLength())
    while true {
      switch try walk.next() {
      case .member, .damage: return true
      case .searching: continue
      case .end: return false
      }
    }
  }

  private func moveAway(_ name: String, in directory: Descriptor) throws(LocalStoreError) -> String {
    for number in 1...1000 {
      let target = "\(name).aside-\(number)"
      // Nobody else makes such names, so nothing comes between the look and the rename.
      guard faccessat(directory.raw, target, F_OK, AT_SYMLINK_NOFOLLOW) != 0, errno == ENOENT else { continue }
      guard renameat(directory.raw, name, directory.raw, target) == 0 else {
        throw .system(call: "rename", path: "\(directory.path)/\(name)", errno: errno)
      }
      try directory.sync()
      return "\(directory.path)/\(target)"
    }
    throw .system(call: "rename", path: "\(directory.path)/\(name)", errno: EEXIST)
  }
}
