import CInitABI
import Glibc
import JobletModel
import JobletWire
import Testing
import Worker

@Suite struct RingLayoutTests {
  @Test func theOffsetsAreThoseOfTheHeader() {
    typealias H = joblet_ring_header
    let pairs: [(Int, Int?)] = [
      (RingLayout.Field.magic, MemoryLayout<H>.offset(of: \.magic)),
      (RingLayout.Field.dataSize, MemoryLayout<H>.offset(of: \.data_size)),
      (RingLayout.Field.maxRecords, MemoryLayout<H>.offset(of: \.max_records)),
      (RingLayout.Field.reserved, MemoryLayout<H>.offset(of: \.reserved)),
      (RingLayout.Field.head, MemoryLayout<H>.offset(of: \.head)),
      (RingLayout.Field.nextSeq, MemoryLayout<H>.offset(of: \.next_seq)),
      (RingLayout.Field.initWaiting, MemoryLayout<H>.offset(of: \.init_waiting)),
      (RingLayout.Field.phase, MemoryLayout<H>.offset(of: \.phase)),
      (RingLayout.Field.endKind, MemoryLayout<H>.offset(of: \.end_kind)),
      (RingLayout.Field.endCode, MemoryLayout<H>.offset(of: \.end_code)),
      (RingLayout.Field.timedOut, MemoryLayout<H>.offset(of: \.timed_out)),
      (RingLayout.Field.startedAt, MemoryLayout<H>.offset(of: \.started_at)),
      (RingLayout.Field.endedAt, MemoryLayout<H>.offset(of: \.ended_at)),
      (RingLayout.Field.setupStep, MemoryLayout<H>.offset(of: \.setup_step)),
      (RingLayout.Field.setupErrno, MemoryLayout<H>.offset(of: \.setup_errno)),
      (RingLayout.Field.violation, MemoryLayout<H>.offset(of: \.violation)),
      (RingLayout.Field.violationCall, MemoryLayout<H>.offset(of: \.violation_call)),
      (RingLayout.Field.violationArchitecture, MemoryLayout<H>.offset(of: \.violation_arch)),
      (RingLayout.Field.acked, MemoryLayout<H>.offset(of: \.acked)),
      (RingLayout.Field.stopReached, MemoryLayout<H>.offset(of: \.stop_reached)),
      (RingLayout.Field.ackedSeq, MemoryLayout<H>.offset(of: \.acked_seq)),
      (RingLayout.Field.execWaiting, MemoryLayout<H>.offset(of: \.exec_waiting)),
      (RingLayout.Field.go, MemoryLayout<H>.offset(of: \.go)),
      (RingLayout.Field.stopIntent, MemoryLayout<H>.offset(of: \.stop_intent)),
      (RingLayout.Field.trace, MemoryLayout<H>.offset(of: \.trace)),
      (
        RingLayout.Field.traceExec,
        MemoryLayout<H>.offset(of: \.trace).map { $0 + 8 * Int(JOBLET_TRACE_EXEC.rawValue) }
      ),
      (RingLayout.headerSize, MemoryLayout<H>.size),
      (RingLayout.entryHeaderSize, MemoryLayout<joblet_ring_entry>.size),
      (24, MemoryLayout<joblet_ring_entry>.offset(of: \.stream)),
      (25, MemoryLayout<joblet_ring_entry>.offset(of: \.flags)),
    ]
    for (ours, theirs) in pairs { #expect(ours == theirs) }
    #expect(RingLayout.magic == 0x3147_4E52_544C_424A)
  }

  @Test(arguments: [(0, 1 << 17), (1000, 1 << 17), (2000, 1 << 18), (10_000, 1 << 20), (1_000_000, 1 << 20)])
  func aRingHasRoomForItsRecordsButNeverMoreThanAMebibyte(records: Int, size: Int) {
    #expect(RingMapping.dataSize(forRecords: records) == size)
  }
}

@Suite struct RingConsumerTests {
  @Test func linesComeInOrderAndSpaceComesBack() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: try fake.reopen())
    try holds(!consumer.look())
    fake.write(["a", "b"])
    fake.write(["e"], stream: .stderr)
    fake.write(["prompt> "], isPartial: true)
    try holds(consumer.look())
    #expect(consumer.seenSeq == 4)
    let entries = [try consumer.nextToSend(), try consumer.nextToSend(), try consumer.nextToSend()]
    try same(consumer.nextToSend(), nil)
    #expect(entries.map { $0?.chunk.firstSeq } == [1, 3, 4])
    #expect(entries.map { $0?.chunk.stream } == [.stdout, .stderr, .stdout])
    #expect(entries.map { $0?.chunk.isPartial } == [false, false, true])
    fake.ring.store32(RingLayout.Field.initWaiting, 1)
    // In the middle of the first chunk: nothing is given back for half of one.
    try holds(!consumer.acknowledge(1))
    #expect(consumer.acked == 0)
    try holds(consumer.acknowledge(3))
    #expect(fake.ring.load64(RingLayout.Field.ackedSeq) == 3)
    #expect(fake.ring.load64(RingLayout.Field.acked) == entries[2]?.offset)
  }

  @Test func anAcknowledgementOfWhatWasNotSentMovesNothing() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.write(["a"])
    _ = try consumer.look()
    try holds(!consumer.acknowledge(1))
    #expect(consumer.acked == 0)
  }

  @Test func aRewindSendsAgainFromWhatWasAcknowledged() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    for line in 1...5 { fake.write(["\(line)"]) }
    _ = try consumer.look()
    while try consumer.nextToSend() != nil {}
    _ = try consumer.acknowledge(2)
    consumer.rewind()
    try same(consumer.nextToSend()?.chunk.firstSeq, 3)
    // And so does a new exec on the same ring.
    var next = try RingConsumer(ring: try fake.reopen())
    try holds(next.look())
    try same(next.nextToSend()?.chunk.firstSeq, 3)
    #expect(next.seenSeq == 5)
  }

  @Test func entriesWrapWithoutAGap() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    var expected: UInt64 = 1
    for round in 0..<500 {
      fake.write((0..<7).map { "round \(round) line \($0) " + String(repeating: "x", count: 200) })
      try holds(consumer.look())
      while let entry = try consumer.nextToSend() {
        #expect(entry.chunk.firstSeq == expected)
        expected = entry.chunk.lastSeq + 1
      }
      _ = try consumer.acknowledge(consumer.seenSeq)
    }
    #expect(expected == 3501)
  }

  @Test(arguments: [
    (UInt32(1), UInt32(0), InitEnd.exited(0)), (1, 255, .exited(255)), (2, 9, .signaled(9)),
  ])
  func theEndIsRead(kind: UInt32, code: UInt32, end: InitEnd) throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.end(kind: kind, code: code, timedOut: true)
    _ = try consumer.look()
    #expect(consumer.phase == .ended)
    let report = try consumer.endReport()
    #expect(report.end == end)
    #expect(report.timedOut)
    #expect(report.startedAt == nil)
    #expect(report.endedAt == Timestamp(nanoseconds: 2_000_000_000))
  }

  @Test(arguments: [(UInt32(0), UInt32(0)), (1, 256), (2, 0), (2, 65), (4, 0)])
  func anImpossibleEndIsNotBelieved(kind: UInt32, code: UInt32) throws {
    let fake = try FakeRing()
    let consumer = try RingConsumer(ring: fake.ring)
    fake.end(kind: kind, code: code)
    #expect(throws: RingFault.badEnd(kind: kind, code: Int32(code))) { try consumer.endReport() }
  }
}

