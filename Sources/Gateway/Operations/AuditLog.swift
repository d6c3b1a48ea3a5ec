import FoundationEssentials
import JobletModel
import Logging
import NIOCore
import NIOPosix
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// One audit line: who did what to what, and what came of it. No bodies, no query, so no secret can be in it.
public struct AuditRecord: Codable, Hashable, Sendable {
  public enum Outcome: String, Codable, Sendable { case ok, refused, failed }

  public var ts = Timestamp.now()
  /// The certificate's common name.
  public var who: String
  public var role: String
  public var operation: String
  public var method: String
  public var path: String
  /// The job it was about.
  public var target: String?
  public var outcome: Outcome
  /// The HTTP status.
  public var status: Int
  public var problem: String?
  public var requestID: String
  public var remote: String
  /// The trace the call belongs to, where it named one.
  public var traceparent: String?

  enum CodingKeys: String, CodingKey {
    case ts, who, role, operation, method, path, target, outcome, status, problem, remote, traceparent
    case requestID = "request_id"
  }
}

/// Writes audit lines to the log, and to a file of their own where one is configured.
final class AuditLog: Sendable {
  private let logger: Logger
  /// Nil for the log alone.
  private let file: AuditFile?
  private let thread: NIOThreadPool?

  /// Why the audit file can't be written: the gateway does not start without one it was told to keep.
  struct Unwritable: Error, CustomStringConvertible {
    var description: String
  }

  /// - Parameter file: empty for the log alone.
  init(file path: String, logger: Logger) throws {
    self.logger = logger
    guard !path.isEmpty else {
      file = nil
      thread = nil
      return
    }
    file = try AuditFile(path)
    // A thread of its own: a write to a disk may block, and the loops must not.
    let pool = NIOThreadPool(numberOfThreads: 1)
    pool.start()
    thread = pool
  }

  /// Opens the file by its name again: whoever rotates it moves it away first.
  /// - Throws: ``Unwritable``; the old one is written on then.
  func reopen() throws { try file?.reopen() }

  /// Returns when the line is with the kernel, whatever becomes of the caller's task: a client that leaves takes no line
  /// with it.
  func write(_ record: AuditRecord) async {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let line: [UInt8]
    do {
      line = Array(try encoder.encode(record))
    } catch {
      return logger.error("an audit line can't be encoded: \(error)")
    }
    logger.notice("audit \(String(decoding: line, as: UTF8.self))")
    guard let file, let thread else { return }
    let failure: (any Error)? = await withCheckedContinuation { continuation in
      thread.submit { _ in
        // Also where the pool is shutting down: the line is written all the same.
        do {
          try file.append(line + [0x0A])
          continuation.resume(returning: nil)
        } catch {
          continuation.resume(returning: error)
        }
      }
    }
    if let failure { logger.error("an audit line could not be written to security.audit.log_file: \(failure)") }
  }
}

/// The file of audit lines.
private final class AuditFile: Sendable {
  private let path: String
  private let descriptor: Mutex<Int32>

  init(_ path: String) throws {
    self.path = path
    descriptor = Mutex(try AuditFile.open(path))
  }

  deinit { _ = descriptor.withLock { close($0) } }

  private static func open(_ path: String) throws -> Int32 {
    let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else {
      let reason = String(cString: strerror(errno))
      throw AuditLog.Unwritable(
        description:
          "security.audit.log_file: can't open \(path) for appending: \(reason); joblet-api may write below /var/log/joblet"
      )
    }
    return descriptor
  }

  func reopen() throws {
    let new = try AuditFile.open(path)
    descriptor.withLock { descriptor in
      close(descriptor)
      descriptor = new
    }
  }

  /// One write(2) a line: O_APPEND keeps lines whole beside other writers.
  func append(_ line: [UInt8]) throws {
    try descriptor.withLock { descriptor in
      var rest = line[...]
      while !rest.isEmpty {
        let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        if written < 0 {
          if errno == EINTR { continue }
          throw AuditLog.Unwritable(description: String(cString: strerror(errno)))
        }
        rest = rest.dropFirst(written)
      }
    }
  }
}
