import Glibc
import LinuxKernel

/// Removes a directory tree that a hostile job made.
///
/// It never follows a symbolic link (every step is relative to an open directory, `O_NOFOLLOW`), and depth costs nothing: a
/// subdirectory that is not empty first moves up to the top, so two descriptors are enough for any tree, and no path is ever
/// built. Nothing may write to the tree meanwhile: the job's processes are gone.
package enum TreeRemover {
  /// Removes `name` in the directory `parent`. What is not there is fine.
  package static func remove(_ name: String, in parent: String) throws(Errno) {
    let base = try FileDescriptor.open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    let name = Array(name.utf8CString)
    let top: FileDescriptor
    do {
      top = try open(name, in: base)
    } catch let error where error.code == ENOENT {
      return
    }
    var moved = 0
    while try emptyOnce(top, moveTo: top, isTop: true, &moved) {}
    try unlinkDirectory(name, in: base)
  }

  /// A file's name as the kernel has it: a job's need not be UTF-8.
  private typealias Name = [CChar]

  /// Removes up to a batch of entries of `directory`.
  /// - Returns: false when it is empty.
  private static func emptyOnce(
    _ directory: borrowing FileDescriptor, moveTo top: borrowing FileDescriptor, isTop: Bool, _ moved: inout Int
  ) throws(Errno) -> Bool {
    let names = try list(directory, atMost: 1024)
    let raw = directory.raw
    for name in names {
      if unlinkat(raw, name, 0) == 0 { continue }
      guard errno == EISDIR || errno == EPERM else { throw Errno(errno, "unlinkat") }
      if unlinkat(raw, name, AT_REMOVEDIR) == 0 { continue }
      guard errno == ENOTEMPTY || errno == EEXIST else { throw Errno(errno, "unlinkat") }
      if isTop {
        let child = try open(name, in: directory)
        while try emptyOnce(child, moveTo: top, isTop: false, &moved) {}
        try unlinkDirectory(name, in: directory)
      } else {
        try move(name, from: directory, to: top, &moved)
      }
    }
    return !names.isEmpty
  }

  private static func move(
    _ name: Name, from directory: borrowing FileDescriptor, to top: borrowing FileDescriptor, _ moved: inout Int
  ) throws(Errno) {
    while true {
      moved += 1
      if renameat(directory.raw, name, top.raw, ".joblet-\(moved)") == 0 { return }
      // The job may have thought of the same name.
      guard errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR else { throw Errno(errno, "renameat") }
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
