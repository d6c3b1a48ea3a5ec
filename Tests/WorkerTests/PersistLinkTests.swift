import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import Logging
import NIOCore
import Testing
import Worker

/// The link's owner in tests: an actor on the loop, as the supervisor is.
actor LinkHarness {
  nonisolated let loop: LoopExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
  nonisolated let news: AsyncStream<String>
  private let say: AsyncStream<String>.Continuation
  private let link: PersistLink
  private let owner = Owner()
  private var feeds: [JobID: JobFeed] = [:]

  final class Owner: PersistLinkOwner {
    var say: AsyncStream<String>.Continuation?
    func linkSettled(_ job: JobID) { say?.yield("settled \(job.low)") }
    func linkFreedSpace(_ job: JobID) { say?.yield("space \(job.low)") }
    func linkFound(_ fault: RingFault, job: JobID) { say?.yield("fault \(job.low)") }
    func linkChanged(isConnected: Bool) { say?.yield(isConnected ? "connected" : "lost") }
    func linkCondition(_ condition: StoreCondition) {
      say?.yield(condition.acceptsJobs ? "accepts" : "refuses: \(condition.reason ?? "-")")
    }
    func linkGaveUp(_ reason: String) { say?.yield("gave up") }
  }

  init(socket: String, maxReconnects: Int = 0) throws {
    loop = try LoopExecutor(name: "test-loop")
    (news, say) = AsyncStream<String>.makeStream()
    link = PersistLink(
      loop: loop,
      settings: PersistLink.Settings(
        socket: socket, reconnectDelay: .milliseconds(200), maxReconnects: maxReconnects, software: "test"),
      logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
  }

  func connect() {
    owner.say = say
    link.owner = owner
    link.connect()
  }

  func add(_ job: JobID, ring path: String? = nil) throws {
    let feed = JobFeed(job: job)
    if let path { feed.consumer = try RingConsumer(ring: try RingMapping(opening: path)) }
    feeds[job] = feed
    link.add(feed)
    look(job)
  }

  func look(_ job: JobID) {
    guard let feed = feeds[job] else { return }
    do { _ = try feed.consumer?.look() } catch { say.yield("lie \(job.low)") }
    link.wake(feed)
  }

  func record(_ job: JobID, version: UInt64, isFinal: Bool = false, end: UInt64? = nil) {
    guard let feed = feeds[job] else { return }
    if let end { feed.setEnd(after: end) }
    feed.setRecord(Array("record \(version)".utf8), version: version, isFinal: isFinal)
    link.wake(feed)
  }

  func sample(_ job: JobID, second: Double) {
    guard let feed = feeds[job] else { return }
    _ = feed.metrics.add(measurement(second))
    link.wake(feed)
  }

  func remove(_ job: JobID) { link.remove(job) }
}

/// persist's end of the write socket, one connection at a time, by hand. Blocking calls with a time limit.
final class FakePersist {
  let directory = TemporaryDirectory()
  var path: String { directory.path + "/ipc.sock" }
  private let listener: CInt
  private var fd: CInt = -1

  init() {
    listener = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array((directory.path + "/ipc.sock").utf8)) }
    withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        _ = bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    listen(listener, 8)
  }

  deinit {
    hangUp()
    close(listener)
  }

  func accept() {
    fd = Glibc.accept(listener, nil, nil)
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  func hangUp() {
    if fd >= 0 { close(fd) }
    fd = -1
  }

  /// Accepts, takes the hello and answers it.
  func greet() throws {
    accept()
    let hello = try next()
    #expect(hello.0.type == .hello)
    try send(FrameHeader(.hello), Array(JSONEncoder().encode(Hello(software: "fake"))))
  }

  func next() throws -> (FrameHeader, [UInt8]) {
    let head = try bytes(FrameHeader.byteCount)
    let header = try head.withUnsafeBytes { try FrameHeader.decode($0, maxPayload: 1 << 20) }!
    return (header, try bytes(Int(header.length)))
  }

  private func bytes(_ count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var filled = 0
    while filled < count {
      let got = bytes.withUnsafeMutableBytes { recv(fd, $0.baseAddress! + filled, count - filled, 0) }
      guard got > 0 else { throw FrameError.truncated }
      filled += got
    }
    return bytes
  }

  func send(_ header: FrameHeader, _ payload: [UInt8] = []) throws {
    var header = header
    header.length = UInt32(payload.count)
    var bytes = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    let all = bytes + payload
    #expect(all.withUnsafeBytes { Glibc.send(fd, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) } == all.count)
  }

  func ack(_ kind: AckKind, _ job: JobID, _ seq: UInt64) throws {
    try send(FrameHeader(.ack, stream: kind.rawValue, job: job, seq: seq))
  }
}