/// A ring that lies in one way each.
@Suite struct LyingRingTests {
  static let truth = FakeRing.Entry(length: 2, count: 1, first: 1)

  static func entry(_ change: (inout FakeRing.Entry) -> Void) -> FakeRing.Entry {
    var entry = truth
    change(&entry)
    return entry
  }

  static let lies: [(FakeRing.Entry, RingFault)] = [
    (entry { $0.length = 0 }, .badLength(length: 0, offset: 0)),
    (entry { $0.length = 65_537 }, .badLength(length: 65_537, offset: 0)),
    (entry { $0.length = .max }, .badLength(length: .max, offset: 0)),
    (entry { $0.length = 4096 }, .beyondHead(offset: 0, head: 40)),
    (entry { $0.first = 2 }, .badSequence(found: 2, expected: 1)),
    (entry { $0.first = 0 }, .badSequence(found: 0, expected: 1)),
    (entry { $0.count = 0 }, .badCount(count: 0, newlines: -1)),
    (entry { $0.count = 3 }, .badCount(count: 3, newlines: -1)),
    (entry { $0.count = 2 }, .badCount(count: 2, newlines: 1)),
    (entry { $0.flags = 1 }, .badCount(count: 1, newlines: 1)),
    (entry { $0.flags = 2 }, .badFlags(2)),
    (entry { $0.stream = 0 }, .badStream(0)),
    (entry { $0.stream = 3 }, .badStream(3)),
  ]

