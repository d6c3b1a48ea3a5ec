import FoundationEssentials
import Glibc
import JobletModel
import LocalStore
import LogStore

/// A local store in a directory of its own, gone with the test.
final class LocalBench: Sendable {
  let path: String

  static let job = LogStoreConformance.job

  init() {
    var template = Array("/tmp/joblet-local-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template))
  }

  // Removes links as themselves.
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func open() throws -> LocalLogStore { try LocalLogStore(logs: path + "/logs", metrics: path + "/metrics") }

  func reader() throws -> LocalLogStore { try LocalLogStore(existingLogs: path + "/logs", metrics: path + "/metrics") }

  var directory: String { "\(path)/logs/\(LocalBench.job)" }
  var file: String { directory + "/stdout.log.gz" }
  var metricsFile: String { "\(path)/metrics/\(LocalBench.job)/metrics.jsonl.gz" }

  func bytes(_ path: String) -> [UInt8] { FileManager.default.contents(atPath: path).map { Array($0) } ?? [] }

  func write(_ bytes: [UInt8], to path: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

  /// One chunk of `count` lines, all of one second.
  static func chunk(_ first: UInt64, count: Int, second: Int64, text: (UInt64) -> String = { "line \($0)" }) -> LogChunk
  {
    let info = LogChunkInfo(
      stream: .stdout, firstSeq: first, count: UInt32(count),
      timestamp: Timestamp(nanoseconds: 1_700_000_000_000_000_000 + second * 1_000_000_000), isPartial: false)
    let lines = (0..<UInt64(count)).map { text(first + $0) + "\n" }.joined()
    return Array(lines.utf8).withUnsafeBytes { LogChunk(info, copying: $0) }
  }

  static func time(_ second: Int64) -> Timestamp {
    Timestamp(nanoseconds: 1_700_000_000_000_000_000 + second * 1_000_000_000)
  }

  /// Members of ten lines each, one a second; `clock` says the second of a member.
  func fill(members: Int, clock: (Int) -> Int64 = { Int64($0) }) throws -> LocalLogStore {
    let store = try open()
    for index in 0..<members {
      let chunk = LocalBench.chunk(UInt64(index * 10 + 1), count: 10, second: clock(index))
      try store.append([chunk], job: LocalBench.job, stream: .stdout)
    }
    try store.sync(LocalBench.job)
    return store
  }

  static func members(_ bytes: [UInt8]) -> [(offset: Int, header: MemberHeader)] {
    var found: [(Int, MemberHeader)] = []
    var offset = 0
    while offset < bytes.count, let header = bytes[offset...].withUnsafeBytes({ MemberHeader($0) }) {
      found.append((offset, header))
      offset += Int(header.memberLength)
    }
    return found
  }

  /// The numbers a query gives, and the gaps.
  static func ask(_ store: LocalLogStore, _ query: LogQuery) throws -> (seqs: [UInt64], gaps: [ClosedRange<UInt64>]) {
    let scanner = try LogScanner(query) { [try store.pages(job, $0, $1, $2)] }
    var seqs: [UInt64] = []
    var gaps: [ClosedRange<UInt64>] = []
    while true {
      switch try scanner.next() {
      case .lines(_, _, let bytes):
        seqs += bytes.split(separator: 0x0A).compactMap { LogLine(json: Array($0))?.seq }
      case .gap(let first, let last): gaps.append(first...last)
      case .working: continue
      case .end: return (seqs, gaps)
      }
    }
  }
}
