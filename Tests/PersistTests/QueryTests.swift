import JobletModel
import JobletWire
import LogStore
import NIOCore
import Persist
import Testing

@Suite(.serialized) struct QueryTests {
  let job = Bench.job

  @Test func pingTellsWhatServes() async throws {
    let bench = try Bench()
    let connection = try await bench.query()
    let reply: PingReply = try await connection.request(Frame(FrameHeader(.ping))).decode()
    #expect(reply.version == jobletVersion && reply.backend == "local" && (reply.freeBytes ?? 0) > 0)
    await connection.close()
    try await bench.close()
  }

  @Test func opensTheGate() async throws {
    let bench = try Bench()
    try await PersistGate.wait(querySocket: bench.scratch.path + "/query.sock", tries: 10, logger: bench.journal.logger)
    try await bench.close()
  }

  /// Who passes an answer on to a client that does not read holds a frame of it.
  @Test func aFrameEndsWithTheLineThatFillsIt() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 29, chunks: 1000)
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    let connection = try await bench.query()
    try await connection.send(Frame(FrameHeader(.queryLogs), json: LogQuery(job: job, throughSeq: output.last)))
    var lines: [UInt8] = []
    var frames = 0
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done { break }
      let bytes = Array(frame.payload.readableBytesView)
      let beforeTheLast = bytes.dropLast().lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      #expect(beforeTheLast < 40 << 10)
      lines += bytes
      frames += 1
    }
    #expect(lines == output.all && frames > 1)
    await connection.close()
    try await bench.close()
  }

  @Test func queriesSeeMembersAndMemoryAsOne() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 21, chunks: 1500)  // enough for members of each stream, and a rest in memory
    let reader = Task { () -> Int in
      // Whatever is being sealed meanwhile: each answer is a beginning of the output, without a hole.
      var answers = 0
      while !Task.isCancelled {
        let (lines, gaps) = try await bench.ask(LogQuery(job: job))
        #expect(gaps.isEmpty && output.all.starts(with: lines))
        answers += 1
      }
      return answers
    }
    for start in stride(from: 0, to: output.chunks.count, by: 100) {
      let part = Array(output.chunks[start..<(start + 100)])
      try writer.send(job, part)
      try writer.awaitAck(.log, job, part[99].info.lastSeq)
    }
    #expect(try await bench.ask(LogQuery(job: job, throughSeq: output.last)).lines == output.all)
    reader.cancel()
    _ = try? await reader.value
    #expect(try await bench.ask(LogQuery(job: job, tail: 3)).lines == output.json.suffix(3).flatMap { $0.line })
    try await bench.close()
  }

  @Test func saysWhatIsWrongWithAQueryAndGoesOn() async throws {
    let bench = try Bench()
    let connection = try await bench.query()
    await #expect(throws: Problem.self) {
      try await connection.request(Frame(FrameHeader(.queryLogs), json: LogQuery(job: job, limit: -1)))
    }
    await #expect(throws: Problem.self) {
      try await connection.request(Frame(FrameHeader(.listRecords), json: RecordQuery(limit: 5000)))
    }
    do {
      _ = try await connection.request(Frame(FrameHeader(.getRecord, job: job)))
      Issue.record("a record of a job that never was")
    } catch let problem as Problem {
      #expect(problem.kind == .notFound)
    }
    #expect(try await connection.request(Frame(FrameHeader(.ping))).header.type == .done)
    await connection.close()
    try await bench.close()
  }

  /// Payloads that are no query that makes sense.
  static let nonsense: [(type: FrameType, payload: String)] = [
    (.queryLogs, ""), (.queryLogs, "no JSON"), (.queryLogs, "{}"), (.queryLogs, "[1,2,3]"),
    (.queryLogs, #"{"job":"no UUID"}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":-1}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":99999999999999999999}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"stream":"stdin"}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"tail":-5}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"tail":9000000000}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"offset":-1}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"order":"sideways"}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"regex":"(unclosed"}"#),
    (.queryLogs, #"{"job":"\#(Bench.job)","after":0,"since":"yesterday"}"#),
    (.queryMetrics, #"{"job":"\#(Bench.job)","after":0,"interval_ms":1000}"#),
    (.queryMetrics, #"{"job":"\#(Bench.job)","after":0,"aggregate":"median"}"#),
    (.queryMetrics, #"{"job":"\#(Bench.job)","after":0,"aggregate":"avg","interval_ms":0}"#),
    (.listRecords, #"{"limit":0}"#), (.listRecords, #"{"limit":100000}"#),
  ]

  @Test(arguments: nonsense.indices) func nonsenseIsRefusedWithAReason(index: Int) async throws {
    let bench = try Bench()
    let (type, payload) = Self.nonsense[index]
    let connection = try await bench.query()
    do {
      try await connection.send(Frame(FrameHeader(type), payload: ByteBuffer(string: payload)))
      let reply = try await connection.reply()
      Issue.record("\(payload) was answered with \(reply.header.type)")
    } catch let problem as Problem {
      #expect(!problem.detail.isEmpty)
    }
    await connection.close()
    // Others are served.
    let other = try await bench.query()
    #expect(try await other.request(Frame(FrameHeader(.ping))).header.type == .done)
    await other.close()
    try await bench.close()
  }

  @Test func aFrameOfAnotherSocketEndsTheConnection() async throws {
    let bench = try Bench()
    let connection = try await bench.query()
    await #expect(throws: Problem.self) { try await connection.request(Frame(FrameHeader(.run))) }
    #expect(try await connection.next() == nil)
    await connection.close()
    try await bench.close()
  }

  @Test func listsRecords() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    for number in 1...150 as ClosedRange<UInt64> {
      let id = JobID(high: number << 16 | 0x7000, low: 1)
      let record = RecoveryTests.record(id, number % 2 == 0 ? .failed : .running)
      try writer.send(.record, job: id, seq: 1, json: record)
      if number == 150 { try writer.awaitAck(.record, id, 1) }
    }
    let connection = try await bench.query()
    try await connection.send(Frame(FrameHeader(.listRecords), json: RecordQuery(statuses: [.failed], limit: 70)))
    var ids: [JobID] = []
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done { break }
      ids.append(try frame.decode(JobRecord.self).id)
    }
    #expect(
      ids
        == (1...150 as ClosedRange<UInt64>).reversed().filter { $0 % 2 == 0 }.prefix(70).map {
          JobID(high: $0 << 16 | 0x7000, low: 1)
        })
    await connection.close()
    try await bench.close()
  }

  @Test func aClientThatLeavesHarmsNobody() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    let output = Output(seed: 22, chunks: 2000)
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    for _ in 0..<20 {
      let connection = try await bench.query()
      try await connection.send(Frame(FrameHeader(.queryLogs), json: LogQuery(job: job)))
      _ = try await connection.next()
      await connection.close()
    }
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }
}
