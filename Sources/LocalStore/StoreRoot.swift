import Glibc
import JobletModel
import LogStore

/// A directory with one directory a job in it. Entries are opened by name, one by one, never through a link.
struct StoreRoot: Sendable {
  let descriptor: Descriptor

  /// Opens the directory, making it where it is missing.
  init(_ path: String, faults: DiskFaults? = nil) throws(LocalStoreError) {
    if mkdir(path, 0o750) != 0, errno != EEXIST {
      throw .system(call: "mkdir", path: path, errno: errno)
    }
    try self.init(existing: path, faults: faults)
  }

  init(existing path: String, faults: DiskFaults? = nil) throws(LocalStoreError) {
    guard let root = try Descriptor.open(path, in: nil, flags: O_RDONLY | O_DIRECTORY, faults: faults) else {
      throw .system(call: "open", path: path, errno: ENOENT)
    }
    descriptor = root
  }

  private func path(_ job: JobID) -> String { "\(descriptor.path)/\(job)" }

  func directory(_ job: JobID) throws(LocalStoreError) -> Descriptor? {
    try Descriptor.open(job.description, in: descriptor, flags: O_RDONLY | O_DIRECTORY)
  }

  func makeDirectory(_ job: JobID) throws(LocalStoreError) -> (Descriptor, isNew: Bool) {
    if let known = try directory(job) { return (known, false) }
    if mkdirat(descriptor.raw, job.description, 0o750) != 0, errno != EEXIST {
      throw .system(call: "mkdir", path: path(job), errno: errno)
    }
    guard let made = try directory(job) else { throw .system(call: "open", path: path(job), errno: ENOENT) }
    return (made, true)
  }

  func contains(_ job: JobID) throws(LocalStoreError) -> Bool {
    guard faccessat(descriptor.raw, job.description, F_OK, AT_SYMLINK_NOFOLLOW) != 0 else { return true }
    guard errno == ENOENT else { throw .system(call: "access", path: path(job), errno: errno) }
    return false
  }

  /// Removes the job's directory with what is in it. False if there is none.
  func delete(_ job: JobID) throws(LocalStoreError) -> Bool {
    guard try contains(job) else { return false }
    // Something else than a directory (a link someone put there) goes as itself; what it points to stays.
    if unlinkat(descriptor.raw, job.description, 0) != 0 {
      guard errno == EISDIR || errno == EPERM else { throw .system(call: "unlink", path: path(job), errno: errno) }
      if let directory = try directory(job) { try directory.removeEntries() }
      guard unlinkat(descriptor.raw, job.description, AT_REMOVEDIR) == 0 || errno == ENOENT else {
        throw .system(call: "rmdir", path: path(job), errno: errno)
      }
    }
    try descriptor.sync()
    return true
  }

  /// The jobs that have a directory here. Whatever else lies here is passed over.
  func jobs() throws(LocalStoreError) -> [JobID] {
    try descriptor.entries().compactMap { entry in
      entry.isDirectory ? JobID(entry.name) : nil
    }
  }

  /// What one file of a job takes; its directory's time if there is a directory without that file. Nil if there is none.
  func usage(_ job: JobID, _ name: String) throws(LocalStoreError) -> LogUsage? {
    guard let directory = try directory(job) else { return nil }
    var status = stat()
    if fstatat(directory.raw, name, &status, AT_SYMLINK_NOFOLLOW) != 0 {
      guard errno == ENOENT else { throw .system(call: "stat", path: "\(path(job))/\(name)", errno: errno) }
      status = try directory.status()
      status.st_size = 0
    }
    let written = status.st_mtim
    let time = Timestamp(nanoseconds: Int64(written.tv_sec) * 1_000_000_000 + Int64(written.tv_nsec))
    return LogUsage(bytes: Int64(status.st_size), lastWrite: time)
  }

  func freeBytes() throws(LocalStoreError) -> Int64 {
    var status = statvfs()
    guard fstatvfs(descriptor.raw, &status) == 0 else {
      throw .system(call: "statvfs", path: descriptor.path, errno: errno)
    }
    return Int64(status.f_bavail) * Int64(status.f_frsize)
  }
}
