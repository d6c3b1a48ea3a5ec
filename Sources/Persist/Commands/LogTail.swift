import Glibc
import JobletModel
import JobletWire
import LogStore

/// What the write-ahead log has of one job and its files have not, read without touching the log.
///
/// Damage ends a segment, as it does in a replay. A segment that goes meanwhile was sealed, so the files have its lines.
struct LogTail {
  private(set) var chunks: [StoredStream: [LogChunk]] = [:]
  /// A delete of the job stands in the log.
  private(set) var isDeleted = false
  private let job: JobID
  private let fileSeq: [StoredStream: UInt64]
  private var entry: JobEntry
  private var nextBatch: UInt64 = 1

  /// - Parameters:
  ///   - directory: the log's; there need be none.
  ///   - fileSeq: the last line each file has.
  init(_ job: JobID, directory: String, fileSeq: (StoredStream) throws -> UInt64) throws {
    self.job = job
    entry = JobEntry(job)
    var last: [StoredStream: UInt64] = [:]
    for stream in StoredStream.allCases { last[stream] = try fileSeq(stream) }
    self.fileSeq = last
    for segment in try LogTail.segments(directory) {
      guard let bytes = try LogTail.contents(of: segment.path) else { continue }
      try bytes.withUnsafeBytes { try read($0, segment.number) }
    }
    for stream in StoredStream.allCases where !entry[stream].isEmpty { chunks[stream] = entry[stream].all }
  }

  private static func segments(_ directory: String) throws -> [(number: UInt64, path: String)] {
    guard let folder = try open(directory, O_RDONLY | O_DIRECTORY) else { return [] }
    let all = try folder.entryNames().compactMap { name in
      LogSegment.number(name).map { ($0, "\(directory)/\(name)") }
    }
    return all.sorted { $0.0 < $1.0 }
  }

  private static func open(_ path: String, _ flags: CInt) throws -> LogFileHandle? {
    do {
      return try LogFileHandle(path, flags: flags)
    } catch {
      guard error.isMissing else { throw error }
      return nil
    }
  }

  /// A segment is at most 32 MiB and one batch, so it is read whole: a mapping would end the process should the writer cut
  /// the file meanwhile.
  private static func contents(of path: String) throws -> [UInt8]? {
    guard let file = try open(path, O_RDONLY) else { return nil }
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw PersistError.system(call: "fstat", path: path, errno: errno) }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeMutableBytes {
        pread(file.raw, $0.baseAddress.map { $0 + done }, $0.count - done, off_t(done))
      }
      if count == 0 { break }
      if count > 0 {
        done += count
      } else if errno != EINTR {
        throw PersistError.system(call: "read", path: path, errno: errno)
      }
    }
    return bytes
  }

  private mutating func read(_ bytes: UnsafeRawBufferPointer, _ number: UInt64) throws {
    guard LogSegment.isHeader(bytes, of: number) else { return }
    var offset = LogSegment.headerLength
    while case .batch(let batch, let frames) = LogSegment.place(bytes, at: offset), batch >= nextBatch {
      nextBatch = batch + 1
      var isCarried = false
      try ReceivedFrame.each(in: UnsafeRawBufferPointer(rebasing: bytes[frames])) { frame in
        guard frame.header.job == job else { return }
        if frame.header.flags.contains(.carried), !isCarried {
          // It has everything that stood before once more.
          isCarried = true
          entry = JobEntry(job)
        }
        take(frame)
      }
      offset = frames.upperBound
    }
  }

  private mutating func take(_ frame: ReceivedFrame) {
    switch frame.header.type {
    case .delete:
      isDeleted = true
      entry = JobEntry(job)
    case .log, .metric:
      guard !isDeleted, let chunk = StoredChunkInfo(frame) else { return }
      let known = max(entry[chunk.stream].range?.upperBound ?? 0, fileSeq[chunk.stream] ?? 0)
      guard chunk.lastSeq > known else { return }
      _ = entry[chunk.stream].append(chunk, frame.payload, after: known, segment: 0)
    default: return
    }
  }
}
