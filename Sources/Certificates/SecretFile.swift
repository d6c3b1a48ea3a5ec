import Glibc

/// Who may read a file that is written.
struct FileAccess: Hashable, Sendable {
  /// Permission bits of chmod(2).
  var mode: mode_t
  /// User and group to own it; nil leaves them to the writer.
  var owner: (uid_t, gid_t)?

  static func == (a: FileAccess, b: FileAccess) -> Bool {
    a.mode == b.mode && a.owner?.0 == b.owner?.0 && a.owner?.1 == b.owner?.1
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(mode)
    hasher.combine(owner?.0)
    hasher.combine(owner?.1)
  }
}

/// Reads and replaces small files whole.
enum SecretFile {
  /// No certificate, key or configuration is larger.
  static let maxBytes = 4 << 20

  /// Reads a file; nil if there is none.
  static func read(_ path: String) throws -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else {
      if errno == ENOENT { return nil }
      throw failure("can't read", path)
    }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = Glibc.read(file, &buffer, buffer.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw failure("can't read", path)
      }
      if count == 0 { break }
      bytes += buffer[..<count]
      guard bytes.count <= maxBytes else { throw CertificateFailure("\(path) is larger than \(maxBytes) bytes") }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CertificateFailure("\(path) is not UTF-8 text")
    }
    return text
  }

  /// Replaces a file in one step: whoever opens it sees the old text or the new, never a part, also after a power cut.
  static func write(_ text: String, to path: String, _ access: FileAccess) throws {
    let directory = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    var template = Array((path + ".XXXXXX").utf8CString)
    // mkstemp(3) makes it 0600: nobody else can open it before its owner and mode are right.
    let file = mkstemp(&template)
    guard file >= 0 else { throw failure("can't write", path) }
    let temporary = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    do {
      defer { close(file) }
      try fill(file, Array(text.utf8), path)
      // The owner before the mode: the other way round a group could read it for a moment before it is its own.
      if let (user, group) = access.owner, fchown(file, user, group) != 0 {
        throw failure("can't set the owner of", path)
      }
      if fchmod(file, access.mode) != 0 { throw failure("can't set the mode of", path) }
      if fsync(file) != 0 { throw failure("can't write", path) }
      if rename(temporary, path) != 0 { throw failure("can't replace", path) }
    } catch {
      unlink(temporary)
      throw error
    }
    try syncDirectory(directory.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : directory)
  }

  /// Sets owner and mode of a file that is kept as it is.
  static func ensure(_ path: String, _ access: FileAccess) throws {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard file >= 0 else { throw failure("can't open", path) }
    defer { close(file) }
    if let (user, group) = access.owner, fchown(file, user, group) != 0 {
      throw failure("can't set the owner of", path)
    }
    if fchmod(file, access.mode) != 0 { throw failure("can't set the mode of", path) }
  }

  private static func fill(_ file: CInt, _ bytes: [UInt8], _ path: String) throws {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress?.advanced(by: done), $0.count - done) }
      if count < 0 {
        if errno == EINTR { continue }
        throw failure("can't write", path)
      }
      done += count
    }
  }

  /// A rename is on disk only when its directory is.
  private static func syncDirectory(_ path: String) throws {
    let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { throw failure("can't open", path) }
    defer { close(directory) }
    if fsync(directory) != 0 { throw failure("can't sync", path) }
  }

  static func failure(_ what: String, _ path: String) -> CertificateFailure {
    let code = errno
    let hint = code == EACCES || code == EPERM ? "; run this as root (sudo), or choose directories of your own" : ""
    return CertificateFailure("\(what) \(path): \(String(cString: strerror(code)))\(hint)")
  }
}
