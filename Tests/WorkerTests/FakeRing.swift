import Glibc
import JobletModel
import Worker

/// A directory of its own for a test, removed with it.
final class TemporaryDirectory: Sendable {
  let path: String

  init() {
    var template = Array("/tmp/joblet-worker-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }

  deinit { try? TreeRemover.remove(String(path.dropFirst("/tmp/".count)), in: "/tmp") }
}

/// joblet-init's side of a ring, and every lie it could tell.
final class FakeRing {
  let directory = TemporaryDirectory()
  let ring: RingMapping
  var head: UInt64 = 0
  var seq: UInt64 = 1

  /// The ring of a job that is there.
  init(opening path: String) throws { ring = try RingMapping(opening: path) }

  init(dataSize: Int = 1 << 17, maxRecords: Int = 10_000) throws {
    ring = try RingMapping(creating: directory.path + "/ring", dataSize: dataSize, maxRecords: maxRecords)
  }

  func reopen() throws -> RingMapping { try RingMapping(opening: directory.path + "/ring") }

  var space: Int { ring.dataSize - Int(head - ring.load64(RingLayout.Field.acked)) }

  struct Entry {
    var length: UInt32
    var count: UInt32
    var first: UInt64
    var time: Int64 = 1_000_000_000
    var stream: UInt8 = 1
    var flags: UInt8 = 0
  }

  /// Commits lines as one entry, as joblet-init does.
  func write(_ lines: [String], stream: LogStream = .stdout, isPartial: Bool = false) {
    let text = isPartial ? lines.joined() : lines.map { $0 + "\n" }.joined()
    let bytes = Array(text.utf8)
    commit(
      Entry(
        length: UInt32(bytes.count), count: isPartial ? 1 : UInt32(lines.count), first: seq, stream: stream.rawValue,
        flags: isPartial ? 1 : 0), bytes)
  }

  /// Commits an entry, true or not.
  func commit(_ entry: Entry, _ payload: [UInt8]) {
    let size = RingLayout.entrySize(payload: payload.count)
    ring.store64(RingLayout.Field.reserved, head + UInt64(size))
    let place = ring.address(head)
    place.storeBytes(of: entry.length, as: UInt32.self)
    place.storeBytes(of: entry.count, toByteOffset: 4, as: UInt32.self)
    place.storeBytes(of: entry.first, toByteOffset: 8, as: UInt64.self)
    place.storeBytes(of: entry.time, toByteOffset: 16, as: Int64.self)
    place.storeBytes(of: entry.stream, toByteOffset: 24, as: UInt8.self)
    place.storeBytes(of: entry.flags, toByteOffset: 25, as: UInt8.self)
    payload.withUnsafeBytes { (place + 32).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    head += UInt64(size)
    seq += UInt64(entry.count)
    ring.store64(RingLayout.Field.nextSeq, seq)
    ring.store64(RingLayout.Field.head, head)
  }

  func end(kind: UInt32, code: UInt32, timedOut: Bool = false) {
    ring.store32(RingLayout.Field.endKind, kind)
    ring.store32(RingLayout.Field.endCode, code)
    ring.store32(RingLayout.Field.timedOut, timedOut ? 1 : 0)
    ring.store64(RingLayout.Field.endedAt, 2_000_000_000)
    ring.store32(RingLayout.Field.phase, 3)
  }
}

/// A small generator with a fixed seed (SplitMix64), so that a failure comes again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
