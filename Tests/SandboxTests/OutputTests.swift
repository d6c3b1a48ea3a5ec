import CInitABI
import Testing

/// A ring in plain memory with joblet-init's own producer on one side and a reader on the other.
final class TestRing {
  struct Record: Equatable {
    var text: String
    var partial = false
    init(_ text: String, partial: Bool = false) {
      self.text = text
      self.partial = partial
    }
  }

  let header = UnsafeMutablePointer<joblet_ring_header>.allocate(capacity: 1)
  let dataSize: Int
  let data: UnsafeMutablePointer<UInt8>
  let lines = UnsafeMutablePointer<joblet_lines>.allocate(capacity: 1)
  var writer = joblet_writer()
  var position: UInt64 = 0
  var nextSeq: UInt64 = 1
  var bytes: [UInt8] = []
  var maxCount: UInt32 = 0

  init(dataSize: Int = 1 << 17, maxRecords: UInt64 = 1000) {
    self.dataSize = dataSize
    // Not mirrored here: an entry that wraps lands behind the first copy and is read from there.
    data = .allocate(capacity: 2 * dataSize)
    data.initialize(repeating: 0, count: 2 * dataSize)
    header.initialize(to: joblet_ring_header())
    header.pointee.magic = UInt64(JOBLET_RING_MAGIC)
    header.pointee.data_size = UInt64(dataSize)
    header.pointee.max_records = maxRecords
    header.pointee.next_seq = 1
    lines.initialize(to: joblet_lines())
    lines.pointee.stream = UInt8(JOBLET_STDOUT.rawValue)
    #expect(joblet_writer_open(&writer, header, data, UInt64(dataSize)) == 0)
  }

  deinit {
    header.deallocate()
    data.deallocate()
    lines.deallocate()
  }

  /// Puts as many bytes as there is room for into the line buffer. - Returns: how many.
  func put(_ new: some Collection<UInt8>) -> Int {
    let used = Int(lines.pointee.length)
    let count = min(new.count, Int(JOBLET_RING_MAX_PAYLOAD) - used)
    for (index, byte) in new.prefix(count).enumerated() { joblet_lines_bytes(lines)[used + index] = byte }
    lines.pointee.length += UInt32(count)
    return count
  }

  func commit(flush: Int32 = 0) -> Bool { joblet_lines_commit(lines, &writer, flush) == JOBLET_LINES_BLOCKED }

  /// Takes everything that is committed, checks it as exec does, and acknowledges it.
  @discardableResult func drain(acknowledge: Bool = true) -> [Record] {
    var records: [Record] = []
    let head = joblet_ring_head(header)
    while position < head {
      let place = UnsafeRawPointer(data) + Int(position & UInt64(dataSize - 1))
      let entry = place.loadUnaligned(as: joblet_ring_entry.self)
      #expect(entry.first_seq == nextSeq)
      #expect((1...Int(JOBLET_RING_MAX_PAYLOAD)).contains(Int(entry.length)))
      let payload = Array(UnsafeRawBufferPointer(start: place + 32, count: Int(entry.length)))
      let partial = entry.flags == UInt8(JOBLET_ENTRY_PARTIAL.rawValue)
      if partial {
        #expect(entry.count == 1 && !payload.contains(10))
        records.append(Record(String(decoding: payload, as: UTF8.self), partial: true))
      } else {
        #expect(payload.last == 10 && payload.count { $0 == 10 } == entry.count)
        for line in payload.dropLast().split(separator: 10, omittingEmptySubsequences: false) {
          records.append(Record(String(decoding: line, as: UTF8.self)))
        }
      }
      maxCount = max(maxCount, entry.count)
      bytes += payload
      nextSeq += UInt64(entry.count)
      position += (32 + UInt64(entry.length) + 7) & ~7
    }
    if acknowledge { _ = joblet_ring_acknowledge(header, position, nextSeq - 1) }
    #expect(joblet_ring_next_seq(header) == nextSeq)
    return records
  }
}

@Suite struct OutputTests {
  @Test func completeLinesGoAndBeginningsWait() {
    let ring = TestRing()
    _ = ring.put("one\ntwo\nthr".utf8)
    #expect(!ring.commit())
    #expect(ring.drain() == [.init("one"), .init("two")])
    _ = ring.put("ee\n".utf8)
    #expect(!ring.commit())
    #expect(ring.drain() == [.init("three")])
  }

