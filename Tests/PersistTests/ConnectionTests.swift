import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import Testing

@Suite(.serialized) struct ConnectionTests {
  let job = Bench.job

  @Test func manyWritersAtOnceEachJobInItsOrder() async throws {
    let count = 12
    let bench = try Bench(wal: FaultTests.quick(.always), maxConnections: count)
    let outputs = (0..<count).map { Output(seed: UInt64(100 + $0), chunks: 150) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, output) in outputs.enumerated() {
        let writer = try bench.writer()
        nonisolated(unsafe) let mine = writer  // one task has it
        group.addTask {
          let job = JobID(high: 0x100, low: UInt64(index))
          try mine.send(job, output.chunks)
          try mine.end(job, output.last)
          try mine.awaitAck(.end, job, output.last)
        }
      }
      try await group.waitForAll()
    }
    for (index, output) in outputs.enumerated() {
      #expect(try await bench.ask(LogQuery(job: JobID(high: 0x100, low: UInt64(index)))).lines == output.all)
    }
    try await bench.close()
  }

  @Test func twoWritersOfOneJobNeitherDoubleNorMix() async throws {
    let bench = try Bench()
    let output = Output(seed: 7, chunks: 400)
    // As an exec that reconnects while its old connection is still being read.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<2 {
        let writer = try bench.writer()
        nonisolated(unsafe) let mine = writer
        group.addTask {
          try mine.send(Bench.job, output.chunks)
          try mine.awaitAck(.log, Bench.job, output.last)
        }
      }
      try await group.waitForAll()
    }
    #expect(try await bench.ask(LogQuery(job: job)).lines == output.all)
    try await bench.close()
  }

  @Test func oneConnectionTooManyIsToldWhy() async throws {
    let bench = try Bench(maxConnections: 2)
    let first = try bench.writer()
    let second = try bench.writer()
    let third = try bench.writer(hello: false)
    let refusal = try #require(try third.next())
    #expect(refusal.header.type == .problem)
    #expect(String(decoding: refusal.payload, as: UTF8.self).contains("2 write connections"))
    #expect(try third.next() == nil)
    for writer in [first, second] {
      try writer.end(job, 0)
      try writer.awaitAck(.end, job, 0)
    }
    try await bench.close()
  }

  /// A store whose files never end: a search in them stops only when nobody wants it any more.
  private final class Endless: LogPages {
    func next() -> LogPageStep { .working }
    func load() -> UnsafeRawBufferPointer? { nil }
  }

  private final class EndlessStore: LogStore {
    private let inner = MemoryLogStore()
    var name: String { inner.name }
    func append(_ chunks: [LogChunk], job: JobID, stream: StoredStream) throws -> LogAppended {
      try inner.append(chunks, job: job, stream: stream)
    }
    func sync(_ job: JobID) throws { try inner.sync(job) }
    func lastSeq(_ job: JobID, _ stream: StoredStream) throws -> UInt64 { try inner.lastSeq(job, stream) }
    func recover(_ job: JobID, _ stream: StoredStream, logFrom: UInt64) throws -> LogCut? {
      try inner.recover(job, stream, logFrom: logFrom)
    }
    func pages(_ job: JobID, _ stream: StoredStream, _ range: LogRange, _ order: QueryOrder) throws -> any LogPages {
      Endless()
    }
    func delete(_ job: JobID) throws -> Bool { try inner.delete(job) }
    func contains(_ job: JobID) throws -> Bool { try inner.contains(job) }
    func storedJobs() throws -> [JobID] { try inner.storedJobs() }
    func usage(_ job: JobID) throws -> LogUsage? { try inner.usage(job) }
    func setAside(_ job: JobID, _ stream: StoredStream) throws -> String? { try inner.setAside(job, stream) }
    func forget(_ job: JobID) { inner.forget(job) }
    func freeBytes() throws -> Int64? { nil }
  }

  @Test func aPeerThatLeavesEndsItsQuery() async throws {
    let bench = try Bench(logs: EndlessStore())
    // More searches than the pool has threads: none of them holds one.
    var connections: [FrameConnection] = []
    for _ in 0..<6 {
      let connection = try await bench.query()
      try await connection.send(Frame(FrameHeader(.queryLogs), json: LogQuery(job: job, filter: "nothing")))
      connections.append(connection)
    }
    try await eventually("all search") { bench.engine.openQueries == 6 }
    let other = try await bench.query()
    await #expect(throws: Problem.self) { try await other.request(Frame(FrameHeader(.getRecord, job: job))) }
    await other.close()
    for connection in connections { await connection.close() }
    try await eventually("nobody searches") { bench.engine.openQueries == 0 }
    try await bench.close()
  }

  @Test func aSlowReaderHoldsNothingOthersNeed() async throws {
    var wal = FaultTests.quick()
    wal.maxUnsealed = 4 << 20
    let bench = try Bench(wal: wal)
    let writer = try bench.writer()
    let output = Output(seed: 23, chunks: 4000)
    let half = output.chunks.count / 2
    try writer.send(job, Array(output.chunks[..<half]))
    try writer.awaitAck(.log, job, output.chunks[half - 1].info.lastSeq)
    // Readers that take one frame and no more, until the very end.
    var slow: [FrameConnection] = []
    for order in [QueryOrder.ascending, .descending, .ascending] {
      let connection = try await bench.query()
      try await connection.send(Frame(FrameHeader(.queryLogs), json: LogQuery(job: job, order: order)))
      slow.append(connection)
    }
    try writer.send(job, Array(output.chunks[half...]))
    try writer.awaitAck(.log, job, output.last)
    try writer.end(job, output.last)
    try writer.awaitAck(.end, job, output.last)
    try await eventually("all is sealed") { bench.engine.load.unsealed == 0 }
    // What they are given is what was there when they asked, though it lies elsewhere now.
    let known = output.json.filter { $0.seq <= output.chunks[half - 1].info.lastSeq }
    for (connection, order) in zip(slow, [QueryOrder.ascending, .descending, .ascending]) {
      var lines: [UInt8] = []
      while true {
        let frame = try await connection.reply()
        if frame.header.type == .done { break }
        lines += Array(frame.payload.readableBytesView)
      }
      let expected = order == .ascending ? known.flatMap(\.line) : known.reversed().flatMap { $0.line }
      if order == .ascending {
        #expect(lines.count >= expected.count && lines.starts(with: expected) && output.all.starts(with: lines))
      } else {
        #expect(lines.count >= expected.count && lines.suffix(expected.count).elementsEqual(expected))
      }
      await connection.close()
    }
    try await bench.close()
  }
}
