import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LogStore
import Persist
import StateStore
import Synchronization
import Testing

/// A state store that does what it is told: waits, fails, counts.
final class ToldStateStore: StateStore {
  private struct State {
    var isHeld = false
    var failures = 0
    var syncFailure: StateStoreError?
    var syncs = 0
    var batches: [Int] = []
  }
  private let inner = MemoryStateStore()
  private let state = Mutex(State())
  let name = "told"

  func hold(_ isHeld: Bool) { state.withLock { $0.isHeld = isHeld } }
  func fail(times: Int) { state.withLock { $0.failures = times } }
  func failSyncs(_ error: StateStoreError?) { state.withLock { $0.syncFailure = error } }
  var syncs: Int { state.withLock { $0.syncs } }
  var batches: [Int] { state.withLock { $0.batches } }

  func put(_ records: [JobRecord]) throws(StateStoreError) {
    while state.withLock({ $0.isHeld }) { usleep(1000) }
    let fails = state.withLock { state in
      defer { state.failures = max(0, state.failures - 1) }
      if state.failures == 0 { state.batches.append(records.count) }
      return state.failures > 0
    }
    if fails { throw .full(path: "told", why: "it was told so") }
    inner.put(records)
  }
  func get(_ id: JobID) -> JobRecord? { inner.get(id) }
  func page(_ query: RecordQuery) throws(StateStoreError) -> StoredPage { try inner.page(query) }
  func list(_ query: RecordQuery) -> RecordPage { inner.list(query) }
  func delete(_ id: JobID) -> Bool { inner.delete(id) }
  func sync() throws(StateStoreError) {
    if let error = state.withLock({ $0.syncFailure }) { throw error }
    state.withLock { $0.syncs += 1 }
  }
  func close() {}
}

@Suite(.serialized) struct RecordTests {
  let job = Bench.job

  func id(_ number: UInt64) -> JobID { JobID(high: number << 16 | 0x7000, low: 1) }

  func list(_ bench: Bench, _ query: RecordQuery) async throws -> (records: [JobRecord], next: JobID?) {
    let connection = try await bench.query()
    try await connection.send(Frame(FrameHeader(.listRecords), json: query))
    var records: [JobRecord] = []
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done {
        await connection.close()
        return (records, try frame.decode(RecordsEnd.self).next)
      }
      records.append(try frame.decode())
    }
  }

  @Test func recordsAreAcknowledgedAndVisibleBeforeTheStoreHasThem() async throws {
    let store = ToldStateStore()
    store.hold(true)
    let bench = try Bench(wal: FaultTests.quick(.always), store: store)
    let writer = try bench.writer()
    for number in 1...20 as ClosedRange<UInt64> {
      try writer.send(.record, job: id(number), seq: 1, json: RecoveryTests.record(id(number)))
    }
    for number in 1...10 as ClosedRange<UInt64> {
      try writer.send(
        .record, job: id(number), seq: 2, json: RecoveryTests.record(id(number), version: 2, .failed))
    }
    try writer.awaitAck(.record, id(10), 2)
    #expect(store.get(id(10)) == nil)
    let query = try await bench.query()
    let reply = try await query.request(Frame(FrameHeader(.getRecord, job: id(10))))
    #expect(try reply.decode(JobRecord.self).version == 2)
    await query.close()
    let running = try await list(bench, RecordQuery(statuses: [.running], limit: 5))
    #expect(running.records.map(\.id) == (16...20).reversed().map { id($0) })
    #expect(running.next == id(16))
    let rest = try await list(bench, RecordQuery(statuses: [.running], before: running.next, limit: 50))
    #expect(rest.records.map(\.id) == (11...15).reversed().map { id($0) } && rest.next == nil)
    #expect(try await list(bench, RecordQuery(statuses: [.failed])).records.count == 10)
    store.hold(false)
    try await eventually("all are stored") { store.get(id(10))?.version == 2 && store.get(id(20)) != nil }
    #expect(store.batches.contains { $0 > 1 }, "many records in one transaction")
    #expect(try await list(bench, RecordQuery(limit: 1000)).records.count == 20)
    try await bench.close()
    #expect(store.syncs > 0)
  }

  @Test func aStoreThatFailsIsTriedAgainAndNothingIsLost() async throws {
    let store = ToldStateStore()
    store.fail(times: 2)
    let bench = try Bench(store: store)
    let writer = try bench.writer()
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.awaitAck(.record, job, 1)
    try writer.send(.record, job: job, seq: 2, json: RecoveryTests.record(job, version: 2, .completed))
    try writer.awaitAck(.record, job, 2)
    try await eventually("it is stored") { store.get(job)?.version == 2 }
    #expect(bench.journal.has("can't store"))
    try await bench.close()
  }

  @Test func theLogIsKeptUntilTheStoreIsSynced() async throws {
    let store = ToldStateStore()
    store.failSyncs(.unavailable(path: "told", why: "not now"))
    var wal = FaultTests.quick()
    wal.maxSize = 8 << 20
    let bench = try Bench(wal: wal, store: store)
    let writer = try bench.writer()
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.awaitAck(.record, job, 1)
    let first = try #require(bench.scratch.segments.first)
    let other = JobID(high: 8, low: 8)
    let output = Output(seed: 51, chunks: 1500)
    try writer.send(other, output.chunks)
    try writer.awaitAck(.log, other, output.last)
    for _ in 0..<5 { try bench.engine.checkpoint() }
    #expect(bench.scratch.segments.contains(first))
    store.failSyncs(nil)
    try writer.end(other, output.last)
    try writer.awaitAck(.end, other, output.last)
    try await eventually("the segment goes") {
      try bench.engine.checkpoint()
      return !bench.scratch.segments.contains(first)
    }
    try await bench.close()
  }

  @Test func aStoreThatCanNotBeSyncedEndsTheDaemon() async throws {
    let store = ToldStateStore()
    store.failSyncs(.unsynced(path: "told", why: "EIO"))
    let bench = try Bench(wal: FaultTests.quick(), store: store)
    let writer = try bench.writer()
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.awaitAck(.record, job, 1)
    try await eventually("it is stored") { store.get(job) != nil }
    try writer.end(job, 0)  // an ended job asks for a checkpoint
    #expect("\(await bench.ended().map { "\($0)" } ?? "it went on")".contains("could not be synced"))
    await bench.crash()
  }

  @Test func aDeletedRecordStaysDeletedThoughItWasBeingStored() async throws {
    let store = ToldStateStore()
    store.hold(true)
    let bench = try Bench(store: store)
    let writer = try bench.writer()
    try writer.send(.record, job: job, seq: 1, json: RecoveryTests.record(job))
    try writer.awaitAck(.record, job, 1)
    try writer.send(raw: Writer.frame(FrameHeader(.delete, job: job)))
    try writer.send(raw: Writer.frame(FrameHeader(.end, job: JobID(high: 1, low: 1))))
    store.hold(false)
    try writer.awaitAck(.delete, job, 0)
    #expect(store.get(job) == nil)
    try writer.send(.record, job: job, seq: 2, json: RecoveryTests.record(job, version: 2))
    try writer.awaitAck(.record, job, 2)
    await bench.crash()
    let again = try Bench(bench.scratch)
    #expect(again.records.get(job) == nil)
    try await again.close()
  }
}