/// The tests block in the fake's calls, so they run one after another and not on many threads of the pool.
@Suite(.serialized) struct PersistLinkTests {
  let job = JobID(high: 1, low: 7)

  private func expect(_ harness: LinkHarness, _ wanted: String) async {
    for await item in harness.news {
      if item == wanted { return }
    }
    Issue.record("the link never said '\(wanted)'")
  }

  @Test func recordsLinesEndAndLastRecordComeInThisOrder() async throws {
    let persist = FakePersist()
    let fake = try FakeRing()
    let harness = try LinkHarness(socket: persist.path)
    fake.write(["one", "two"])
    try await harness.add(job, ring: fake.directory.path + "/ring")
    await harness.record(job, version: 1)
    await harness.connect()
    try persist.greet()
    #expect(String(decoding: try persist.next().1, as: UTF8.self) == "record 1")
    fake.write(["three"], stream: .stderr)
    await harness.look(job)
    await harness.record(job, version: 2, isFinal: true, end: 3)
    let first = try persist.next()
    #expect(first.0.chunk?.firstSeq == 1 && first.0.chunk?.count == 2)
    #expect(first.1 == Array("one\ntwo\n".utf8))
    let second = try persist.next()
    #expect(second.0.chunk?.stream == .stderr && second.0.seq == 3)
    let end = try persist.next()
    #expect(end.0.type == .end && end.0.seq == 3)
    let record = try persist.next()
    #expect(record.0.type == .record && record.0.seq == 2)
    try persist.ack(.log, job, 3)
    try persist.ack(.end, job, 3)
    try persist.ack(.record, job, 2)
    await expect(harness, "settled 7")
    #expect(fake.ring.load64(RingLayout.Field.ackedSeq) == 3)
    #expect(fake.ring.load64(RingLayout.Field.acked) == fake.head)
  }

