import FoundationEssentials
import JobletModel
import JobletWire
import NIOCore

/// Turns a job's samples, live or stored, or the store's aggregates of them, into a reply's bytes: the JSON lines as they
/// are, or a row each.
struct MetricFormatter: ~Copyable, RecordFormatter {
  static var pull: FrameType { .metricOutput }
  static var carrier: FrameType { .metric }
  static var isCountedByRecord: Bool { false }
  static var nouns: (records: String, whole: String) { ("samples", "metrics") }

  let format: StreamFormat
  let parameters: MetricParameters
  var ledger: SeqLedger
  var out = ByteBuffer()
  private let table: MetricTable
  private let decoder = JSONDecoder()
  /// Bounds of a sample's time, in the form it stands in a line: that form sorts by time.
  private let (since, until): ([UInt8]?, [UInt8]?)

  init(_ format: StreamFormat, _ parameters: MetricParameters) {
    self.format = format
    self.parameters = parameters
    table = MetricTable(isAggregated: parameters.aggregate != nil)
    since = parameters.since.map { Array($0.description.utf8) }
    until = parameters.until.map { Array($0.description.utf8) }
    ledger = SeqLedger(
      order: parameters.order, after: parameters.after, before: parameters.before,
      // Aggregates have no numbers: none of them can be missing.
      isSelective: parameters.isSelective || parameters.aggregate != nil, startsAnywhere: parameters.offset != nil,
      limit: parameters.limit)
  }

  mutating func begin() {
    format.begin(&out)
    if format == .text { out.writeString(table.header + "\n") }
  }

  static func span(_ frame: Frame) -> (last: UInt64, time: Timestamp)? {
    let header = frame.header
    guard header.count > 0, header.seq > 0, header.seq <= UInt64.max - UInt64(header.count) else { return nil }
    return (header.seq + UInt64(header.count) - 1, header.timestamp)
  }

  /// Samples are JSON already, and grow little.
  mutating func append(live frame: Frame, upTo most: Int) -> Bool {
    append(frame.payload)
    // What was not wanted of it is done with, too.
    if let (last, _) = MetricFormatter.span(frame) { ledger.pass(last) }
    return true
  }

  mutating func append(stored frame: Frame) { append(frame.payload) }

  func matches(live frame: Frame, _ body: (UInt64) -> Void) {}  // there is no `tail` to count them for

  func query(_ job: JobID, through: UInt64?, throughSeq: UInt64?, tail: Int?) throws -> Frame {
    let p = parameters
    let isDescending = p.order == .descending
    var offset = ledger.written == 0 ? p.offset : nil
    // Aggregates have no numbers to go on from: those that came are counted off.
    if p.aggregate != nil, ledger.written > 0 { offset = (p.offset ?? 0) + ledger.written }
    var until = p.until
    if isDescending, ledger.ceiling != .max, let last = lastTime {
      // Going down, a reader that stopped goes on from the time of its last sample; the ledger knows which it has.
      until = min(until ?? last, last)
    }
    let query = MetricQuery(
      job: job, after: isDescending ? p.after : position, since: p.since, until: until,
      limit: ledger.remaining == .max || isDescending && ledger.ceiling != .max ? nil : ledger.remaining,
      offset: offset, order: isDescending ? .descending : nil, aggregate: p.aggregate,
      intervalMilliseconds: p.interval?.milliseconds, throughSeq: throughSeq)
    return try Frame(FrameHeader(.queryMetrics, job: job), json: query)
  }

  /// Descending: the time of the last sample that was written.
  private var lastTime: Timestamp?

  // MARK: Lines

  private mutating func append(_ payload: ByteBuffer) {
    payload.withUnsafeReadableBytes { bytes in
      var rest = bytes
      while !rest.isEmpty, !isLimitReached {
        let length = rest.firstNewline ?? rest.count
        append(UnsafeRawBufferPointer(rebasing: rest[..<length]))
        rest = UnsafeRawBufferPointer(rebasing: rest[min(length + 1, rest.count)...])
      }
    }
  }

  private mutating func append(_ line: UnsafeRawBufferPointer) {
    if parameters.aggregate != nil {
      write(line, seq: nil)
      return ledger.spend()
    }
    guard let seq = StoredLine.seq(of: line), ledger.isNew(seq) else { return }
    guard isWanted(line) else { return }
    reportGap(ledger.gap(before: seq))
    write(line, seq: seq)
    ledger.spend()
    ledger.pass(seq)
    if parameters.order == .descending { lastTime = MetricFormatter.time(of: line).flatMap(Timestamp.init(rfc3339:)) }
  }

  /// persist has chosen already; what exec sends is whatever there is.
  private func isWanted(_ line: UnsafeRawBufferPointer) -> Bool {
    guard since != nil || until != nil else { return true }
    guard let time = StoredLine.time(of: line) else { return false }
    if let since, time.lexicographicallyPrecedes(since) { return false }
    if let until, until.lexicographicallyPrecedes(time) { return false }
    return true
  }

  private static func time(of line: UnsafeRawBufferPointer) -> String? {
    StoredLine.time(of: line).map { String(decoding: $0, as: UTF8.self) }
  }

  private mutating func write(_ line: UnsafeRawBufferPointer, seq: UInt64?) {
    switch format {
    case .sse:
      out.writeStaticString("event: metrics\n")
      if let seq { out.writeString("id: \(seq)\n") }
      out.writeStaticString("data: ")
      out.writeBytes(line)
      out.writeStaticString("\n\n")
    case .ndjson:
      out.writeBytes(line)
      out.writeInteger(UInt8(0x0A))
    case .text:
      do {
        out.writeString(table.row(try decoder.decode(MetricPoint.self, from: Data(line))) + "\n")
      } catch {
        // Something stands there that is no sample; what it is can be seen as JSON lines.
        if let seq { reportGap(seq...seq) } else { out.writeString("[joblet: a line of the metrics can't be read]\n") }
      }
    }
  }
}
