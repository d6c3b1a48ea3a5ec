import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

@Suite(.serialized) struct IngestTests {
  let job = Bench.job

  @Test(arguments: Configuration.Persist.WAL.Fsync.allCases)
  func acknowledgesStoresAndGivesBack(policy: Configuration.Persist.WAL.Fsync) async throws {
    var wal = Configuration().persist.wal
    wal.fsync = policy
    let bench = try Bench(wal: wal)
    let output = Output(seed: 1, chunks: 200)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job, throughSeq: output.last)).lines == output.all)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    try await bench.close()
    #expect(bench.scratch.segments.count == 1)

    // What was sealed is there for the next start, and for zcat.
    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: job)).lines == output.all)
    try await again.close()
  }

  @Test func absorbsWhatComesTwice() async throws {
    let bench = try Bench()
    let output = Output(seed: 2, chunks: 60)
    let first = try bench.writer()
    try first.send(job, Array(output.chunks[..<40]))
    try first.awaitAck(.log, job, output.chunks[39].info.lastSeq)
    // A writer that lost its connection sends again from where it was acknowledged, or from before that.
    let second = try bench.writer()
    try second.send(job, Array(output.chunks[10...]))
    try second.send(job, Array(output.chunks[50...]))
    try second.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func takesChunksThatAreCutElsewhere() async throws {
    let bench = try Bench()
    let lines = (1...100).map { Array("line \($0)".utf8) }
    let whole = Output(lines)
    var half = Output([])
    half.chunks = []
    half.append(
      LogChunkInfo(
        stream: .stdout, firstSeq: 1, count: 60, timestamp: Timestamp(nanoseconds: 1), isPartial: false),
      Array(lines[..<60]))
    let writer = try bench.writer()
    try writer.send(job, half.chunks)
    try writer.send(job, whole.chunks)
    try writer.awaitAck(.log, job, 100)
    #expect(try await bench.ask(LogQuery(job: job)).lines == whole.all)
    try await bench.close()
  }

  @Test func reportsAGapAndClosesThatConnectionOnly() async throws {
    let bench = try Bench()
    let output = Output(seed: 3, chunks: 30)
    let other = JobID(high: 7, low: 7)
    let bystander = try bench.writer()
    let writer = try bench.writer()
    writer.offer(job, Array(output.chunks[..<10]) + Array(output.chunks[12...]))
    let acks = try writer.awaitClose()
    #expect(acks.map(\.seq).max() == output.chunks[9].info.lastSeq)
    #expect(bench.journal.has("line \(output.chunks[10].info.firstSeq) was expected"))

    // The sender has the lines after all.
    let again = try bench.writer()
    try again.send(job, Array(output.chunks[10...]))
    try again.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try bystander.send(other, output.chunks)
    try bystander.awaitAck(.log, other, output.last)
    try await bench.close()
  }

  @Test func acceptsALossThatIsFinalAndSaysSo() async throws {
    let bench = try Bench()
    let output = Output(seed: 3, chunks: 30)
    let first = try bench.writer()
    first.offer(job, Array(output.chunks[12...]))
    #expect(try first.awaitClose().isEmpty)
    let second = try bench.writer()
    try second.send(job, Array(output.chunks[12...]))
    try second.awaitAck(.log, job, output.last)
    #expect(bench.journal.has("lines 1 to \(output.chunks[11].info.lastSeq) are lost"))
    let known = output.json.filter { $0.seq >= output.chunks[12].info.firstSeq }
    #expect(try await bench.ask(LogQuery(job: job)).lines == known.flatMap(\.line))
    try await bench.close()
  }

  /// Bytes that are no proper frame, and what the journal says of them.
  static let nonsense: [(name: String, bytes: [UInt8], journal: String)] = [
    ("magic", Array("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".utf8), "not a frame"),
    ("version", Writer.frame(FrameHeader(.log)).replacing(4, 9), "version 9"),
    ("type", Writer.frame(FrameHeader(.log)).replacing(5, 250), "type 250"),
    ("length", Writer.frame(FrameHeader(.log)).replacing(47, 255), "over the limit"),
    ("no job", Writer.frame(FrameHeader(.log)), "names no job"),
    ("stream", Writer.frame(FrameHeader(.log, stream: 9, job: Bench.job, seq: 1, count: 1), [10]), "stream 9"),
    ("seq 0", Writer.frame(FrameHeader(.log, stream: 1, job: Bench.job, seq: 0, count: 1), [10]), "seq 0"),
    (
      "seq overflow", Writer.frame(FrameHeader(.log, stream: 1, job: Bench.job, seq: .max, count: 2), [10, 10]),
      "can't be read"
    ),
    ("count", Writer.frame(FrameHeader(.log, stream: 1, job: Bench.job, seq: 1, count: 3), [10]), "says 3 lines"),
    ("no newline", Writer.frame(FrameHeader(.log, stream: 1, job: Bench.job, seq: 1, count: 1), [65]), "newline"),
    ("record", Writer.frame(FrameHeader(.record, job: Bench.job, seq: 1), Array("{}".utf8)), "record"),
    ("query", Writer.frame(FrameHeader(.queryLogs, job: Bench.job)), "no place here"),
    ("hello again", Writer.frame(FrameHeader(.hello, job: Bench.job)), "no place here"),
  ]

  @Test(arguments: nonsense.indices) func refusesNonsense(index: Int) async throws {
    let bench = try Bench()
    let bystander = try bench.writer()
    let output = Output(seed: 5, chunks: 5)
    let writer = try bench.writer()
    writer.offer(raw: Self.nonsense[index].bytes)
    _ = try writer.awaitClose()
    #expect(bench.journal.has(Self.nonsense[index].journal), "\(bench.journal.all)")
    try bystander.send(job, output.chunks)
    try bystander.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func wantsAHelloFirst() async throws {
    let bench = try Bench()
    let writer = try bench.writer(hello: false)
    try writer.send(raw: Writer.frame(FrameHeader(.end, job: job)))
    #expect(try writer.awaitClose().isEmpty)
    try await bench.close()
  }

  @Test func keepsWhatCameWholeBeforeAPeerStopsInAFrame() async throws {
    let bench = try Bench()
    let output = Output(seed: 6, chunks: 20)
    do {
      let writer = try bench.writer()
      try writer.send(job, Array(output.chunks[..<19]))
      try writer.awaitAck(.log, job, output.chunks[18].info.lastSeq)
      try writer.send(raw: Array(Writer.frame(job, output.chunks[19]).dropLast(1)))
    }
    let writer = try bench.writer()
    try writer.send(job, [output.chunks[19]])
    try writer.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func refusesStrangersAndCrowds() async throws {
    let strangers = try Bench(users: [getuid() + 1])
    let stranger = try strangers.writer(hello: false)
    #expect(try stranger.awaitClose().map(\.type) == [.problem])
    #expect(strangers.journal.has("may not use this socket"))
    try await strangers.close()

    let crowded = try Bench(maxConnections: 1)
    let first = try crowded.writer()
    #expect(try crowded.writer(hello: false).awaitClose().map(\.type) == [.problem])
    #expect(crowded.journal.has("max_connections"))
    try first.end(job, 0)
    try first.awaitAck(.end, job, 0)
    try await crowded.close()
  }

  @Test func takesAFrameLargerThanItsBuffer() async throws {
    let bench = try Bench(maxPayload: 8 << 20)
    let output = Output((0..<60_000).map { Array("line \($0) of a large frame, which is cut into members".utf8) })
    #expect(output.chunks[0].length > 2 << 20)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func aWriterThatReadsNoAcknowledgementsIsStillTakenIn() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let jobs = (0..<40).map { JobID(high: 9, low: UInt64($0)) }
    // Far more acknowledgements than a socket holds; each frame may well be a batch of its own.
    for seq in 1...500 as ClosedRange<UInt64> {
      for job in jobs {
        let header = FrameHeader(.log, stream: 1, job: job, seq: seq, count: 1)
        try writer.send(raw: Writer.frame(header, [0x61, 0x0A]))
      }
    }
    for job in jobs { try writer.end(job, 500) }
    var left = Set(jobs)
    while !left.isEmpty, let frame = try writer.next() {
      if frame.header.stream == AckKind.end.rawValue { left.remove(frame.header.job) }
    }
    #expect(left.isEmpty)
    try await bench.close()
  }

  @Test func waitsWhileMemoryIsAtItsBound() async throws {
    var wal = Configuration().persist.wal
    wal.maxUnsealed = 1 << 20
    let bench = try Bench(wal: wal)
    let output = Output(seed: 8, chunks: 3000)
    let writer = try bench.writer()
    let reader = Task.detached { () -> Int in
      var highest = 0
      while !Task.isCancelled {
        highest = max(highest, bench.engine.load.unsealed)
        await Task.yield()
      }
      return highest
    }
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    reader.cancel()
    // One batch may come on top of the bound: what one read brought, in blocks at most twice its size.
    #expect(await reader.value < 5 << 20)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func fuzzedConnectionsHarmNobody() async throws {
    let bench = try Bench(maxPayload: 4096, maxConnections: 200)
    let output = Output((0..<20).map { Array("line \($0)".utf8) })
    let good = Writer.frame(job, output.chunks[0])
    var random = SeededNumbers(11)
    for _ in 0..<150 {
      let writer = try bench.writer()
      var bytes = good + good + Writer.frame(FrameHeader(.end, job: job, seq: 20)) + good
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
      writer.offer(raw: bytes)
    }
    let other = JobID(high: 5, low: 5)
    let writer = try bench.writer()
    try writer.send(other, output.chunks)
    try writer.awaitAck(.log, other, 20)
    #expect(try await bench.ask(LogQuery(job: other)).lines == output.all)
    try await bench.close()
  }
}

extension [UInt8] {
  func replacing(_ index: Int, _ byte: UInt8) -> [UInt8] {
    var copy = self
    copy[index] = byte
    return copy
  }
}