  @Test func aPromptIsFlushedWithoutBreakingACharacter() {
    let ring = TestRing()
    _ = ring.put(Array("naïve".utf8).prefix(3))  // n, a, and half an ï
    #expect(!ring.commit())
    #expect(ring.drain() == [])
    #expect(!ring.commit(flush: 1))
    #expect(ring.drain() == [.init("na", partial: true)])
    _ = ring.put(Array("naïve".utf8).dropFirst(3))
    #expect(!ring.commit(flush: 1))
    #expect(ring.drain() == [.init("ïve", partial: true)])
  }

  @Test func halfACharacterAloneStillGoes() {
    let ring = TestRing()
    _ = ring.put([0xC3])
    #expect(!ring.commit(flush: 1))
    ring.drain()
    #expect(ring.bytes == [0xC3])
  }

  @Test func theLastBytesGoAtTheEnd() {
    let ring = TestRing()
    _ = ring.put([0x61, 0x0A, 0x62, 0xE2, 0x82])
    #expect(!ring.commit(flush: 2))
    ring.drain()
    #expect(ring.bytes == [0x61, 0x0A, 0x62, 0xE2, 0x82])
    #expect(ring.lines.pointee.length == 0)
  }

  @Test func aLongLineGoesInParts() {
    let ring = TestRing()
    let line = [UInt8](repeating: 0x78, count: 150_000) + [10]
    var rest = line[...]
    var records: [TestRing.Record] = []
    while !rest.isEmpty {
      rest = rest.dropFirst(ring.put(rest))
      #expect(!ring.commit())
      records += ring.drain()
    }
    #expect(records.map(\.partial) == [true, true, false])
    #expect(records.map(\.text.utf8.count) == [65_536, 65_536, 18_928])
    #expect(ring.bytes == line)
  }

  @Test func aFullRingBlocksAndLosesNothing() {
    let ring = TestRing(maxRecords: 10)
    _ = ring.put((1...25).map { "line \($0)\n" }.joined().utf8)
    #expect(ring.commit())
    #expect(ring.drain().count == 10)
    #expect(ring.commit())
    #expect(ring.drain().count == 10)
    #expect(!ring.commit())
    #expect(ring.drain().map(\.text) == (21...25).map { "line \($0)" })
    #expect(ring.maxCount <= 10)
  }

  @Test func anythingComesOutAsItWentIn() {
    var random = PlanReaderTests.Generator(state: 7)
    for round in 0..<60 {
      let ring = TestRing(maxRecords: UInt64.random(in: 1...400, using: &random))
      var source: [UInt8] = []
      let length = Int.random(in: 1...200_000, using: &random)
      let newline = Int.random(in: 1...3000, using: &random)
      while source.count < length {
        source.append(Int.random(in: 0..<newline, using: &random) == 0 ? 10 : UInt8.random(in: 0...255, using: &random))
      }
      var rest = source[...]
      var blocked = false
      while !rest.isEmpty || blocked {
        if !blocked { rest = rest.dropFirst(ring.put(rest.prefix(Int.random(in: 1...70_000, using: &random)))) }
        blocked = ring.commit(flush: Int.random(in: 0..<3, using: &random) == 0 ? 1 : 0)
        if blocked || Bool.random(using: &random) { ring.drain() }
      }
      while ring.commit(flush: 2) { ring.drain() }
      ring.drain()
      #expect(ring.bytes == source, "round \(round)")
    }
  }

  @Test func overwrittenBytesAreKnown() {
    let ring = TestRing()
    var first: UInt64 = 0
    for round in 0..<40 {
      _ = ring.put([UInt8](repeating: 0x61, count: 8000) + [10])
      #expect(!ring.commit())
      ring.drain()
      if round == 0 { first = 0 }
    }
    #expect(joblet_ring_copy_is_true(ring.header, first, UInt64(ring.dataSize)) == 0)
    let recent = ring.position - 8040
    #expect(joblet_ring_copy_is_true(ring.header, recent, UInt64(ring.dataSize)) == 1)
  }

  @Test func aHeaderThatIsNotARingIsRefused() {
    let ring = TestRing()
    var writer = joblet_writer()
    ring.header.pointee.magic = 1
    #expect(joblet_writer_open(&writer, ring.header, ring.data, UInt64(ring.dataSize)) < 0)
    ring.header.pointee.magic = UInt64(JOBLET_RING_MAGIC)
    #expect(joblet_writer_open(&writer, ring.header, ring.data, 65_536) < 0)
    ring.header.pointee.next_seq = 0
    #expect(joblet_writer_open(&writer, ring.header, ring.data, UInt64(ring.dataSize)) < 0)
  }
}
