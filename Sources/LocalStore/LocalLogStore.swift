import Glibc
import JobletModel
import LogStore
import Synchronization

/// Files on the local disk in the format of ``MemberHeader``: `<logs>/<job>/stdout.log.gz` and `stderr.log.gz`,
/// `<metrics>/<job>/metrics.jsonl.gz`. Both directories may be the same.
///
/// Nothing here follows a symbolic link: the names below the directories are opened one by one.
public final class LocalLogStore: LogStore {
  private let logs: StoreRoot
  private let metrics: StoreRoot
  private let isReadOnly: Bool
  private let unwritten: @Sendable () -> Int?
  private let jobs = Mutex<[JobID: JobFiles]>([:])
  /// Writers at rest; each seal takes one, so there are as many as seal at the same time.
  private let writers = Mutex<[Unique<MemberWriter>]>([])

  public let name = "local"

  /// Opens the directories, making them where they are missing.
  public convenience init(logs: String, metrics: String) throws {
    try self.init(logs: logs, metrics: metrics, faults: nil)
  }

  /// - Parameters:
  ///   - faults: failures that a test asks for.
  ///   - unwritten: bytes that wait for the host's disks; nil if that is not known.
  package init(
    logs: String, metrics: String, faults: DiskFaults?,
    unwritten: @escaping @Sendable () -> Int? = { HostPages.unwrittenBytes() }
  ) throws {
    self.unwritten = unwritten
    self.logs = try StoreRoot(logs, faults: faults)
    self.metrics = try StoreRoot(metrics, faults: faults)
    isReadOnly = false
  }

  /// Opens directories as they are, to read: nothing is made or changed in them, whoever else works there. A directory for
  /// metrics that is missing is one without any.
  /// - Throws: ``LocalStoreError`` if `logs` can't be opened.
  public init(existingLogs logs: String, metrics: String) throws {
    unwritten = { nil }
    self.logs = try StoreRoot(existing: logs)
    self.metrics = try access(metrics, F_OK) == 0 ? StoreRoot(existing: metrics) : self.logs
    isReadOnly = true
  }

  private func checkWritable() throws(LocalStoreError) {
    guard !isReadOnly else { throw .system(call: "write", path: logs.descriptor.path, errno: EROFS) }
  }

  func root(_ stream: StoredStream) -> StoreRoot { stream == .metrics ? metrics : logs }

  /// What is known of one job's files. Its lock is held over file operations: they are one at a time for a job.
  private final class JobFiles: Sendable {
    struct State: Sendable {
      var files: [StoredStream: LogFile] = [:]
      /// Roots in which the job's directory is new and not synced yet, by a stream of theirs.
      var newDirectories: Set<StoredStream> = []
      var appends: UInt64 = 0
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

  @discardableResult
  public func append(_ chunks: [LogChunk], job: JobID, stream: StoredStream) throws -> LogAppended {
    try checkWritable()
    let writer = writers.withLock { $0.popLast() } ?? Unique(MemberWriter())
    defer { writers.withLock { $0.append(writer) } }
    return try files(job).state.withLock { state in
      state.appends += 1
      let (directory, isNew) = try root(stream).makeDirectory(job)
      if isNew { state.newDirectories.insert(stream) }
      var file = try state.files[stream] ?? LogFile(stream, in: directory)
      defer { state.files[stream] = file }
      return try file.append(chunks, with: writer.value, in: directory)
    }
  }

  public func sync(_ job: JobID) throws {
    try files(job).state.withLock { state in
      for (root, streams) in [(logs, StoredStream.logs), (metrics, [.metrics])] {
        var hasNewFile = false
        for stream in streams {
          guard var file = state.files[stream], file.isUnsynced else { continue }
          hasNewFile = try file.sync() || hasNewFile
          state.files[stream] = file
        }
        // A file is found again after a power cut only if the directories that lead to it were synced as well. A
        // directory that was removed meanwhile needs none.
        if hasNewFile, let directory = try root.directory(job) { try directory.sync() }
        if !state.newDirectories.isDisjoint(with: streams) { try root.descriptor.sync() }
        state.newDirectories.subtract(streams)
      }
    }
  }

