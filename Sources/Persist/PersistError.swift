import Glibc
import JobletModel

/// Why persist could not do something.
public enum PersistError: Error, Hashable, Sendable, CustomStringConvertible {
  case system(call: String, path: String, errno: Int32)
  /// A write connection broke the protocol; it is closed with this reason.
  case protocolViolation(String)
  /// Lines or samples are missing between what is stored and what came.
  case gap(job: JobID, expected: UInt64, received: UInt64, of: JobCounter)
  /// A write-ahead log segment could not be synced and was given up.
  case logGivenUp(segment: UInt64, why: String)
  /// Nothing is appended to the log while what stood in a segment that was given up is brought to safety.
  case logSuspended
  /// The lines of the write-ahead log can't be brought into their files at the start.
  case replayStuck(String)
  /// Another persist uses the same directory.
  case inUse(path: String)
  case unsupported(String)
  case stopping

  public var description: String {
    switch self {
    case .system(let call, let path, let code): "\(call) \(path): \(String(cString: strerror(code)))"
    case .protocolViolation(let why): why
    case .gap(let job, let expected, let received, let counter):
      "job \(job): \(counter.noun) \(expected) was expected, \(received) came: what lies between was not received"
    case .logGivenUp(let segment, let why):
      "segment \(segment) of the write-ahead log was given up (\(why)); nothing in it was acknowledged"
    case .logSuspended: "the write-ahead log waits until what a failed segment held is safe"
    case .replayStuck(let why):
      "the write-ahead log can't be replayed: \(why); nothing is lost: make room or mend the files, then start again"
    case .inUse(let path): "another joblet-persist uses \(path); stop it first"
    case .unsupported(let what): what
    case .stopping: "joblet-persist is stopping"
    }
  }

  /// There is no such file.
  var isMissing: Bool {
    if case .system(_, _, let code) = self { code == ENOENT } else { false }
  }

  var isFullDisk: Bool {
    if case .system(_, _, let code) = self { code == ENOSPC || code == EDQUOT } else { false }
  }
}
