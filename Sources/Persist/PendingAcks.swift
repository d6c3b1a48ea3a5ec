import JobletModel
import JobletWire

/// Acknowledgements that are still to be sent: one a job and kind, the highest, so that a peer that does not read them
/// costs no more memory than it has jobs.
struct PendingAcks {
  private var waiting = AckSet()
  /// A whole condition frame that is still to be sent; a newer one takes its place.
  private var condition: [UInt8] = []
  /// Frames that the peer is taking.
  private var bytes: [UInt8] = []
  private var sent = 0

  var isEmpty: Bool { waiting.all.isEmpty && condition.isEmpty && sent == bytes.count }

  mutating func set(condition frame: [UInt8]) { condition = frame }

  mutating func add(_ acks: [Ack]) {
    for ack in acks { waiting.add(ack.kind, ack.job, ack.seq) }
  }

  /// The next bytes to send.
  mutating func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    if sent == bytes.count { encode() }
    return bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[sent...])) }
  }

  mutating func consume(_ count: Int) { sent += count }

  private mutating func encode() {
    bytes.removeAll(keepingCapacity: true)
    sent = 0
    bytes += condition
    condition = []
    for ack in waiting.all {
      let start = bytes.count
      bytes.append(contentsOf: repeatElement(0, count: FrameHeader.byteCount))
      let header = FrameHeader(.ack, stream: ack.kind.rawValue, job: ack.job, seq: ack.seq)
      bytes.withUnsafeMutableBytes { header.encode(into: UnsafeMutableRawBufferPointer(rebasing: $0[start...])) }
    }
    waiting.removeAll()
  }
}
