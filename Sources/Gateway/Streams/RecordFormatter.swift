import JobletModel
import JobletWire
import NIOCore

/// Turns one kind of a job's records, live or stored, into a reply's bytes, each once and in order. ``Follower`` drives it.
protocol RecordFormatter: ~Copyable, SendableMetatype {
  associatedtype Parameters: StreamParameters

  /// What exec is asked for the records its ring holds.
  static var pull: FrameType { get }
  /// The frames that carry the records, from exec and from persist.
  static var carrier: FrameType { get }
  /// True if a job's record names the last record's number (`last_seq`).
  static var isCountedByRecord: Bool { get }

  init(_ format: StreamFormat, _ parameters: Parameters)

  /// What stands before everything else.
  mutating func begin()

  var format: StreamFormat { get }
  var parameters: Parameters { get }
  var ledger: SeqLedger { get set }
  /// What is to be sent.
  var out: ByteBuffer { get set }
  /// What plain text calls the records, and what they are of.
  static var nouns: (records: String, whole: String) { get }

  /// The last number in a frame of exec's, and its time. Nil for one that makes no sense.
  static func span(_ frame: Frame) -> (last: UInt64, time: Timestamp)?
  /// Takes the records of exec's frame that come behind the position, until the reply has that many bytes; at least one, if it
  /// had fewer before.
  /// - Returns: true if it took them all; the position says how far it came.
  mutating func append(live frame: Frame, upTo most: Int) -> Bool
  mutating func append(stored frame: Frame)
  /// Calls `body` with the numbers of a live frame's wanted records.
  func matches(live frame: Frame, _ body: (UInt64) -> Void)
  /// A query for what the client has not got yet.
  func query(_ job: JobID, through: UInt64?, throughSeq: UInt64?, tail: Int?) throws -> Frame
}

extension RecordFormatter where Self: ~Copyable {
  /// Everything up to this `seq` was written, left out by the client's own wish, or reported missing.
  var position: UInt64 { ledger.position }
  var isLimitReached: Bool { ledger.isLimitReached }

  mutating func begin() { format.begin(&out) }
  mutating func heartbeat() { format.heartbeat(&out) }
  mutating func reportReconnect() { format.reconnect(&out) }
  mutating func reportEnd(_ end: JobEnd) { format.end(end, isFollowed: parameters.follow, &out) }

  mutating func reportGap(_ missing: ClosedRange<UInt64>?) {
    if let missing { format.gap(missing, of: Self.nouns, &out) }
  }

  mutating func jump(to seq: UInt64) { ledger.jump(to: seq) }
  mutating func begin(at last: UInt64) { ledger.begin(at: last) }
  /// Everything up to `seq` is accounted for; what was not seen of it is missing.
  mutating func advance(to seq: UInt64) { reportGap(ledger.advance(to: seq)) }
  /// Everything up to `seq` that was not seen is known to be lost.
  mutating func advance(pastLost seq: UInt64) { reportGap(ledger.advance(pastLost: seq)) }
  mutating func append(damagedFrom first: UInt64, count: UInt32) {
    reportGap(ledger.damage(from: first, count: count))
  }
}
