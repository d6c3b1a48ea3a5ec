import FoundationEssentials
import Glibc
import JobletModel
import LinuxKernel
import Sandbox

/// What was written down about a job's PID 1, to find it again.
package struct LaunchNote: Codable, Hashable, Sendable {
  package var pid: Int32
  /// Field 22 of /proc/PID/stat: with the PID it names one process.
  package var startTime: UInt64
  /// The first of the job's host IDs.
  package var firstID: UInt32
  /// The name of its cgroup. Nil in a note of an earlier version: the job's ID.
  package var cgroup: String?

  enum CodingKeys: String, CodingKey {
    case pid
    case startTime = "start_time"
    case firstID = "first_id"
    case cgroup
  }

  package init(pid: Int32, startTime: UInt64, firstID: UInt32, cgroup: String? = nil) {
    self.pid = pid
    self.startTime = startTime
    self.firstID = firstID
    self.cgroup = cgroup
  }
}

/// A job's ``KeyedRun`` that can't be read back.
package struct KeyFileDamage: Error, CustomStringConvertible {
  package var reason: String
  package var description: String { reason }
}

/// `/run/joblet/jobs/<id>/`: everything about a job that a restarted exec needs. On tmpfs and for root alone (0700), so that
/// the request's secrets may stand here until the job starts and never reach a disk.
///
/// | file | what | until |
/// | --- | --- | --- |
/// | `request` | the request, secrets masked (JSON) | the end |
/// | `secret` | the secrets' values (JSON, 0600) | the payload starts |
/// | `record` | the newest record (JSON), as persist gets it | the end |
/// | `launch` | ``LaunchNote`` (JSON) | its processes are gone, and before its IDs are another's |
/// | `ring`, `data`, `space` | the output | the end |
/// | `facts/` | ``Plan/facts(of:)``: what the job sees in `/run/joblet` | the end |
/// | `metrics` | the samples persist has not acknowledged, and the newest (``MetricSeries``) | the end |
/// | `live` | empty: nobody stores what the job does, it was admitted with `ipc.enabled: false` | the end |
/// | `key` | ``KeyedRun``, if its request had an `Idempotency-Key` | the end, and then in ``RunKeyFile`` |
///
/// That of a sandbox without a job is `/run/joblet/prepared/<sandbox>/` and has `launch`, the output's files and `facts/`. A claim
/// writes `request`, `secret`, `record`, `live` and `key` into it (``writeJob(request:record:isLive:key:)``); then it becomes the job's by a
/// rename.
package struct JobStateDirectory: Sendable {
  package let path: String

  /// - Parameter job: a job, or a sandbox without one.
  package init(root: String, job: JobID) { path = "\(root)/\(job)" }

  package var ring: String { "\(path)/ring" }
  package var dataFifo: String { "\(path)/data" }
  package var spaceFifo: String { "\(path)/space" }
  package var facts: String { "\(path)/facts" }

  /// Makes the directory and writes what starts the job; the values of `request.secretEnv` are real here.
  package func create(request: JobRequest, record: [UInt8], isLive: Bool = false, key: KeyedRun? = nil) throws {
    try Kernel.call("mkdir", path) { mkdir(path, 0o700) }
    do {
      try writeJob(request: request, record: record, isLive: isLive, key: key)
    } catch {
      remove()
      throw error
    }
  }

  /// Writes what starts the job; the values of `request.secretEnv` are real here.
  package func writeJob(request: JobRequest, record: [UInt8], isLive: Bool, key: KeyedRun? = nil) throws {
    if isLive { try writeNew("live", []) }
    if let key { try writeNew("key", key.encoded) }
    if !request.secretEnv.isEmpty { try writeNew("secret", Array(try JSONEncoder().encode(request.secretEnv))) }
    var masked = request
    masked.secretEnv = request.secretEnv.mapValues { _ in JobRecord.maskedSecret }
    try writeNew("request", Array(try JSONEncoder().encode(masked)))
    // The record last: a directory without one is a job that was never admitted.
    try write("record", record)
  }

  /// Makes the directory of a sandbox that has no job yet.
  package func createForSandbox() throws(Errno) {
    try Kernel.call("mkdir", path) { mkdir(path, 0o700) }
    // Seen inside the job, by users that nobody knows yet.
    try Kernel.call("mkdir", facts) { mkdir(facts, 0o755) }
    try Kernel.call("chmod", facts) { chmod(facts, 0o755) }
    for name in Plan.factNames {
      let file = try FileDescriptor.open("\(facts)/\(name)", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644)
      let raw = file.raw
      try Kernel.call("fchmod", name) { fchmod(raw, 0o644) }
    }
  }

  /// Writes the job's facts. Nothing of the job runs yet, so nobody sees a file half written.
  package func writeFacts(_ files: [(name: String, content: String)]) throws(Errno) {
    for (name, content) in files {
      let file = try FileDescriptor.open("\(facts)/\(name)", O_WRONLY | O_NOFOLLOW)
      try file.writeAll(Array(content.utf8))
    }
  }

  /// Becomes `job`'s: in one step, so that after a crash there is a whole job or none.
  /// - Parameter exists: the job has a directory already, for it had to wait; that one goes.
  package func become(_ job: JobStateDirectory, exists: Bool) throws(Errno) {
    guard exists else {
      try Kernel.call("rename", job.path) { rename(path, job.path) }
      return
    }
    try Kernel.exchange(path, job.path)
    remove()
  }

  package func saveRecord(_ record: [UInt8]) throws(Errno) { try write("record", record) }

  package func saveLaunch(_ note: LaunchNote) throws { try write("launch", Array(try JSONEncoder().encode(note))) }

  /// The secrets' last moment on the host.
  package func removeSecret() throws(Errno) { try removeFile("secret") }

  /// Nothing of the job lives any more. Before its IDs are given back: two notes must not name the same ones.
  package func removeLaunchNote() throws(Errno) { try removeFile("launch") }

  private func removeFile(_ name: String) throws(Errno) {
    let file = "\(path)/\(name)"
    guard unlink(file) != 0, errno != ENOENT else { return }
    throw Errno(errno, "unlink", file)
  }

  /// Nil if its request had no `Idempotency-Key`.
  package func loadKey() throws(KeyFileDamage) -> KeyedRun? {
    guard access("\(path)/key", F_OK) == 0 else { return nil }
    let bytes: [UInt8]
    do {
      bytes = try FileDescriptor.open("\(path)/key", O_RDONLY | O_NOFOLLOW).readAll(limit: 4096)
    } catch {
      throw KeyFileDamage(reason: "\(error)")
    }
    guard let run = KeyedRun(bytes) else {
      throw KeyFileDamage(reason: "\(path)/key: \(bytes.count) bytes that name no job; \(KeyedRun.byteCount) are right")
    }
    return run
  }

  /// False of a job that was never admitted: the record is written last.
  var hasRecord: Bool { access("\(path)/record", F_OK) == 0 }

  /// True if nobody stores what the job does.
  package var isLive: Bool { access("\(path)/live", F_OK) == 0 }

  /// The job has not run, and what it does will be stored.
  package func makeStored() throws(Errno) { try removeFile("live") }

  package func saveMetrics(_ change: MetricSeries.FileChange) throws(Errno) {
    switch change {
    case .replace(let bytes): try write("metrics", bytes)
    case .append(let bytes):
      let file = try FileDescriptor.open(
        "\(path)/metrics", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o600)
      try file.writeAll(bytes)
    }
  }

  /// - Throws: ``MetricFileDamage``, or an `Errno`.
  package func loadMetrics() throws -> MetricSeries {
    guard access("\(path)/metrics", F_OK) == 0 else { return MetricSeries() }
    let bytes = try FileDescriptor.open("\(path)/metrics", O_RDONLY | O_NOFOLLOW).readAll(limit: 16 << 20)
    return try bytes.withUnsafeBytes { bytes throws(MetricFileDamage) in try MetricSeries(file: bytes) }
  }

  package func loadRecord() throws -> JobRecord { try load(JobRecord.self, "record") }

  /// Nil if nothing was launched.
  package func loadLaunch() throws -> LaunchNote? {
    access("\(path)/launch", F_OK) == 0 ? try load(LaunchNote.self, "launch") : nil
  }

  /// The request with its secrets. Without the file the secrets stay masked: the job has started and needs them no more.
  package func loadRequest() throws -> JobRequest {
    var request = try load(JobRequest.self, "request")
    if access("\(path)/secret", F_OK) == 0 {
      request.secretEnv = try load([String: String].self, "secret")
    }
    return request
  }

  /// Removes the directory. What can't be removed is found, and removed, at the next start.
  package func remove() {
    removeFacts()
    for name in ["record", "request", "secret", "launch", "ring", "data", "space", "metrics", "live", "key"] {
      unlink("\(path)/\(name)")
      unlink("\(path)/.\(name)")
    }
    rmdir(path)
  }

  /// What a launch left that did not come to its go, so that a new one can start afresh.
  package func removeLaunch() {
    removeFacts()
    for name in ["launch", "ring", "data", "space"] { unlink("\(path)/\(name)") }
  }

  private func removeFacts() {
    for name in Plan.factNames { unlink("\(facts)/\(name)") }
    rmdir(facts)
  }

  /// The jobs (or sandboxes) that have a directory.
  package static func jobs(root: String) throws(Errno) -> [JobID] {
    try Kernel.names(in: root).compactMap { JobID($0) }.sorted()
  }

  /// Writes a file of a directory that means nothing yet: nobody reads it half written.
  private func writeNew(_ name: String, _ bytes: [UInt8]) throws(Errno) {
    let file = try FileDescriptor.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    try file.writeAll(bytes)
  }

  /// Replaces a file as a whole: a reader sees the old or the new one.
  private func write(_ name: String, _ bytes: [UInt8]) throws(Errno) {
    let temporary = "\(path)/.\(name)"
    let file = try FileDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
    try file.writeAll(bytes)
    try Kernel.call("rename", "\(path)/\(name)") { rename(temporary, "\(path)/\(name)") }
  }

  private func load<T: Decodable>(_ type: T.Type, _ name: String) throws -> T {
    let file = try FileDescriptor.open("\(path)/\(name)", O_RDONLY | O_NOFOLLOW)
    return try JSONDecoder().decode(type, from: Data(try file.readAll(limit: 16 << 20)))
  }
}
