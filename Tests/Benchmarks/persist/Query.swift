import BenchmarkKit
import FoundationEssentials
import JobletModel
import JobletWire

#if canImport(Glibc)
  import Glibc
#endif

/// What a query gave.
struct Answer {
  var lines: UInt64 = 0
  var firstSeq: UInt64?
  var lastSeq: UInt64 = 0
  /// From the request to the first line, and to the end, in milliseconds.
  var firstLine = Double.nan
  var all = Double.nan
}

/// Asks the query socket on a connection of its own, and hands on the JSON lines as they come.
func query(
  _ path: String, _ query: LogQuery, _ body: (UnsafeRawBufferPointer) throws -> Void = { _ in }
) throws -> Answer {
  let socket = try FrameSocket(path)
  let request = Array(try JSONEncoder().encode(query))
  var answer = Answer()
  var isDone = false
  let asked = monotonicNow()
  try socket.send(FrameHeader(.queryLogs, job: query.job), request)
  while !isDone {
    let isOpen = try socket.receive(blocks: true) { header, payload in
      switch header.type {
      case .log:
        guard !payload.isEmpty else {
          throw BenchmarkError("the answer has a gap: \(header.count) lines from \(header.seq) on")
        }
        if answer.firstSeq == nil {
          answer.firstSeq = header.seq
          answer.firstLine = Double(monotonicNow() - asked) / 1e6
        }
        guard newlines(payload) == Int(header.count) else {
          throw BenchmarkError("a frame says \(header.count) lines and has \(newlines(payload))")
        }
        answer.lines += UInt64(header.count)
        answer.lastSeq = lastSeq(payload)
        try body(payload)
      case .done: isDone = true
      default:
        throw BenchmarkError(
          "persist answered '\(header.type)': \(String(decoding: payload.prefix(500), as: UTF8.self))")
      }
    }
    guard isOpen || isDone else { throw BenchmarkError("the connection ended in the middle of an answer") }
  }
  answer.all = Double(monotonicNow() - asked) / 1e6
  return answer
}

/// The payloads of a small answer, one behind the other.
func ask(_ path: String, _ type: FrameType, _ job: JobID, _ request: (some Encodable)?) throws -> [UInt8] {
  let socket = try FrameSocket(path)
  try socket.send(FrameHeader(type, job: job), try request.map { Array(try JSONEncoder().encode($0)) } ?? [])
  var answer: [UInt8] = []
  var isDone = false
  while !isDone {
    let isOpen = try socket.receive(blocks: true) { header, payload in
      switch header.type {
      case .metric, .record: answer += payload
      case .done: break
      default:
        throw BenchmarkError(
          "persist answered '\(header.type)': \(String(decoding: payload.prefix(500), as: UTF8.self))")
      }
      // A record is a whole answer; lines end with `done`.
      isDone = header.type != .metric
    }
    guard isOpen || isDone else { throw BenchmarkError("the connection ended in the middle of an answer") }
  }
  return answer
}

/// Whether persist answers a ping.
func answersPing(_ path: String) -> Bool {
  do {
    let socket = try FrameSocket(path)
    try socket.send(FrameHeader(.ping))
    var isDone = false
    while !isDone {
      guard try socket.receive(blocks: true, { header, _ in isDone = header.type == .done }) else { return isDone }
    }
    return true
  } catch {
    return false  // not yet
  }
}

private func newlines(_ bytes: UnsafeRawBufferPointer) -> Int {
  guard let base = bytes.baseAddress else { return 0 }
  var count = 0
  var from = 0
  while from < bytes.count, let found = memchr(base + from, 0x0A, bytes.count - from) {
    count += 1
    from = UnsafeRawPointer(found) - base + 1
  }
  return count
}

/// The number of the last of some JSON lines.
private func lastSeq(_ lines: UnsafeRawBufferPointer) -> UInt64 {
  var start = lines.count - 1
  while start > 0, lines[start - 1] != 0x0A { start -= 1 }
  return JSONLine.seq(UnsafeRawBufferPointer(rebasing: lines[max(start, 0)...])) ?? 0
}