  /// One sync of the whole file system in place of three a job, each with a commit and a flush of its own: that was a tenth of
  /// all the CPU time that a short job costs.
  public func syncTogether(_ jobs: [JobID]) -> Bool {
    guard jobs.count >= LocalLogStore.worthOneSync, let bytes = unwritten(), bytes <= LocalLogStore.fewBytes else {
      return false
    }
    let marks = jobs.map { job in
      let files = files(job)
      return (files, files.state.withLock { $0.appends })
    }
    // A failure may be that of somebody else's file: the files of ours are open since they were written, and tell theirs.
    do throws(LocalStoreError) {
      try logs.descriptor.syncFileSystem()
      if try !metrics.descriptor.isOnFileSystem(of: logs.descriptor) { try metrics.descriptor.syncFileSystem() }
    } catch {
      return false
    }
    for (files, appends) in marks {
      files.state.withLock { state in
        guard state.appends == appends else { return }  // what came meanwhile counts anew
        for stream in StoredStream.allCases { state.files[stream]?.noteSynced() }
        state.newDirectories = []
      }
    }
    return true
  }

  /// From so many jobs on one sync of the file system costs less than one a file.
  private static let worthOneSync = 16
  /// No more than this may wait for the disk, whoever wrote it: or somebody's gigabytes would hold up everyone's lines.
  private static let fewBytes = 64 << 20

  public func lastSeq(_ job: JobID, _ stream: StoredStream) throws -> UInt64 {
    try files(job).state.withLock { state in
      if let known = state.files[stream] { return known.lastSeq }
      let file = try LogFile(stream, in: root(stream).directory(job))
      state.files[stream] = file
      return file.lastSeq
    }
  }

  public func recover(_ job: JobID, _ stream: StoredStream, logFrom: UInt64) throws -> LogCut? {
    try checkWritable()
    return try files(job).state.withLock { state in
      let directory = try root(stream).directory(job)
      var file = try LogFile(stream, in: directory)
      let cut = try file.recover(logFrom: logFrom, in: directory)
      state.files[stream] = file
      return cut
    }
  }

  public func pages(_ job: JobID, _ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) throws
    -> any LogPages
  {
    guard let directory = try root(stream).directory(job),
      let file = try Descriptor.open(LogFile.name(stream), in: directory, flags: O_RDONLY)
    else { return NoPages() }
    return try MemberPages.open(file, range, order)
  }

  public func contains(_ job: JobID) throws -> Bool { try logs.contains(job) || metrics.contains(job) }

  public func delete(_ job: JobID) throws -> Bool {
    try checkWritable()
    defer { forget(job) }
    return try files(job).state.withLock { state in
      state = JobFiles.State()
      let hadLogs = try logs.delete(job)
      return try metrics.delete(job) || hadLogs
    }
  }

  public func storedJobs() throws -> [JobID] { Array(Set(try logs.jobs()).union(try metrics.jobs())) }

  public func usage(_ job: JobID) throws -> LogUsage? {
    let all = StoredStream.allCases.map { (root($0), LogFile.name($0)) }
    let found = try all.compactMap { try $0.usage(job, $1) }
    guard let lastWrite = found.map(\.lastWrite).max() else { return nil }
    return LogUsage(bytes: found.reduce(0) { $0 + $1.bytes }, lastWrite: lastWrite)
  }

  public func setAside(_ job: JobID, _ stream: StoredStream) throws -> String? {
    try checkWritable()
    return try files(job).state.withLock { state in
      let moved = try root(stream).setAside(job, LogFile.name(stream))
      if moved != nil { state.files[stream] = nil }
      return moved
    }
  }

  public func forget(_ job: JobID) { _ = jobs.withLock { $0.removeValue(forKey: job) } }

  public func freeBytes() throws -> Int64? { try min(logs.freeBytes(), metrics.freeBytes()) }
}

/// Carries a value that is not Sendable from one owner to the next.
///
/// Safe: a writer is in the pool or with exactly one caller, who took it out under the pool's lock.
private struct Unique<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
