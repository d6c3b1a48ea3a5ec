import Glibc
import JobletModel
import LogStore
import Synchronization

/// Log files on the local disk: `<directory>/<job>/stdout.log.gz` and `stderr.log.gz` in the format of ``MemberHeader``.
///
/// Nothing here follows a symbolic link: the names below the directory are opened one by one.
public final class LocalLogStore: LogStore {
  private let root: Descriptor
  private let jobs = Mutex<[JobID: JobFiles]>([:])
  /// Writers at rest; each seal takes one, so there are as many as seal at the same time.
  private let writers = Mutex<[Unique<MemberWriter>]>([])

  public let name = "local"

  /// Opens the directory, making it where it is missing.
  public init(directory: String) throws {
    if mkdir(directory, 0o750) != 0, errno != EEXIST {
      throw LocalStoreError.system(call: "mkdir", path: directory, errno: errno)
    }
    guard let root = try Descriptor.open(directory, in: nil, flags: O_RDONLY | O_DIRECTORY) else {
      throw LocalStoreError.system(call: "open", path: directory, errno: ENOENT)
    }
    self.root = root
  }

  /// What is known of one job's files. Its lock is held over file operations: they are one at a time for a job.
  private final class JobFiles: Sendable {
    struct State: Sendable {
      var files: [LogStream: LogFile] = [:]
      var isNewDirectory = false
    }
    let state = Mutex(State())
  }

  private func files(_ job: JobID) -> JobFiles {
    jobs.withLock { jobs in
      if let known = jobs[job] { return known }
      let new = JobFiles()
      jobs[job] = new
      return new
    }
  }

  private func directory(_ job: JobID) throws(LocalStoreError) -> Descriptor? {
    try Descriptor.open(job.description, in: root, flags: O_RDONLY | O_DIRECTORY)
  }

  private func makeDirectory(_ job: JobID) throws(LocalStoreError) -> (Descriptor, isNew: Bool) {
    if let known = try directory(job) { return (known, false) }
    if mkdirat(root.raw, job.description, 0o750) != 0, errno != EEXIST {
      throw .system(call: "mkdir", path: "\(root.path)/\(job)", errno: errno)
    }
    guard let made = try directory(job) else {
      throw .system(call: "open", path: "\(root.path)/\(job)", errno: ENOENT)
    }
    return (made, true)
  }

  public func append(_ chunks: [LogChunk], job: JobID, stream: LogStream) throws {
    let writer = writers.withLock { $0.popLast() } ?? Unique(MemberWriter())
    defer { writers.withLock { $0.append(writer) } }
    try files(job).state.withLock { state in
      let (directory, isNew) = try makeDirectory(job)
      if isNew { state.isNewDirectory = true }
      var file = try state.files[stream] ?? LogFile(stream, in: directory)
      defer { state.files[stream] = file }
      try file.append(chunks, with: writer.value, in: directory)
    }
  }

  public func sync(_ job: JobID) throws {
    try files(job).state.withLock { state in
      var hasNewFile = false
      for stream in LogStream.allCases {
        guard var file = state.files[stream], file.isUnsynced else { continue }
        hasNewFile = try file.sync() || hasNewFile
        state.files[stream] = file
      }
      // A file is found again after a power cut only if the directories that lead to it were synced as well. A directory
      // that was removed meanwhile needs none.
      if hasNewFile, let directory = try directory(job) { try directory.sync() }
      if state.isNewDirectory { try root.sync() }
      state.isNewDirectory = false
    }
  }

  public func lastSeq(_ job: JobID, _ stream: LogStream) throws -> UInt64 {
    try files(job).state.withLock { state in
      if let known = state.files[stream] { return known.lastSeq }
      let file = try LogFile(stream, in: directory(job))
      state.files[stream] = file
      return file.lastSeq
    }
  }

