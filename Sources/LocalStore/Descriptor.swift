import CGNU
import Glibc

/// Why the local store could not do what it was asked.
public enum LocalStoreError: Error, Hashable, Sendable, CustomStringConvertible {
  case system(call: String, path: String, errno: Int32)
  case notAFile(path: String)
  /// A file that is none of the store's.
  case foreign(path: String)
  case compression(String)
  case outOfOrder(String)

  public var description: String {
    switch self {
    case .system(let call, let path, let code): "\(call) \(path): \(String(cString: strerror(code)))"
    case .notAFile(let path): "\(path) is not a regular file; it is left alone: remove it by hand"
    case .foreign(let path):
      "\(path) has no gzip member of a log in it and does not begin like one; it is left alone: move it away"
    case .compression(let why): "can't compress: \(why)"
    case .outOfOrder(let why): why
    }
  }

  /// True where something that is not the store's stands in a place of its own.
  public var isObstacle: Bool {
    switch self {
    case .notAFile, .foreign: true
    case .system(call: "open", path: _, errno: let code):
      code == ELOOP || code == ENOTDIR || code == EISDIR || code == ENXIO
    default: false
    }
  }

  /// True where the disk is full (or a quota is): waiting may help.
  public var isFullDisk: Bool {
    if case .system(_, _, let code) = self { code == ENOSPC || code == EDQUOT } else { false }
  }
}

/// An open file or directory, closed with its last reference. Every call is repeated when a signal interrupts it.
final class Descriptor: Sendable {
  let raw: CInt
  let path: String
  /// Failures that a test asks for; what is opened in a directory inherits its.
  let faults: DiskFaults?

  private init(_ raw: CInt, _ path: String, _ faults: DiskFaults?) {
    self.raw = raw
    self.path = path
    self.faults = faults
  }

  deinit { close(raw) }

  /// Opens `name` in `directory`, never through a symbolic link. Nil if it does not exist.
  static func open(
    _ name: String, in directory: Descriptor?, flags: CInt, mode: mode_t = 0o640, faults: DiskFaults? = nil
  ) throws(LocalStoreError) -> Descriptor? {
    let path = directory.map { "\($0.path)/\(name)" } ?? name
    let faults = directory?.faults ?? faults
    if let refusal = faults?.refusal(of: .open, path) { throw .system(call: "open", path: path, errno: refusal.errno) }
    while true {
      let raw = openat(directory?.raw ?? AT_FDCWD, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode)
      if raw >= 0 { return Descriptor(raw, path, faults) }
      if errno == EINTR { continue }
      if errno == ENOENT { return nil }
      throw .system(call: "open", path: path, errno: errno)
    }
  }

  func status() throws(LocalStoreError) -> stat {
    var result = stat()
    guard fstat(raw, &result) == 0 else { throw .system(call: "fstat", path: path, errno: errno) }
    return result
  }

  /// The length of a regular file.
  /// - Throws: ``LocalStoreError/notAFile(path:)`` for anything else.
  func fileLength() throws(LocalStoreError) -> UInt64 {
    let status = try status()
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
    return UInt64(status.st_size)
  }

  /// Reads as much as there is, up to the buffer's size.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(LocalStoreError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = pread(raw, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset) + off_t(done))
      if count == 0 { break }
      if count > 0 {
        done += count
      } else if errno != EINTR {
        throw .system(call: "read", path: path, errno: errno)
      }
    }
    return done
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(LocalStoreError) {
    if let refusal = faults?.refusal(of: .write, path) {
      _ = pwrite(raw, bytes.baseAddress, min(refusal.written, bytes.count), off_t(offset))
      throw .system(call: "write", path: path, errno: refusal.errno)
    }
    var done = 0
    while done < bytes.count {
      let count = pwrite(raw, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset) + off_t(done))
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw .system(call: "write", path: path, errno: count == 0 ? EIO : errno)
      }
    }
  }

  func truncate(to length: UInt64) throws(LocalStoreError) {
    while ftruncate(raw, off_t(length)) != 0 {
      guard errno == EINTR else { throw .system(call: "truncate", path: path, errno: errno) }
    }
  }

  /// fdatasync(2) of a file. One failure is final: the kernel may have dropped the pages.
  func syncData() throws(LocalStoreError) {
    if let refusal = faults?.refusal(of: .sync, path) {
      throw .system(call: "fdatasync", path: path, errno: refusal.errno)
    }
    guard fdatasync(raw) == 0 else { throw .system(call: "fdatasync", path: path, errno: errno) }
  }

  /// fsync(2): of a directory, so that its entries last.
  func sync() throws(LocalStoreError) {
    if let refusal = faults?.refusal(of: .sync, path) { throw .system(call: "fsync", path: path, errno: refusal.errno) }
    guard fsync(raw) == 0 else { throw .system(call: "fsync", path: path, errno: errno) }
  }

  /// syncfs(2): all of the file system that this is on. Errors since this was opened are told, once (Linux 5.8).
  func syncFileSystem() throws(LocalStoreError) {
    if let refusal = faults?.refusal(of: .sync, path) {
      throw .system(call: "syncfs", path: path, errno: refusal.errno)
    }
    guard syncfs(raw) == 0 else { throw .system(call: "syncfs", path: path, errno: errno) }
  }

  func isOnFileSystem(of other: Descriptor) throws(LocalStoreError) -> Bool {
    try status().st_dev == other.status().st_dev
  }
}

extension Descriptor {
  /// The entries of a directory but `.` and `..`. One that goes meanwhile may be missing.
  func entries() throws(LocalStoreError) -> [(name: String, isDirectory: Bool)] {
    // A descriptor of its own: a copy would share its place in the directory with others.
    guard let fresh = try Descriptor.open(".", in: self, flags: O_RDONLY | O_DIRECTORY) else { return [] }
    let copy = dup(fresh.raw)
    guard copy >= 0, let listing = fdopendir(copy) else { throw .system(call: "opendir", path: path, errno: errno) }
    defer { closedir(listing) }
    var found: [(name: String, isDirectory: Bool)] = []
    while true {
      errno = 0
      guard let entry = readdir(listing) else {
        guard errno == 0 else { throw .system(call: "readdir", path: path, errno: errno) }
        return found
      }
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name == "." || name == ".." { continue }
      var isDirectory = Int32(entry.pointee.d_type) == Int32(DT_DIR)
      if Int32(entry.pointee.d_type) == Int32(DT_UNKNOWN) {  // some file systems do not say
        var status = stat()
        isDirectory =
          fstatat(raw, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mode & S_IFMT == S_IFDIR
      }
      found.append((name, isDirectory))
    }
  }

  /// Removes every entry of a directory: files and links by their own name. A directory inside is an error that names it.
  func removeEntries() throws(LocalStoreError) {
    let copy = dup(raw)
    guard copy >= 0, let listing = fdopendir(copy) else { throw .system(call: "opendir", path: path, errno: errno) }
    defer { closedir(listing) }
    while let entry = readdir(listing) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name == "." || name == ".." { continue }
      guard unlinkat(raw, name, 0) == 0 || errno == ENOENT else {
        throw .system(call: "unlink", path: "\(path)/\(name)", errno: errno)
      }
    }
  }
}
