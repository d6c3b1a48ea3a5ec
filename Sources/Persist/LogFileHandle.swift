import CGNU
import Glibc
import LocalStore

/// An open file of the write-ahead log, or its directory; closed with its last reference.
final class LogFileHandle: Sendable {
  let raw: CInt
  let path: String
  /// Failures that a test asks for.
  private let faults: DiskFaults?

  init(_ path: String, flags: CInt, mode: mode_t = 0, faults: DiskFaults? = nil) throws(PersistError) {
    if let refusal = faults?.refusal(of: .open, path) { throw .system(call: "open", path: path, errno: refusal.errno) }
    while true {
      let raw = open(path, flags | O_CLOEXEC | O_NOFOLLOW, mode)
      if raw >= 0 {
        self.raw = raw
        self.path = path
        self.faults = faults
        return
      }
      guard errno == EINTR else { throw .system(call: "open", path: path, errno: errno) }
    }
  }

  deinit { close(raw) }

  static func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/"), slash > path.startIndex else { return "/" }
    return String(path[..<slash])
  }

  /// Reserves the file's blocks, so that writing it can't meet a full disk. Where the file system can't, it goes without.
  func preallocate(_ length: Int) throws(PersistError) {
    if let refusal = faults?.refusal(of: .allocate, path) {
      throw .system(call: "fallocate", path: path, errno: refusal.errno)
    }
    while fallocate(raw, 0, 0, off_t(length)) != 0 {
      switch errno {
      case EINTR: continue
      case EOPNOTSUPP, ENOSYS: return
      default: throw .system(call: "fallocate", path: path, errno: errno)
      }
    }
  }

  func write(_ bytes: [UInt8], at offset: Int) throws(PersistError) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        pwrite(raw, $0.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
      }
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw .system(call: "write", path: path, errno: count == 0 ? EIO : errno)
      }
    }
  }

  /// Writes a batch where its frames lie: one pwritev(2), unless the kernel takes it in pieces.
  func writeBatch(_ number: UInt64, _ parts: [UnsafeRawBufferPointer], length: Int, at offset: Int) throws(PersistError)
  {
    if let refusal = faults?.refusal(of: .write, path) {
      tear(parts, refusal.written, at: offset)
      throw .system(call: "write", path: path, errno: refusal.errno)
    }
    var header = SIMD32<UInt8>()
    let error: PersistError? = withUnsafeMutableBytes(of: &header) { header in
      LogSegment.writeBatchHeader(number, parts, into: header)
      var pieces = [iovec(iov_base: header.baseAddress, iov_len: header.count)]
      for part in parts {
        pieces.append(iovec(iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress), iov_len: part.count))
      }
      return write(&pieces, length: length, at: offset)
    }
    if let error { throw error }
  }

  /// Leaves what a write that failed on the way may leave: some bytes that are no batch.
  private func tear(_ parts: [UnsafeRawBufferPointer], _ length: Int, at offset: Int) {
    guard length > 0, let part = parts.first else { return }
    _ = pwrite(raw, part.baseAddress, min(length, part.count), off_t(offset))
  }

  private func write(_ pieces: inout [iovec], length: Int, at offset: Int) -> PersistError? {
    var done = 0
    var first = 0
    while done < length {
      let count = pieces[first...].withUnsafeBufferPointer {
        pwritev(raw, $0.baseAddress, CInt(min($0.count, 1024)), off_t(offset + done))
      }
      guard count > 0 else {
        if count < 0, errno == EINTR { continue }
        return .system(call: "write", path: path, errno: count == 0 ? EIO : errno)
      }
      done += count
      var left = count
      while first < pieces.count, left >= pieces[first].iov_len {
        left -= pieces[first].iov_len
        first += 1
      }
      if left > 0 {
        pieces[first].iov_base += left
        pieces[first].iov_len -= left
      }
    }
    return nil
  }

  func syncData() throws(PersistError) {
    if let refusal = faults?.refusal(of: .sync, path) {
      throw .system(call: "fdatasync", path: path, errno: refusal.errno)
    }
    guard fdatasync(raw) == 0 else { throw .system(call: "fdatasync", path: path, errno: errno) }
  }

  func sync() throws(PersistError) {
    if let refusal = faults?.refusal(of: .sync, path) { throw .system(call: "fsync", path: path, errno: refusal.errno) }
    guard fsync(raw) == 0 else { throw .system(call: "fsync", path: path, errno: errno) }
  }

  /// The names in a directory.
  func entryNames() throws(PersistError) -> [String] {
    let copy = dup(raw)
    guard copy >= 0, let listing = fdopendir(copy) else { throw .system(call: "opendir", path: path, errno: errno) }
    defer { closedir(listing) }
    rewinddir(listing)
    var names: [String] = []
    while let entry = readdir(listing) {
      names.append(
        withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    return names
  }
}
