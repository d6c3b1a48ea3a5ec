import JobletModel
import JobletWire
import NIOCore

#if canImport(Glibc)
  import Glibc
#endif

/// Turns a job's lines, live or stored, into a reply's bytes, each line once and in order. Bytes go from one buffer to the
/// next; nothing is allocated for a line.
public struct LogFormatter: ~Copyable, RecordFormatter {
  static var pull: FrameType { .output }
  static var carrier: FrameType { .log }
  static var isCountedByRecord: Bool { true }
  static var nouns: (records: String, whole: String) { ("lines", "output") }

  let format: StreamFormat
  let parameters: LogParameters
  private let filter: [UInt8]
  var ledger: SeqLedger
  /// What is to be sent.
  public var out = ByteBuffer()

  public init(_ format: StreamFormat, _ parameters: LogParameters) {
    self.format = format
    self.parameters = parameters
    filter = Array((parameters.filter ?? "").utf8)
    let isDescending = parameters.order == .descending
    var limit = parameters.limit
    if isDescending, let tail = parameters.tail {
      // The last so many, the newest first, are the first so many of the answer.
      limit = min(limit ?? .max, max(0, tail - (parameters.offset ?? 0)))
    }
    ledger = SeqLedger(
      order: parameters.order, after: parameters.after, before: parameters.before,
      isSelective: parameters.isSelective,
      startsAnywhere: parameters.offset != nil || parameters.tail != nil && !isDescending,
      endsAnywhere: parameters.tail != nil, limit: limit)
  }

  // MARK: Lines

  static func span(_ frame: Frame) -> (last: UInt64, time: Timestamp)? {
    frame.header.chunk.map { ($0.lastSeq, $0.timestamp) }
  }

  mutating func append(live frame: Frame, upTo most: Int) -> Bool {
    guard let chunk = frame.header.chunk else { return true }
    return append(live: chunk, payload: frame.payload, upTo: most)
  }

  mutating func append(stored frame: Frame) { append(stored: frame.payload) }

  func matches(live frame: Frame, _ body: (UInt64) -> Void) {
    if let chunk = frame.header.chunk { matches(chunk, frame.payload, body) }
  }

  func query(_ job: JobID, through: UInt64?, throughSeq: UInt64?, tail: Int?) throws -> Frame {
    let p = parameters
    let isDescending = p.order == .descending
    let query = LogQuery(
      job: job, stream: p.stream, after: isDescending ? p.after : position,
      through: isDescending && ledger.ceiling != .max ? ledger.ceiling - 1 : through, since: p.since, until: p.until,
      filter: p.filter, regex: p.regex, tail: isDescending ? nil : tail,
      limit: ledger.remaining == .max ? nil : ledger.remaining,
      // What was asked for is asked again behind the lines that came: those are not to be skipped a second time.
      offset: ledger.written == 0 ? p.offset : nil, order: isDescending ? .descending : nil, throughSeq: throughSeq)
    return try Frame(FrameHeader(.queryLogs, job: job), json: query)
  }

  /// What stands around a line in JSON and as an event: from `event: log` to the last newline.
  private static let frameBytes = 120

  /// A chunk as it stands in the ring.
  /// - Parameter most: once ``out`` has about as many bytes, the rest of the chunk's lines is left.
  /// - Returns: true if none was left.
  @discardableResult
  public mutating func append(live info: LogChunkInfo, payload: ByteBuffer, upTo most: Int = .max) -> Bool {
    guard info.lastSeq > position else { return true }
    reportGap(ledger.gap(before: info.firstSeq))
    var next: UInt64?
    if isWanted(info) {
      next = payload.withUnsafeReadableBytes { bytes in
        if format == .text { return appendText(info, bytes, upTo: most) }
        // Only while it is used: one kept for each of a thousand followers would be most of the gateway's memory.
        let room = max(0, most - out.readableBytes)
        var encoder = LogLineEncoder(capacity: min(bytes.count * 2, room) + 1024)
        let next = encode(info, bytes, &encoder, room: room)
        frame(encoder)
        return next
      }
    }
    ledger.pass(next.map { $0 - 1 } ?? info.lastSeq)
    return next == nil
  }

  /// - Returns: the first line that was left for want of room.
  private mutating func encode(
    _ info: LogChunkInfo, _ bytes: UnsafeRawBufferPointer, _ encoder: inout LogLineEncoder, room: Int
  ) -> UInt64? {
    let filter = filter
    let most = ledger.remaining
    var left = most
    var room = room
    var next: UInt64?
    encoder.append(info, payload: bytes, after: position) { seq, line in
      guard left > 0, next == nil, LogFormatter.contains(line, filter) else { return false }
      guard room > 0 else {
        next = seq
        return false
      }
      room -= line.count + LogFormatter.frameBytes
      left -= 1
      return true
    }
    ledger.spend(most - left)
    return next
  }

  private mutating func appendText(
    _ info: LogChunkInfo, _ bytes: UnsafeRawBufferPointer, upTo most: Int
  ) -> UInt64? {
    let hasRoom = bytes.count <= most - out.readableBytes
    if hasRoom, info.firstSeq > position, filter.isEmpty, ledger.remaining > Int(info.count) {
      out.writeBytes(bytes)
      ledger.spend(Int(info.count))
      return nil
    }
    var seq = info.firstSeq
    var rest = bytes
    while !rest.isEmpty, !isLimitReached {
      let newline = info.isPartial ? nil : rest.firstNewline
      let length = newline.map { $0 + 1 } ?? rest.count
      let line = UnsafeRawBufferPointer(rebasing: rest[..<(newline ?? length)])
      if seq > position, LogFormatter.contains(line, filter) {
        if out.readableBytes >= most { return seq }
        out.writeBytes(UnsafeRawBufferPointer(rebasing: rest[..<length]))
        ledger.spend()
      }
      seq += 1
      rest = UnsafeRawBufferPointer(rebasing: rest[length...])
    }
    return nil
  }

  /// JSON lines as persist answers them: chosen by its query already.
  public mutating func append(stored payload: ByteBuffer) {
    payload.withUnsafeReadableBytes { bytes in
      var rest = bytes
      while !rest.isEmpty, !isLimitReached {
        let length = rest.firstNewline ?? rest.count
        let line = UnsafeRawBufferPointer(rebasing: rest[..<length])
        if let seq = StoredLine.seq(of: line), ledger.isNew(seq) {
          reportGap(ledger.gap(before: seq))
          write(line, seq: seq)
          ledger.spend()
          ledger.pass(seq)
        }
        rest = UnsafeRawBufferPointer(rebasing: rest[min(length + 1, rest.count)...])
      }
    }
  }

  private mutating func frame(_ encoder: borrowing LogLineEncoder) {
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
      guard let stored = StoredLine(line) else { return reportGap(seq...seq) }
      var isBroken = false
      out.writeWithUnsafeMutableBytes(minimumWritableBytes: stored.maxTextLength) { room in
        guard let count = stored.writeText(to: room) else {
          isBroken = true
          return 0
        }
        return count
      }
      if isBroken { reportGap(seq...seq) }
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
}