  @Test(arguments: lies.indices)
  func aLyingEntryIsFound(index: Int) throws {
    let (entry, fault) = LyingRingTests.lies[index]
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.commit(entry, Array("a\n".utf8))
    #expect(throws: fault) { try consumer.look() }
  }

  @Test func aLineWithoutItsNewlineAtTheEndIsFound() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.commit(FakeRing.Entry(length: 3, count: 1, first: 1), Array("a\nb".utf8))
    #expect(throws: RingFault.badCount(count: 1, newlines: 1)) { try consumer.look() }
  }

  @Test func headsAndPhasesThatCanNotBeAreFound() throws {
    func fault(_ change: (RingMapping) -> Void) throws -> RingFault? {
      let fake = try FakeRing()
      var consumer = try RingConsumer(ring: fake.ring)
      fake.write(["a"])
      _ = try consumer.look()
      change(fake.ring)
      do { _ = try consumer.look() } catch { return error }
      return nil
    }
    let size = UInt64(1 << 17)
    #expect(try fault { $0.store64(RingLayout.Field.head, 80) } == .headBeyondReserved(head: 80, reserved: 40))
    #expect(try fault { $0.store64(RingLayout.Field.head, 0) } == .headBeyondSpace(head: 40, read: 0))
    #expect(
      try fault {
        $0.store64(RingLayout.Field.reserved, size + 8)
        $0.store64(RingLayout.Field.head, size + 8)
      } == .headBeyondSpace(head: size + 8, read: 0))
    #expect(
      try fault {
        $0.store64(RingLayout.Field.reserved, .max)
        $0.store64(RingLayout.Field.head, .max)
      } == .headBeyondSpace(head: .max, read: 0))
    #expect(
      try fault {
        $0.store64(RingLayout.Field.reserved, 44)
        $0.store64(RingLayout.Field.head, 44)
      } == .beyondHead(offset: 40, head: 44))
    #expect(try fault { $0.store32(RingLayout.Field.phase, 4) } == .unknownPhase(4))
  }

  @Test func aPhaseNeverGoesBack() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.ring.store32(RingLayout.Field.phase, 2)
    _ = try consumer.look()
    fake.ring.store32(RingLayout.Field.phase, 1)
    #expect(throws: RingFault.phaseWentBack(from: .running, to: .ready)) { try consumer.look() }
  }

  @Test func aHeaderChangedAfterItWasSeenIsFoundWhenItIsSent() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    fake.write(["abc"])
    _ = try consumer.look()
    fake.ring.address(0).storeBytes(of: 60_000, as: UInt32.self)
    #expect(throws: RingFault.beyondHead(offset: 0, head: 40)) { try consumer.nextToSend() }
  }

  @Test(arguments: ["magic", "size", "file"])
  func aFileThatIsNoRingIsNotOpened(what: String) throws {
    let fake = try FakeRing()
    switch what {
    case "magic": fake.ring.store64(RingLayout.Field.magic, 1)
    case "size": fake.ring.store64(RingLayout.Field.dataSize, 1 << 18)
    default: truncate(fake.directory.path + "/ring", 5000)
    }
    #expect(throws: (any Error).self) { try fake.reopen() }
  }

  /// Whatever stands in the ring, reading it ends, stays within the mapping, and what is believed is consistent.
  @Test func noiseIsNeverBelievedWrongly() throws {
    var generator = SeededGenerator(state: 20)
    let deadline = ContinuousClock.now + .seconds(2)
    var faults = 0
    var rounds = 0
    while ContinuousClock.now < deadline || rounds < 200 {
      rounds += 1
      let fake = try FakeRing()
      var consumer = try RingConsumer(ring: fake.ring)
      for line in 0..<Int.random(in: 1...20, using: &generator) { fake.write(["line \(line)"]) }
      for _ in 0..<Int.random(in: 0...4, using: &generator) {
        let offset = Int.random(in: 0..<Int(fake.head), using: &generator)
        fake.ring.data.storeBytes(
          of: UInt8.random(in: 0...255, using: &generator), toByteOffset: offset, as: UInt8.self)
      }
      if Bool.random(using: &generator) {
        let field = [RingLayout.Field.head, RingLayout.Field.reserved, RingLayout.Field.acked].randomElement(
          using: &generator)!
        fake.ring.store64(field, UInt64.random(in: 0...(1 << 18), using: &generator))
      }
      do {
        _ = try consumer.look()
        var seq: UInt64 = 0
        while let entry = try consumer.nextToSend() {
          #expect(entry.chunk.firstSeq == seq + 1)
          #expect(entry.end <= consumer.seen)
          seq = entry.chunk.lastSeq
        }
        #expect(seq == consumer.seenSeq)
        _ = try consumer.acknowledge(seq)
      } catch { faults += 1 }
    }
    #expect(faults > 10)
  }
}

