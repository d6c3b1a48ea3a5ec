import Glibc
import LinuxKernel

/// `/run/joblet/keys`: the key of the hashes, and the runs with an `Idempotency-Key` whose jobs have no state directory any
/// more. On tmpfs and for root alone, so that the hashes and their key never stand on a disk: it outlives exec, not the host.
///
/// The bytes `JLKEYS1\n`, 32 bytes of key, then a ``KeyedRun`` each 64 bytes. A rest that is not a whole one was being written
/// when exec was killed, and counts as absent.
package struct RunKeyFile: Sendable {
  private static let magic = Array("JLKEYS1\n".utf8)
  private static let start = magic.count + RunHasher.keyLength
  /// More than ``RunKeys`` ever lets it grow to.
  private static let maxLength = 64 << 20

  private let path: String
  private let key: [UInt8]
  /// Whole runs in the file.
  package private(set) var count: Int

  /// What a file held.
  package struct Content: Sendable {
    package var file: RunKeyFile
    package var hasher: RunHasher
    package var runs: [KeyedRun]
    /// The file was there and was none: what it held is forgotten.
    package var wasDamaged = false
  }

  /// Opens the file, or makes it. Blocks.
  package static func open(_ path: String) throws(Errno) -> Content {
    var wasDamaged = false
    if access(path, F_OK) == 0 {
      let bytes = try FileDescriptor.open(path, O_RDONLY | O_NOFOLLOW).readAll(limit: maxLength)
      if let (key, runs) = read(bytes) {
        return Content(
          file: RunKeyFile(path: path, key: key, count: runs.count), hasher: RunHasher(key: key), runs: runs)
      }
      wasDamaged = true
    }
    let key = RunHasher.randomKey()
    var file = RunKeyFile(path: path, key: key, count: 0)
    try file.replace(with: [])
    return Content(file: file, hasher: RunHasher(key: key), runs: [], wasDamaged: wasDamaged)
  }

  /// Nil if these bytes are no such file. A pure function over bytes.
  package static func read(_ bytes: [UInt8]) -> (key: [UInt8], runs: [KeyedRun])? {
    guard bytes.count >= start, bytes.starts(with: magic) else { return nil }
    var runs: [KeyedRun] = []
    var offset = start
    while offset + KeyedRun.byteCount <= bytes.count {
      // One that can't be read ends what can be believed.
      guard let run = KeyedRun(bytes[offset..<offset + KeyedRun.byteCount]) else { break }
      runs.append(run)
      offset += KeyedRun.byteCount
    }
    return (Array(bytes[magic.count..<start]), runs)
  }

  /// Writes one more behind the last whole one: what an earlier write left half done is written over.
  package mutating func append(_ run: KeyedRun) throws(Errno) {
    let file = try FileDescriptor.open(path, O_WRONLY | O_NOFOLLOW)
    let raw = file.raw
    let offset = RunKeyFile.start + count * KeyedRun.byteCount
    try Kernel.call("lseek", path) { lseek(raw, off_t(offset), SEEK_SET) }
    try file.writeAll(run.encoded)
    count += 1
  }

  /// A file that is written whole and not yet in the place of this one.
  package struct Rewritten: Sendable {
    fileprivate var count: Int
  }

  /// Writes the file anew, beside this one, which stays as it is. Blocks; one at a time.
  package func rewrite(_ runs: [KeyedRun]) throws(Errno) -> Rewritten {
    let file = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    var bytes = RunKeyFile.magic + key
    bytes.reserveCapacity(RunKeyFile.start + runs.count * KeyedRun.byteCount)
    for run in runs { bytes += run.encoded }
    try file.writeAll(bytes)
    return Rewritten(count: runs.count)
  }

  /// Puts a rewritten file in the place of this one.
  /// - Parameter runs: those that were kept since its content was decided; they go behind it.
  package mutating func adopt(_ file: Rewritten, adding runs: [KeyedRun]) throws(Errno) {
    let added = try FileDescriptor.open(temporary, O_WRONLY | O_APPEND | O_NOFOLLOW)
    try added.writeAll(runs.flatMap(\.encoded))
    try Kernel.call("rename", path) { rename(temporary, path) }
    count = file.count + runs.count
  }

  /// Writes the file anew, as a whole. Blocks.
  package mutating func replace(with runs: [KeyedRun]) throws(Errno) { try adopt(try rewrite(runs), adding: []) }

  private var temporary: String { path + ".new" }
}
