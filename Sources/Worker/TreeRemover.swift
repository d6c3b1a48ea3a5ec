import Glibc
import LinuxKernel

/// Removes a directory tree that a hostile job made.
///
/// It never follows a symbolic link (every step is relative to an open directory, `O_NOFOLLOW`), and depth costs nothing: a
/// subdirectory that is not empty first moves up to the top, so two descriptors are enough for any tree, and no path is ever
/// built. Where moving is refused (the disk is full, the names are encrypted and their key is gone) it walks down and up
/// instead, which takes longer and nothing else. Nothing should write to the tree meanwhile: the job's processes are gone, and
/// ``Workspaces`` lets one remover in at a time. If something does all the same, the removal fails; what it empties are
/// directories that it came to from the tree's top by their names, and no others.
package enum TreeRemover {
  /// Removes `name` in the directory `parent`. What is not there is fine.
  /// - Parameters:
  ///   - moving: false: as if every move was refused; tests ask for it.
  ///   - levels: how much of the way down is remembered where nothing can be moved; 2 or more.
  ///   - entered: told of each way down there, with its depth; tests interfere then.
  /// - Throws: ESTALE or ENOENT, among others, if somebody else changes the tree. It may be tried again.
  package static func remove(
    _ name: String, in parent: String, moving: Bool = true, remembering levels: Int = 1 << 16,
    entered: (_ depth: Int) -> Void = { _ in }
  ) throws(Errno) {
    let base = try FileDescriptor.open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    let name = Array(name.utf8CString)
    let top: FileDescriptor
    do {
      top = try open(name, in: base)
    } catch let error where error.code == ENOENT {
      return
    }
    var moved = 0
    var progress = moving ? Progress.some : .stuck
    while case .some = progress { progress = try emptyOnce(top, moveTo: top, isTop: true, &moved) }
    if case .stuck = progress { try emptyInPlace(top, remembering: levels, entered) }
    try unlinkDirectory(name, in: base)
  }

  /// A file's name as the kernel has it: a job's need not be UTF-8.
  private typealias Name = [CChar]

  /// What a look at a directory brought: entries were removed, there were none, or one can neither go nor move.
  private enum Progress { case some, none, stuck }

  /// Removes up to a batch of entries of `directory`.
  private static func emptyOnce(
    _ directory: borrowing FileDescriptor, moveTo top: borrowing FileDescriptor, isTop: Bool, _ moved: inout Int
  ) throws(Errno) -> Progress {
    let names = try list(directory, atMost: 1024)
    let raw = directory.raw
    for name in names {
      if unlinkat(raw, name, 0) == 0 { continue }
      guard errno == EISDIR || errno == EPERM else { throw Errno(errno, "unlinkat") }
      if unlinkat(raw, name, AT_REMOVEDIR) == 0 { continue }
      guard errno == ENOTEMPTY || errno == EEXIST else { throw Errno(errno, "unlinkat") }
      if isTop {
        let child = try open(name, in: directory)
        var progress = Progress.some
        while case .some = progress { progress = try emptyOnce(child, moveTo: top, isTop: false, &moved) }
        if case .stuck = progress { return .stuck }
        try unlinkDirectory(name, in: directory)
      } else if try !move(name, from: directory, to: top, &moved) {
        return .stuck
      }
    }
    return names.isEmpty ? .none : .some
  }

  /// Which directory it is. Both numbers: a job may make subvolumes of btrfs, whose roots all have the same inode number.
  private struct Identity: Equatable {
    let device: dev_t
    let inode: ino_t

    init(_ directory: borrowing FileDescriptor) throws(Errno) {
      var info = stat()
      let raw = directory.raw
      try Kernel.call("fstat") { fstat(raw, &info) }
      device = info.st_dev
      inode = info.st_ino
    }
  }

  /// Empties `top` going down into the first directory that is not empty, and up by `..` when it is: nothing is moved, and
  /// memory is bounded. `..` of a directory that somebody moved away is anything on the host, so it must be the directory that
  /// the way down came through: without this check a second remover's move makes this one empty the tree's surroundings.
  private static func emptyInPlace(
    _ top: borrowing FileDescriptor, remembering levels: Int, _ entered: (_ depth: Int) -> Void
  ) throws(Errno) {
    var current = try top.duplicate()
    /// The way down to `current`, without it; the first `forgotten` of its levels are not in `way`.
    var way: [Identity] = []
    var forgotten = 0
    while true {
      // Few at a time: after each way down and up the rest of a list is read anew.
      let names = try list(current, atMost: 16)
      if names.isEmpty {
        if let above = way.popLast() {
          let dot = CChar(bitPattern: UInt8(ascii: "."))
          let parent = try open([dot, dot, 0], in: current)
          guard try Identity(parent) == above else {
            throw Errno(ESTALE, "openat", "..: somebody moved a directory that is being removed")
          }
          current = parent
        } else if forgotten > 0 {
          // What is above is not known any more: down again from the top, which is.
          forgotten = 0
          current = try top.duplicate()
        } else {
          return
        }
        continue
      }
      guard let full = try unlinkAll(names, in: current) else { continue }
      if way.count >= levels {
        way.removeFirst(levels / 2)
        forgotten += levels / 2
      }
      way.append(try Identity(current))
      let child = try open(full, in: current)
      current = child
      entered(forgotten + way.count)
    }
  }

  /// - Returns: a directory among `names` that is not empty.
  private static func unlinkAll(_ names: [Name], in directory: borrowing FileDescriptor) throws(Errno) -> Name? {
    let raw = directory.raw
    var full: Name?
    for name in names where unlinkat(raw, name, 0) != 0 {
      guard errno == EISDIR || errno == EPERM else { throw Errno(errno, "unlinkat") }
      if unlinkat(raw, name, AT_REMOVEDIR) == 0 { continue }
      guard errno == ENOTEMPTY || errno == EEXIST else { throw Errno(errno, "unlinkat") }
      full = name
    }
    return full
  }

  /// - Returns: false if it can't be moved: ENOSPC, EDQUOT: the top has no room for one more name. ENOKEY: fscrypt. EXDEV:
  ///   another project. EMLINK: the top has all the subdirectories it may have.
  /// - Throws: anything else. ENOENT above all: somebody else removes or moves what is in the tree, and the other way is no
  ///   answer to that.
  private static func move(
    _ name: Name, from directory: borrowing FileDescriptor, to top: borrowing FileDescriptor, _ moved: inout Int
  ) throws(Errno) -> Bool {
    while true {
      moved += 1
      if renameat(directory.raw, name, top.raw, ".joblet-\(moved)") == 0 { return true }
      switch errno {
      case ENOTEMPTY, EEXIST, ENOTDIR: continue  // the job may have thought of the same name
      case ENOSPC, EDQUOT, ENOKEY, EXDEV, EMLINK: return false
      case let code: throw Errno(code, "renameat")
      }
    }
  }

  /// Opens a directory by one name, never through a symbolic link.
  private static func open(_ name: Name, in directory: borrowing FileDescriptor) throws(Errno) -> FileDescriptor {
    let raw = directory.raw
    return FileDescriptor(
      owning: try Kernel.call("openat") { openat(raw, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) })
  }

  private static func unlinkDirectory(_ name: Name, in directory: borrowing FileDescriptor) throws(Errno) {
    let raw = directory.raw
    try Kernel.call("unlinkat") { unlinkat(raw, name, AT_REMOVEDIR) }
  }

  private static func list(_ directory: borrowing FileDescriptor, atMost limit: Int) throws(Errno) -> [Name] {
    // A fresh descriptor, for readdir's position is the descriptor's.
    let raw = try open([CChar(bitPattern: UInt8(ascii: ".")), 0], in: directory).release()
    guard let handle = fdopendir(raw) else {
      let code = errno
      close(raw)
      throw Errno(code, "fdopendir")
    }
    defer { closedir(handle) }
    var names: [Name] = []
    while names.count < limit, let entry = readdir(handle) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        bytes.prefix { $0 != 0 }.map { CChar(bitPattern: $0) } + [0]
      }
      let dot = CChar(bitPattern: UInt8(ascii: "."))
      if name != [dot, 0], name != [dot, dot, 0] { names.append(name) }
    }
    return names
  }
}