  @Test func whatWasNotAcknowledgedIsSentAgain() async throws {
    let persist = FakePersist()
    let fake = try FakeRing()
    let harness = try LinkHarness(socket: persist.path)
    try await harness.add(job, ring: fake.directory.path + "/ring")
    await harness.record(job, version: 1)
    await harness.connect()
    try persist.greet()
    _ = try persist.next()
    for line in 1...4 { fake.write(["\(line)"]) }
    await harness.look(job)
    for seq in 1...4 { #expect(try persist.next().0.seq == UInt64(seq)) }
    try persist.ack(.log, job, 2)
    try persist.ack(.record, job, 1)
    persist.hangUp()
    await expect(harness, "lost")
    try persist.greet()
    // Every record again, then from the acknowledged place on.
    #expect(try persist.next().0.type == .record)
    #expect(try persist.next().0.seq == 3)
    #expect(try persist.next().0.seq == 4)
  }

  @Test func aFullRingWaitsWhilePersistIsAwayAndNothingIsLost() async throws {
    let persist = FakePersist()
    let fake = try FakeRing()
    let harness = try LinkHarness(socket: persist.path)
    try await harness.add(job, ring: fake.directory.path + "/ring")
    let line = String(repeating: "x", count: 999)
    while fake.space >= 1040 { fake.write([line]) }
    let count = fake.seq - 1
    await harness.look(job)
    fake.ring.store32(RingLayout.Field.initWaiting, 1)
    await harness.connect()
    try persist.greet()
    for seq in 1...count { #expect(try persist.next().0.seq == seq) }
    try persist.ack(.log, job, count)
    await expect(harness, "space 7")
    #expect(fake.space == fake.ring.dataSize)
  }

  /// Samples before the end, and the job is settled only when they are acknowledged too.
  @Test func theLastSampleComesBeforeTheEnd() async throws {
    let persist = FakePersist()
    let harness = try LinkHarness(socket: persist.path)
    try await harness.add(job)
    await harness.sample(job, second: 5)
    await harness.sample(job, second: 10)
    await harness.connect()
    try persist.greet()
    let first = try persist.next()
    #expect(first.0.type == .metric && first.0.seq == 1 && first.0.count == 2 && first.0.flags == [])
    #expect(first.0.timestamp == measurement(10).time)
    #expect(String(decoding: first.1, as: UTF8.self).hasPrefix("{\"seq\":1,\"ts\":\"2027-01-15T08:00:05.000000000Z\""))
    #expect(first.1.last == UInt8(ascii: "\n"))
    await harness.sample(job, second: 12)
    await harness.record(job, version: 2, isFinal: true, end: 0)
    #expect(try persist.next().0.seq == 3)
    #expect(try persist.next().0.type == .end)
    #expect(try persist.next().0.type == .record)
    try persist.ack(.end, job, 0)
    try persist.ack(.record, job, 2)
    try persist.ack(.metric, job, 2)
    persist.hangUp()
    await expect(harness, "lost")
    try persist.greet()
    // What was not acknowledged again; the end after it.
    let again = [try persist.next(), try persist.next(), try persist.next()]
    #expect(again.map(\.0.type) == [.metric, .end, .record])
    #expect(again[0].0.seq == 3 && again[0].0.count == 1)
    try persist.ack(.metric, job, 3)
    await expect(harness, "settled 7")
  }

  @Test func aRefusalHoldsUntilAnotherPersistSaysHello() async throws {
    let persist = FakePersist()
    let harness = try LinkHarness(socket: persist.path)
    await harness.connect()
    try persist.greet()
    await expect(harness, "accepts")
    let refusal = StoreCondition(acceptsJobs: false, reason: "4 MiB are free")
    try persist.send(FrameHeader(.condition), Array(JSONEncoder().encode(refusal)))
    await expect(harness, "refuses: 4 MiB are free")
    persist.hangUp()
    await expect(harness, "lost")
    try persist.greet()
    await expect(harness, "accepts")
    try persist.send(FrameHeader(.condition), Array("{".utf8))
    await expect(harness, "lost")
  }

  @Test func jobsTakeTurns() async throws {
    let persist = FakePersist()
    let rings = [try FakeRing(dataSize: 1 << 20), try FakeRing(dataSize: 1 << 20)]
    let harness = try LinkHarness(socket: persist.path)
    let line = String(repeating: "x", count: 60_000)
    for (number, ring) in rings.enumerated() {
      for _ in 0..<16 { ring.write([line]) }
      try await harness.add(JobID(high: 1, low: UInt64(number)), ring: ring.directory.path + "/ring")
    }
    await harness.connect()
    try persist.greet()
    var order: [UInt64] = []
    for _ in 0..<32 { order.append(try persist.next().0.job.low) }
    // Neither is through before the other had its turn.
    #expect(Set(order.prefix(16)) == [0, 1])
  }

  @Test func aPersistThatTalksNonsenseIsHungUpOn() async throws {
    let persist = FakePersist()
    let harness = try LinkHarness(socket: persist.path)
    await harness.connect()
    try persist.greet()
    await expect(harness, "connected")
    try persist.send(FrameHeader(.queryLogs))
    await expect(harness, "lost")
    try persist.greet()
    await expect(harness, "connected")
  }

  @Test func itGivesUpAfterAsManyTriesAsItMay() async throws {
    let harness = try LinkHarness(socket: "/tmp/there-is-no-such-socket", maxReconnects: 3)
    await harness.connect()
    await expect(harness, "gave up")
  }

  @Test func aRemovedJobSendsNothingMore() async throws {
    let persist = FakePersist()
    let harness = try LinkHarness(socket: persist.path)
    try await harness.add(job)
    await harness.record(job, version: 1)
    await harness.remove(job)
    try await harness.add(JobID(high: 1, low: 8))
    await harness.record(JobID(high: 1, low: 8), version: 1)
    await harness.connect()
    try persist.greet()
    #expect(try persist.next().0.job.low == 8)
  }

  @Test func theFirstTryIsAtOnceAndPausesGrowToTheirBound() {
    let delays = (0..<8).map { PersistLink.delay(failures: $0, longest: .seconds(5)).milliseconds }
    #expect(delays == [0, 100, 200, 400, 800, 1600, 3200, 5000])
  }
}