  public func recover(_ job: JobID, _ stream: LogStream, logFrom: UInt64) throws -> LogCut? {
    try files(job).state.withLock { state in
      let directory = try directory(job)
      var file = try LogFile(stream, in: directory)
      let cut = try file.recover(logFrom: logFrom, in: directory)
      state.files[stream] = file
      return cut
    }
  }

  public func pages(_ job: JobID, _ stream: LogStream, _ range: LogRange) throws -> any LogPages {
    guard let directory = try directory(job),
      let file = try Descriptor.open(LogFile.name(stream), in: directory, flags: O_RDONLY)
    else { return NoPages() }
    return try MemberPages(file, stream, range)
  }

  public func contains(_ job: JobID) throws -> Bool {
    guard faccessat(root.raw, job.description, F_OK, AT_SYMLINK_NOFOLLOW) != 0 else { return true }
    guard errno == ENOENT else {
      throw LocalStoreError.system(call: "access", path: "\(root.path)/\(job)", errno: errno)
    }
    return false
  }

  public func delete(_ job: JobID) throws -> Bool {
    defer { forget(job) }
    return try files(job).state.withLock { state in
      state = JobFiles.State()
      guard try contains(job) else { return false }
      // Something else than a directory (a link someone put there) goes as itself; what it points to stays.
      if unlinkat(root.raw, job.description, 0) != 0 {
        guard errno == EISDIR || errno == EPERM else {
          throw LocalStoreError.system(call: "unlink", path: "\(root.path)/\(job)", errno: errno)
        }
        if let directory = try directory(job) { try directory.removeEntries() }
        guard unlinkat(root.raw, job.description, AT_REMOVEDIR) == 0 || errno == ENOENT else {
          throw LocalStoreError.system(call: "rmdir", path: "\(root.path)/\(job)", errno: errno)
        }
      }
      try root.sync()
      return true
    }
  }

  public func forget(_ job: JobID) { _ = jobs.withLock { $0.removeValue(forKey: job) } }

  public func freeBytes() throws -> Int64? {
    var status = statvfs()
    guard fstatvfs(root.raw, &status) == 0 else {
      throw LocalStoreError.system(call: "statvfs", path: root.path, errno: errno)
    }
    return Int64(status.f_bavail) * Int64(status.f_frsize)
  }
}

/// Carries a value that is not Sendable from one owner to the next.
///
/// Safe: a writer is in the pool or with exactly one caller, who took it out under the pool's lock.
private struct Unique<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}

private final class NoPages: LogPages {
  let infos: [LogPageInfo] = []
  func load(_ index: Int) -> UnsafeRawBufferPointer? { nil }
}

/// A file's members, as they were when it was opened.
private final class MemberPages: LogPages {
  let infos: [LogPageInfo]
  private let file: Descriptor
  private let length: UInt64
  private let reader = MemberReader()

  init(_ file: Descriptor, _ stream: LogStream, _ range: LogRange) throws(LocalStoreError) {
    self.file = file
    length = try file.fileLength()
    var infos: [LogPageInfo] = []
    var walk = MemberWalk(file, length: length)
    scan: while true {
      let info: LogPageInfo
      switch try walk.next() {
      case .member(let header, let offset):
        info = LogPageInfo(
          firstSeq: header.firstSeq, lastSeq: header.lastSeq, count: Int(header.count), earliest: header.earliest,
          latest: header.latest, position: offset)
      case .damage(let first, let last, let offset):
        info = LogPageInfo(
          firstSeq: first, lastSeq: last, count: 0, earliest: Timestamp(nanoseconds: .min),
          latest: Timestamp(nanoseconds: .max), position: offset, isMissing: true)
      case .end: break scan
      }
      if info.firstSeq > range.through { break }
      if range.mayHold(info) { infos.append(info) }
    }
    self.infos = infos
  }

  func load(_ index: Int) throws -> UnsafeRawBufferPointer? {
    let info = infos[index]
    guard !info.isMissing, let header = try MemberWalk.header(file, at: info.position, length: length) else {
      return nil
    }
    return try reader.read(file, at: info.position, header)
  }
}
