import FoundationEssentials
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import Persist
import StateStore
import Testing

@Suite(.serialized) struct FreeSpaceTests {
  @Test func theFloorHasAMargin() {
    var floor = FreeSpaceFloor()
    // Free bytes, one after another, and whether new jobs are taken on; the floor is 1000, the margin 50.
    let course: [(Int64, Bool)] = [
      (5000, true), (1000, true), (999, false), (1000, false), (1049, false), (1050, true), (1001, true), (0, false),
      (1050, true),
    ]
    for (bytes, accepts) in course {
      let condition = floor.judge(FreeSpace(bytes: bytes, path: "/x"), floor: 1000)
      #expect(condition.acceptsJobs == accepts, "\(bytes)")
      #expect((condition.reason == nil) == accepts)
    }
    #expect(floor.judge(FreeSpace(bytes: 0, path: "/x"), floor: 0).acceptsJobs)  // 0 is no floor
  }

  @Test func theReasonSaysWhatAndWhereAndWhatToDo() throws {
    var floor = FreeSpaceFloor()
    let space = FreeSpace(bytes: 300 << 20, path: "/opt/joblet/logs")
    let reason = try #require(floor.judge(space, floor: 1 << 30).reason)
    for part in ["300 MiB", "/opt/joblet/logs", "1 GiB", "1.05 GiB", "persist.retention.min_free", "delete jobs"] {
      #expect(reason.contains(part), "\(reason)")
    }
  }

  @Test(
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1127, "1.1 KiB"), (1300, "1.27 KiB"),
      (1 << 30, "1 GiB"), (5 << 40, "5 TiB"),
      (Int64.max, "8388608 TiB"),
    ] as [(Int64, String)])
  func sizesReadWell(bytes: Int64, text: String) { #expect(ByteCount.text(bytes) == text) }

  @Test func writersPingsAndFiguresTellBelowTheFloor() async throws {
    let bench = try Bench()
    let idle = try bench.writer()  // it was told that all is well behind the hello
    let query = try await bench.query()
    func ping() async throws -> PingReply { try await query.request(Frame(FrameHeader(.ping))).decode() }
    #expect(try await ping().condition == .good)
    let free = try #require(try await ping().freeBytes)

    var retention = Configuration().persist.retention
    retention.minFree = free * 2
    bench.engine.apply(retention)
    let told = try await Self.nextCondition(idle)
    #expect(!told.acceptsJobs && told.reason?.contains("persist.retention.min_free") == true)
    // The words follow the free space, which others change.
    #expect(try await !ping().condition.acceptsJobs)
    #expect(bench.journal.all.filter { $0.contains("new jobs are refused") }.count == 1)
    let late = try Writer(bench.scratch.path + "/ipc.sock", hello: false)
    try late.send(.hello, json: Hello(software: "late"))
    #expect(try late.next()?.header.type == .hello)
    #expect(try await !Self.nextCondition(late).acceptsJobs)
    // What runs goes on.
    let output = Output(seed: 61, chunks: 20)
    try late.send(Bench.job, output.chunks)
    try late.awaitAck(.log, Bench.job, output.last)
    #expect(try Exposition(bench.engine.statistics()).value("joblet_persist_accepts_jobs") == 0)

    retention.minFree = 1
    bench.engine.apply(retention)
    for writer in [idle, late] { #expect(try await Self.nextCondition(writer) == .good) }
    #expect(try await ping().condition == .good)
    #expect(bench.journal.has("new jobs are taken on"))
    await query.close()
    try await bench.close()
  }

  @Test func aDirectoryThatIsGoneEndsTheEngine() async throws {
    let scratch = Scratch()
    let settings = PersistEngine.Settings(
      logDirectory: scratch.path + "/persist/wal", wal: Configuration().persist.wal,
      directories: [scratch.path + "/logs"])
    let engine = try PersistEngine(
      settings, logs: LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics"),
      records: MemoryStateStore(), logger: Journal().logger)
    let keeping = Task.detached { try engine.keepTime() }
    try FileManager.default.removeItem(atPath: scratch.path + "/logs")
    await #expect(throws: PersistError.self) { try await keeping.value }
    try engine.close()
  }

  /// The next condition frame, past acknowledgements.
  static func nextCondition(_ writer: Writer) async throws -> StoreCondition {
    while let frame = try writer.next() {
      if frame.header.type == .condition {
        return try JSONDecoder().decode(StoreCondition.self, from: Data(frame.payload))
      }
    }
    throw FrameError.truncated
  }
}
