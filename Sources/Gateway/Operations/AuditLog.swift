import FoundationEssentials
import JobletModel
import Logging
import NIOCore
import NIOPosix

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

  enum CodingKeys: String, CodingKey {
    case ts, who, role, operation, method, path, target, outcome, status, problem, remote
    case requestID = "request_id"
  }
}

/// Writes audit lines to the log, and to a file of their own where one is configured.
public struct AuditLog: Sendable {
  private let logger: Logger
  private let file: Int32?
  private let thread: NIOThreadPool?

  /// Why the audit file can't be written: the gateway does not start without one it was told to keep.
  public struct Unwritable: Error, CustomStringConvertible {
    public var description: String
  }

  /// - Parameter file: empty for the log alone.
  public init(file path: String, logger: Logger) throws {
    self.logger = logger
    guard !path.isEmpty else {
      file = nil
      thread = nil
      return
    }
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o640)
    guard descriptor >= 0 else {
      let reason = String(cString: strerror(errno))
      throw Unwritable(description: "security.audit.log_file: can't open \(path) for appending: \(reason)")
    }
    file = descriptor
    // A thread of its own: a write to a disk may block, and the loops must not.
    let pool = NIOThreadPool(numberOfThreads: 1)
    pool.start()
    thread = pool
  }

  func write(_ record: AuditRecord) async {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let line: Data
    do {
      line = try encoder.encode(record)
    } catch {
      return logger.error("an audit line can't be encoded: \(error)")
    }
    logger.notice("audit \(String(decoding: line, as: UTF8.self))")
    guard let file, let thread else { return }
    do {
      try await thread.runIfActive { try AuditLog.append(line + [0x0A], to: file) }
    } catch {
      logger.error("an audit line could not be written to security.audit.log_file: \(error)")
    }
  }

  /// One write(2) a line: O_APPEND keeps lines whole beside other writers.
  private static func append(_ line: Data, to file: Int32) throws {
    var rest = [UInt8](line)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
      if written < 0 {
        if errno == EINTR { continue }
        throw Unwritable(description: String(cString: strerror(errno)))
      }
      rest = rest.dropFirst(written)
    }
  }
}
