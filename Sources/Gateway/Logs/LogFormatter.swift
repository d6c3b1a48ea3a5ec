import JobletModel
import NIOCore

#if canImport(Glibc)
  import Glibc
#endif

/// How a job's lines are written to a client.
public enum LogFormat: String, Sendable, CaseIterable {
  case text = "text/plain"
  case ndjson = "application/x-ndjson"
  case sse = "text/event-stream"
}

/// Turns a job's lines, live or stored, into a reply's bytes, each line once and in order. Bytes go from one buffer to the
/// next; nothing is allocated for a line.
public struct LogFormatter: ~Copyable {
  private let format: LogFormat
  private let parameters: LogParameters
  private let filter: [UInt8]
  private var encoder = LogLineEncoder()
  /// Everything up to this `seq` was written, left out by the client's own wish, or reported missing.
  public private(set) var position: UInt64
  /// False until the first line of a `tail`, before which nothing is missing.
  private var isAnchored: Bool
  /// Lines that may still be written (`limit`).
  private var remaining: Int
  /// The last line of the damage that was reported: a query that is asked again meets it again.
  private var toldLost: UInt64 = 0
  /// What is to be sent.
  public var out = ByteBuffer()

  public init(_ format: LogFormat, _ parameters: LogParameters) {
    self.format = format
    self.parameters = parameters
    filter = Array((parameters.filter ?? "").utf8)
    position = parameters.after
    isAnchored = parameters.tail == nil
    remaining = parameters.limit ?? .max
  }

  public var isLimitReached: Bool { remaining <= 0 }

  /// Lines left for a query's `limit`; nil for no bound.
  public var limitLeft: Int? { parameters.limit == nil ? nil : remaining }

  // MARK: Lines

  /// A chunk as it stands in the ring.
  public mutating func append(live info: LogChunkInfo, payload: ByteBuffer) {
    guard info.lastSeq > position else { return }
    reportMissing(before: info.firstSeq)
    defer { position = max(position, info.lastSeq) }
    guard isWanted(info) else { return }
    payload.withUnsafeReadableBytes { bytes in
      if format == .text {
        appendText(info, bytes)
      } else {
        encoder.removeAll()
        appendEncoded(info, bytes)
        frameEncoded()
      }
    }
  }

  private mutating func appendEncoded(_ info: LogChunkInfo, _ bytes: UnsafeRawBufferPointer) {
    let filter = filter
    var left = remaining
    encoder.append(info, payload: bytes, after: position) { _, line in
      guard left > 0, LogFormatter.contains(line, filter) else { return false }
      left -= 1
      return true
    }
    remaining = left
  }

  private mutating func appendText(_ info: LogChunkInfo, _ bytes: UnsafeRawBufferPointer) {
    if info.firstSeq > position, filter.isEmpty, remaining > Int(info.count) {
      out.writeBytes(bytes)
      remaining -= Int(info.count)
      return
    }
    var seq = info.firstSeq
    var rest = bytes
    while !rest.isEmpty, remaining > 0 {
      let newline = info.isPartial ? nil : rest.firstNewline
      let length = newline.map { $0 + 1 } ?? rest.count
      let line = UnsafeRawBufferPointer(rebasing: rest[..<(newline ?? length)])
      if seq > position, LogFormatter.contains(line, filter) {
        out.writeBytes(UnsafeRawBufferPointer(rebasing: rest[..<length]))
        remaining -= 1
      }
      seq += 1
      rest = UnsafeRawBufferPointer(rebasing: rest[length...])
    }
  }

  /// JSON lines as persist answers them: chosen by its query already.
  public mutating func append(stored payload: ByteBuffer) {
    payload.withUnsafeReadableBytes { bytes in
      var rest = bytes
      while !rest.isEmpty, remaining > 0 {
        let length = rest.firstNewline ?? rest.count
        let line = UnsafeRawBufferPointer(rebasing: rest[..<length])
        if let seq = StoredLine.seq(of: line), seq > position {
          reportMissing(before: seq)
          write(line, seq: seq)
          remaining -= 1
          position = seq
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[min(length + 1, rest.count)...])
      }
    }
  }

  private mutating func frameEncoded() {
    guard encoder.count > 0 else { return }
    if format == .ndjson {
      out.writeBytes(encoder.bytes)
      return
    }
    var rest = encoder.bytes
    while let newline = rest.firstNewline {
      frame(UnsafeRawBufferPointer(rebasing: rest[..<newline]))
      rest = UnsafeRawBufferPointer(rebasing: rest[(newline + 1)...])
    }
  }

  private mutating func write(_ line: UnsafeRawBufferPointer, seq: UInt64) {
    switch format {
    case .sse: frame(line)
    case .ndjson:
      out.writeBytes(line)
      out.writeInteger(UInt8(0x0A))
    case .text:
      guard let stored = StoredLine(line) else { return reportGap(from: seq, to: seq) }
      var isBroken = false
      out.writeWithUnsafeMutableBytes(minimumWritableBytes: stored.maxTextLength) { room in
        guard let count = stored.writeText(to: room) else {
          isBroken = true
          return 0
        }
        return count
      }
      if isBroken { reportGap(from: seq, to: seq) }
    }
  }

