import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import LogStore
import Persist
import StateStore
import Testing

@Suite(.serialized) struct RecoveryTests {
  let job = Bench.job

  /// A bench whose process was killed with `output` taken in and nothing sealed by time.
  func crashed(_ output: Output, wal: Configuration.Persist.WAL = Configuration().persist.wal) async throws -> Scratch {
    let bench = try Bench(wal: wal)
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    await bench.crash()
    return bench.scratch
  }

  @Test func aKillLosesNothingThatWasAcknowledged() async throws {
    let output = Output(seed: 1, chunks: 900)
    var scratch = try await crashed(Output(seed: 1, chunks: 300))
    // Killed again and again, each time with more.
    for count in [600, 900] {
      let bench = try Bench(scratch)
      let writer = try bench.writer()
      try writer.send(job, Array(output.chunks[..<count]))
      try writer.awaitAck(.log, job, output.chunks[count - 1].info.lastSeq)
      await bench.crash()
      scratch = bench.scratch
    }
    let bench = try Bench(scratch)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
    let last = try Bench(scratch)
    #expect(try await last.ask(LogQuery(job: job)).lines == output.all)
    try await last.close()
  }

  @Test func aTornBatchAtTheEndIsCutAndReported() async throws {
    let output = Output(seed: 2, chunks: 50)
    let scratch = try await crashed(output)
    let path = try #require(scratch.segments.last)
    let bytes = scratch.bytes(path)
    let end = try #require(bytes.lastIndex { $0 != 0 })
    try scratch.write(Array(bytes[...(end - 3)]) + [UInt8](repeating: 0, count: bytes.count - end + 2), to: path)
    let bench = try Bench(scratch)
    #expect(bench.engine.recovery.tornBytes > 0)
    #expect(bench.journal.has("torn batch"))
    #expect(scratch.bytes(path).count < end)  // it is cut, so that a later start does not take it for damage
    let (lines, gaps) = try await bench.ask(LogQuery(job: job))
    #expect(gaps.isEmpty && output.all.starts(with: lines))
    // The writer sends again what was not in a whole batch.
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func aTornMemberIsMadeAgain() async throws {
    var wal = Configuration().persist.wal
    wal.sealInterval = .milliseconds(1)
    wal.fsyncInterval = .milliseconds(5)
    let output = Output(seed: 3, chunks: 300)
    let scratch = try await crashed(output, wal: wal)
    for stream in ["stdout", "stderr"] {
      let bytes = scratch.bytes(scratch.file(job, stream))
      if bytes.count > 40 { try scratch.write(Array(bytes.dropLast(40)), to: scratch.file(job, stream)) }
    }
    let bench = try Bench(scratch)
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func whatWasDeletedStaysDeleted() async throws {
    let output = Output(seed: 4, chunks: 100)
    let kept = JobID(high: 3, low: 3)
    let bench = try Bench()
    let writer = try bench.writer()
    try writer.send(job, output.chunks)
    try writer.send(kept, output.chunks)
    try writer.send(.record, job: job, seq: 1, json: Self.record(job))
    try writer.awaitAck(.log, kept, output.last)
    try writer.awaitAck(.record, job, 1)
    let query = try await bench.query()
    #expect(try await query.request(Frame(FrameHeader(.deleteJobData, job: job))).header.type == .done)
    await #expect(throws: Problem.self) { try await query.request(Frame(FrameHeader(.getRecord, job: job))) }
    do {
      _ = try await query.request(Frame(FrameHeader(.deleteJobData, job: job)))
      Issue.record("deleted twice")
    } catch let problem as Problem {
      #expect(problem.kind == .notFound)
    }
    // What is still on its way is absorbed.
    try writer.send(job, output.chunks)
    try writer.awaitAck(.log, job, output.last)
    await query.close()
    await bench.crash()

    let again = try Bench(bench.scratch)
    #expect(try await again.ask(LogQuery(job: job)).lines.isEmpty)
    #expect(again.records.get(job) == nil)
    #expect(try await again.ask(LogQuery(job: kept)).lines == output.all)
    try await again.close()
  }

  static func record(_ job: JobID, version: UInt64 = 1, _ status: JobStatus = .running) -> JobRecord {
    let request = JobRequest(command: "true")
    var record = JobRecord(
      id: job, request: request, status: status, createdAt: Timestamp(nanoseconds: 1), nodeID: "n", owner: "o")
    record.version = version
    return record
  }

  @Test func recordsComeBackFromTheLog() async throws {
    let bench = try Bench()
    let writer = try bench.writer()
    for version in [1, 2, 3, 2] as [UInt64] {
      let status: JobStatus = version == 3 ? .completed : .running
      try writer.send(.record, job: job, seq: version, json: Self.record(job, version: version, status))
    }
    try writer.awaitAck(.record, job, 3)
    await bench.crash()
    let again = try Bench(bench.scratch)
    try await eventually("it is stored") { again.records.get(job)?.status == .completed }
    try await again.close()
  }

  @Test func segmentsGoWhenMembersCoverThem() async throws {
    var wal = Configuration().persist.wal
    wal.maxSize = 8 << 20
    wal.fsyncInterval = .milliseconds(5)
    let bench = try Bench(wal: wal)
    let writer = try bench.writer()
    let line = [UInt8](repeating: 0x61, count: 999)
    var output = Output([])
    output.chunks = []
    for index in 0..<400 {
      let info = LogChunkInfo(
        stream: .stdout, firstSeq: UInt64(index * 60 + 1), count: 60, timestamp: Timestamp(nanoseconds: 1),
        isPartial: false)
      output.append(info, [[UInt8]](repeating: line, count: 60))
    }
    let keeper = Task.detached { while !Task.isCancelled { try bench.engine.checkpoint(); await Task.yield() } }
    try writer.send(job, output.chunks)  // 24 MB through a log of 8
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    #expect(bench.engine.load.log <= 12 << 20)
    keeper.cancel()
    _ = try? await keeper.value
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func oneLogHasOneWriter() async throws {
    let bench = try Bench()
    #expect(throws: PersistError.self) { try Bench(bench.scratch) }
    try await bench.close()
  }

  @Test func fuzzedSegmentsNeverTrapAndNeverInvent() async throws {
    let output = Output(seed: 5, chunks: 40)
    let scratch = try await crashed(output)
    let path = try #require(scratch.segments.last)
    let bytes = scratch.bytes(path)
    let used = try #require(bytes.lastIndex { $0 != 0 }) + 1
    let known = Set(output.json.map(\.line))
    var random = SeededNumbers(17)
    for round in 0..<60 {
      let trial = Scratch()
      mkdir(trial.path + "/persist/wal", 0o700)
      var changed = Array(bytes[..<used])
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        changed[Int.random(in: 0..<used, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if round % 4 == 0 { changed.removeLast(Int.random(in: 0..<used, using: &random)) }
      try trial.write(changed, to: trial.path + "/persist/wal/" + (path.split(separator: "/").last ?? ""))
      let journal = Journal()
      let store = try LocalLogStore(logs: trial.path + "/logs", metrics: trial.path + "/metrics")
      let engine = try PersistEngine(
        PersistEngine.Settings(logDirectory: trial.path + "/persist/wal", wal: Configuration().persist.wal),
        logs: store, records: MemoryStateStore(), logger: journal.logger)
      try engine.close()
      let scanner = try LogScanner(LogQuery(job: job)) { [try store.pages(job, $0, $1, $2)] }
      var given: [UInt8] = []
      while true {
        let batch = try scanner.next()
        if case .end = batch { break }
        if case .lines(_, _, let bytes) = batch { given += Array(bytes) }
      }
      let invented = given.split(separator: 0x0A).filter { !known.contains(Array($0) + [0x0A]) }
      #expect(invented.isEmpty, "round \(round)")
    }
  }

  @Test func fuzzedBatchPlacesNeverTrap() {
    var random = SeededNumbers(19)
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 0...80, using: &random)).map { index -> UInt8 in
        index < 4 ? [0x4A, 0x42, 0x57, 0x42][index] : UInt8.random(in: 0...3, using: &random)
      }
      let place = bytes.withUnsafeBytes { LogSegment.place($0, at: Int.random(in: 0...8, using: &random)) }
      if case .batch(_, let frames) = place { #expect(frames.upperBound <= bytes.count) }
    }
  }
}