@Suite struct RingFollowerTests {
  let job = JobID(node: 1)

  private func text(_ read: FollowerRead) -> String? {
    guard case .chunks(let frames) = read else { return nil }
    return frames.map { String(buffer: $0.payload) }.joined()
  }

  @Test func aFollowerGetsWhatComesAfterItsCursor() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    for line in 1...6 { fake.write(["\(line)"]) }
    _ = try consumer.look()
    #expect(text(try consumer.window(after: 0).read(job: job, after: 0, maxBytes: 1000)) == "1\n2\n3\n4\n5\n6\n")
    #expect(text(try consumer.window(after: 4).read(job: job, after: 4, maxBytes: 1000)) == "5\n6\n")
    #expect(text(try consumer.window(after: 0).read(job: job, after: 0, maxBytes: 1)) == "1\n")
    #expect(text(try consumer.window(after: 6).read(job: job, after: 6, maxBytes: 1000)) == "")
    #expect(text(try consumer.window(after: 99).read(job: job, after: 99, maxBytes: 1000)) == "")
  }

  @Test func acknowledgedLinesStayUntilTheyAreOverwritten() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    let long = String(repeating: "x", count: 1000)
    func round() throws {
      fake.write([long])
      _ = try consumer.look()
      while try consumer.nextToSend() != nil {}
      _ = try consumer.acknowledge(consumer.seenSeq)
    }
    for _ in 1...50 { try round() }
    guard case .chunks(let frames) = try consumer.window(after: 20).read(job: job, after: 20, maxBytes: 1) else {
      Issue.record("the ring still holds line 21")
      return
    }
    #expect(frames.first?.header.seq == 21)
    for _ in 51...1000 { try round() }
    guard
      case .behind(let oldest, let acknowledged) = try consumer.window(after: 20).read(job: job, after: 20, maxBytes: 1)
    else {
      Issue.record("line 21 was overwritten long ago")
      return
    }
    #expect(acknowledged == 1000)
    #expect(oldest > 800 && oldest <= 1001)
    // What it was told holds: from there on it can go on live.
    guard
      case .chunks(let rest) = try consumer.window(after: oldest - 1).read(
        job: job, after: oldest - 1, maxBytes: 1 << 20)
    else {
      Issue.record("the oldest line it was told of is not there")
      return
    }
    #expect(rest.first?.header.seq == oldest)
    #expect(rest.last?.header.seq == 1000)
  }

  @Test func aCopyThatIsOverwrittenMeanwhileIsNotShown() throws {
    let fake = try FakeRing()
    var consumer = try RingConsumer(ring: fake.ring)
    for line in 1...3 { fake.write(["\(line)"]) }
    _ = try consumer.look()
    while try consumer.nextToSend() != nil {}
    _ = try consumer.acknowledge(3)
    let window = consumer.window(after: 0)
    // joblet-init goes once around before the follower copies.
    fake.ring.store64(RingLayout.Field.reserved, UInt64(fake.ring.dataSize) + 48)
    guard case .behind = try window.read(job: job, after: 0, maxBytes: 1000) else {
      Issue.record("a torn copy was shown")
      return
    }
  }
}