  /// One SSE event. The `id` is copied from the JSON, where it stands first: `{"seq":17,`.
  private mutating func frame(_ line: UnsafeRawBufferPointer) {
    var end = 7
    while end < line.count, line[end] != UInt8(ascii: ",") { end += 1 }
    guard end < line.count else { return }
    out.writeStaticString("event: log\nid: ")
    out.writeBytes(UnsafeRawBufferPointer(rebasing: line[7..<end]))
    out.writeStaticString("\ndata: ")
    out.writeBytes(line)
    out.writeStaticString("\n\n")
  }

  // MARK: Choosing

  private func isWanted(_ info: LogChunkInfo) -> Bool {
    if let stream = parameters.stream, stream != info.stream { return false }
    if let since = parameters.since, info.timestamp < since { return false }
    if let until = parameters.until, info.timestamp > until { return false }
    return true
  }

  /// How many of a chunk's lines the client would see, and the numbers of the last of them: for `tail`.
  func matches(_ info: LogChunkInfo, _ payload: ByteBuffer, _ body: (UInt64) -> Void) {
    guard isWanted(info) else { return }
    payload.withUnsafeReadableBytes { bytes in
      var rest = bytes
      var seq = info.firstSeq
      while !rest.isEmpty {
        let newline = info.isPartial ? nil : rest.firstNewline
        let line = UnsafeRawBufferPointer(rebasing: rest[..<(newline ?? rest.count)])
        if seq > position, LogFormatter.contains(line, filter) { body(seq) }
        seq += 1
        rest = UnsafeRawBufferPointer(rebasing: rest[(newline.map { $0 + 1 } ?? rest.count)...])
      }
    }
  }

  private static func contains(_ line: UnsafeRawBufferPointer, _ text: [UInt8]) -> Bool {
    guard !text.isEmpty else { return true }
    return text.withUnsafeBytes { text in
      guard let wanted = text.baseAddress else { return true }
      var rest = line
      // From one occurrence of the first byte to the next (memchr is many bytes a cycle), then the whole text.
      while rest.count >= text.count, let base = rest.baseAddress,
        let found = memchr(base, Int32(text[0]), rest.count - text.count + 1)
      {
        if memcmp(found, wanted, text.count) == 0 { return true }
        rest = UnsafeRawBufferPointer(rebasing: rest[(UnsafeRawPointer(found) - base + 1)...])
      }
      return false
    }
  }

  // MARK: What is not a line

  private mutating func reportMissing(before seq: UInt64) {
    defer { isAnchored = true }
    guard isAnchored, !parameters.isSelective, seq > position + 1 else { return }
    reportGap(from: position + 1, to: seq - 1)
  }

  /// Everything up to `seq` is accounted for; what was not seen of it is missing.
  public mutating func advance(to seq: UInt64) {
    guard seq > position else { return }
    if remaining > 0 { reportMissing(before: seq + 1) }
    position = seq
  }

  /// The same where all lines up to `seq` are known to be lost: that is said to a client who chose among lines as well.
  public mutating func advance(pastLost seq: UInt64) {
    guard seq > position else { return }
    if remaining > 0 {
      if isAnchored { reportGap(from: position + 1, to: seq) }
      isAnchored = true
    }
    position = seq
  }

  /// persist can't give these lines. Who gets every line is told by the numbers that don't come; who chose among them would
  /// take the loss for lines that did not match. The other stream's lines of the range still come.
  public mutating func append(damagedFrom first: UInt64, count: UInt32) {
    guard parameters.isSelective, remaining > 0, count > 0 else { return }
    let (last, isBeyond) = first.addingReportingOverflow(UInt64(count) - 1)
    let from = max(first, position + 1, toldLost + 1)
    guard !isBeyond, from <= last else { return }
    toldLost = last
    reportGap(from: from, to: last)
  }

  /// Goes to a place in the log from which on lines are wanted; nothing before it is missing.
  public mutating func jump(to seq: UInt64) {
    position = max(position, seq)
    isAnchored = true
  }

  /// Lines that are lost for good. In plain text it is said in a line of our own, since there is no other place for it.
  public mutating func reportGap(from first: UInt64, to last: UInt64) {
    switch format {
    case .sse: out.writeString("event: gap\ndata: {\"from\":\(first),\"to\":\(last)}\n\n")
    case .ndjson: out.writeString("{\"gap\":{\"from\":\(first),\"to\":\(last)}}\n")
    case .text: out.writeString("[joblet: lines \(first) to \(last) of the output are missing]\n")
    }
  }

  /// The one terminal event. Plain text has none: its end is the body's; NDJSON has it where it was followed, so that a
  /// query's lines are those of the stored file and no other.
  public mutating func reportEnd(_ end: JobEnd) {
    switch format {
    case .sse:
      out.writeStaticString("event: end\ndata: ")
      out.writeImmutableBuffer(JSONText.encodeFragment(end))
      out.writeStaticString("\n\n")
    case .ndjson:
      guard parameters.follow else { return }
      out.writeStaticString("{\"end\":")
      out.writeImmutableBuffer(JSONText.encodeFragment(end))
      out.writeStaticString("}\n")
    case .text: break
    }
  }

  /// Where a client that lost the stream should wait before it comes again; sent once.
  public mutating func begin() {
    if format == .sse { out.writeStaticString("retry: 2000\n\n") }
  }

  /// A comment that keeps proxies and clients from giving up a silent stream. The other formats have no place for one.
  public mutating func heartbeat() {
    if format == .sse { out.writeStaticString(": still here\n\n") }
  }

  public mutating func reportReconnect() {
    if format == .sse {
      out.writeStaticString("event: reconnect\ndata: {\"reason\":\"the gateway is restarting\"}\n\n")
    }
  }
}
