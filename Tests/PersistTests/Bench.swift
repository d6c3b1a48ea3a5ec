import FoundationEssentials
import Glibc
import JobletConfig
import JobletModel
import JobletWire
import LocalStore
import LogStore
import Logging
import NIOCore
import Persist
import StateStore
import Synchronization
import Testing

struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// A directory of its own, gone with the test.
final class Scratch: Sendable {
  let path: String

  init() {
    var template = Array("/tmp/joblet-persist-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template))
    mkdir(path + "/persist", 0o700)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ job: JobID, _ stream: String) -> String { "\(path)/logs/\(job)/\(stream).log.gz" }

  func bytes(_ path: String) -> [UInt8] { FileManager.default.contents(atPath: path).map { Array($0) } ?? [] }

  func write(_ bytes: [UInt8], to path: String) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

  var segments: [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path + "/persist/wal")) ?? []
    return names.filter { $0.hasSuffix(".wal") }.sorted().map { "\(path)/persist/wal/\($0)" }
  }
}

/// persist with both its sockets in a scratch directory.
final class Bench: Sendable {
  let scratch: Scratch
  let engine: PersistEngine
  let records = MemoryStateStore()
  let journal = Journal()
  private let server: WriteServer
  private let accepting: Task<Void, Never>
  private let keeping: Task<Void, Never>
  private let failure: Failure
  private let queries: Task<Void, any Error>

  static let job = JobID(high: 0x0193_0000_0000_7000, low: 0x8000_0000_0000_0001)

  init(
    _ scratch: Scratch = Scratch(), wal: Configuration.Persist.WAL = Configuration().persist.wal,
    maxPayload: Int = 1 << 20, maxConnections: Int = 4, users: Set<UInt32> = [getuid()],
    logDisk disk: FailingDisk? = nil, logs: (any LogStore)? = nil, store: (any StateStore)? = nil,
    replayPatience: Int = 30
  ) throws {
    self.scratch = scratch
    let logger = journal.logger
    var settings = PersistEngine.Settings(logDirectory: scratch.path + "/persist/wal", wal: wal)
    settings.logFaults = disk?.faults
    settings.replayPatience = replayPatience
    let logs = try logs ?? Bench.logs(scratch, disk)
    let engine = try PersistEngine(settings, logs: logs, records: store ?? records, logger: logger)
    self.engine = engine
    let server = try engine.writeServer(
      listening: try Bench.listen(scratch.path + "/ipc.sock"), maxPayload: maxPayload, maxConnections: maxConnections,
      allowedUsers: users)
    self.server = server
    accepting = Bench.onThread { server.run() }
    let failure = Failure()
    self.failure = failure
    keeping = Bench.onThread {
      do { try engine.keepTime() } catch { failure.set(error) }
    }
    let listening = try Bench.listen(scratch.path + "/query.sock")
    queries = Task {
      try await FrameServer(
        listening: listening, maxPayload: 1 << 20, maxConnections: 8, allowedUsers: [getuid()], logger: logger,
        handle: { try await engine.answer($0) }
      ).run()
    }
  }

  static func logs(_ scratch: Scratch, _ disk: FailingDisk? = nil) throws -> LocalLogStore {
    try LocalLogStore(logs: scratch.path + "/logs", metrics: scratch.path + "/metrics", faults: disk?.faults)
  }

  /// Why the engine ended by itself; a test that does not ask for it fails with it.
  private final class Failure: Sendable {
    private let error = Mutex<(any Error)?>(nil)
    func set(_ error: any Error) { self.error.withLock { $0 = error } }
    func take() -> (any Error)? {
      error.withLock { error in
        defer { error = nil }
        return error
      }
    }
  }

  /// Waits until the engine ends by itself, and answers why.
  func ended() async -> (any Error)? {
    await keeping.value
    return failure.take()
  }

  /// Starts a thread at once; the task only waits for its end.
  private static func onThread(_ body: @escaping @Sendable () -> Void) -> Task<Void, Never> {
    let (ended, end) = AsyncStream<Void>.makeStream()
    let box = Unmanaged.passRetained(
      Body {
        body()
        end.finish()
      })
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { argument in
        Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, box.toOpaque())
    pthread_detach(thread)
    return Task { for await _ in ended {} }
  }

  private final class Body {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
  }

  static func address(_ path: String) -> sockaddr_un {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    return address
  }

  static func listen(_ path: String) throws -> CInt {
    unlink(path)
    let descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
    var address = address(path)
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(code == 0 && Glibc.listen(descriptor, 16) == 0)
    return descriptor
  }

  func writer(hello: Bool = true) throws -> Writer { try Writer(scratch.path + "/ipc.sock", hello: hello) }

  func query() async throws -> FrameConnection { try await FrameClient.connect(path: scratch.path + "/query.sock") }

  /// All JSON lines a query gives, and the gaps in it.
  func ask(_ query: LogQuery) async throws -> (lines: [UInt8], gaps: [ClosedRange<UInt64>]) {
    let connection = try await self.query()
    try await connection.send(Frame(FrameHeader(.queryLogs), json: query))
    var lines: [UInt8] = []
    var gaps: [ClosedRange<UInt64>] = []
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done { break }
      #expect(frame.header.type == .log && frame.header.flags == .encoded)
      if frame.payload.readableBytes == 0 {
        gaps.append(frame.header.seq...(frame.header.seq + UInt64(frame.header.count) - 1))
      }
      lines += Array(frame.payload.readableBytesView)
    }
    await connection.close()
    return (lines, gaps)
  }

  /// All lines a metric query gives.
  func metrics(_ query: MetricQuery) async throws -> [UInt8] {
    let connection = try await self.query()
    try await connection.send(Frame(FrameHeader(.queryMetrics), json: query))
    var lines: [UInt8] = []
    while true {
      let frame = try await connection.reply()
      if frame.header.type == .done { break }
      #expect(frame.header.type == .metric && frame.header.flags == .encoded)
      lines += Array(frame.payload.readableBytesView)
    }
    await connection.close()
    return lines
  }

  /// Sends lines as exec does: when the connection ends, what was not acknowledged goes out again on the next one. Blocks.
  func deliver(_ job: JobID, _ output: Output) throws {
    var acknowledged: UInt64 = 0
    for _ in 0..<200 {
      let writer = try self.writer()
      writer.offer(job, output.chunks.filter { $0.info.lastSeq > acknowledged })
      while acknowledged < output.last, let frame = try writer.next() {
        if frame.header.type == .ack, frame.header.stream == AckKind.log.rawValue, frame.header.job == job {
          acknowledged = max(acknowledged, frame.header.seq)
        }
      }
      if acknowledged >= output.last { return }
    }
    Issue.record("only \(acknowledged) of \(output.last) lines were acknowledged")
  }

  private func stopSockets() async {
    engine.stopTaking()
    server.stop()
    await accepting.value
    await keeping.value
    if let error = failure.take() { Issue.record("the engine ended by itself: \(error)") }
    queries.cancel()
    _ = try? await queries.value
  }

  /// Ends as SIGTERM does.
  func close() async throws {
    await stopSockets()
    try engine.close()
  }

  /// Ends as `kill -9` does: nothing is sealed or synced.
  func crash() async {
    await stopSockets()
    engine.abandon()
  }
}

/// A log handler that remembers.
final class Journal: Sendable {
  private let lines = Mutex<[String]>([])
  var logger: Logger { Logger(label: "test", factory: { _ in Handler(journal: self) }) }

  func has(_ text: String) -> Bool { lines.withLock { $0.contains { $0.contains(text) } } }
  var all: [String] { lines.withLock { $0 } }

  private struct Handler: LogHandler {
    let journal: Journal
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) {
      journal.lines.withLock { $0.append("\(event.level) \(event.message)") }
    }
  }
}

/// A raw client of the write socket, as exec is one.
final class Writer {
  private let descriptor: CInt

  init(_ path: String, hello: Bool) throws {
    descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
    var address = Bench.address(path)
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(code == 0)
    var patience = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    guard hello else { return }
    try send(.hello, json: Hello(software: "test"))
    #expect(try next()?.header.type == .hello)
    #expect(try next()?.header.type == .condition)
  }

  deinit { Glibc.close(descriptor) }

  func send(raw bytes: [UInt8]) throws {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, CInt(MSG_NOSIGNAL))
      }
      try #require(count > 0)
      done += count
    }
  }

  /// Sends what persist may refuse: it closes the connection when it likes, so the rest may find nobody.
  func offer(_ job: JobID, _ chunks: [LogChunk]) { offer(raw: chunks.flatMap { Writer.frame(job, $0) }) }

  func offer(raw bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }

  static func frame(_ header: FrameHeader, _ payload: [UInt8] = []) -> [UInt8] {
    var header = header
    header.length = UInt32(payload.count)
    var bytes = [UInt8](repeating: 0, count: FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    return bytes + payload
  }

  static func frame(_ job: JobID, _ chunk: LogChunk) -> [UInt8] {
    guard let info = chunk.info.log else { preconditionFailure("a chunk of metrics is no log frame") }
    return chunk.withBytes { frame(FrameHeader(job: job, chunk: info, length: 0), Array($0)) }
  }

  func send(_ type: FrameType, job: JobID = .none, seq: UInt64 = 0, json value: some Encodable) throws {
    try send(raw: Writer.frame(FrameHeader(type, job: job, seq: seq), Array(JSONEncoder().encode(value))))
  }

  func send(_ job: JobID, _ chunks: [LogChunk]) throws {
    for chunk in chunks { try send(raw: Writer.frame(job, chunk)) }
  }

  func end(_ job: JobID, _ seq: UInt64) throws { try send(raw: Writer.frame(FrameHeader(.end, job: job, seq: seq))) }

  private func read(_ count: Int) throws -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + done, count - done, 0) }
      try #require(got >= 0 || errno == ECONNRESET, "nothing came for 20 s")
      guard got > 0 else { return nil }
      done += got
    }
    return bytes
  }

  /// The next frame, nil when persist closed the connection.
  func next() throws -> (header: FrameHeader, payload: [UInt8])? {
    guard let head = try read(FrameHeader.byteCount) else { return nil }
    let header = try #require(try head.withUnsafeBytes { try FrameHeader.decode($0, maxPayload: 1 << 20) })
    return (header, header.length > 0 ? try #require(try read(Int(header.length))) : [])
  }

  /// Waits for an acknowledgement.
  func awaitAck(_ kind: AckKind, _ job: JobID, _ seq: UInt64) throws {
    while let frame = try next() {
      if frame.header.type == .ack, frame.header.stream == kind.rawValue, frame.header.job == job,
        frame.header.seq >= seq
      {
        return
      }
    }
    Issue.record("the connection was closed before \(kind) \(seq) was acknowledged")
  }

  /// Waits until persist closes the connection; answers the acknowledgements before it.
  func awaitClose() throws -> [FrameHeader] {
    var seen: [FrameHeader] = []
    while let frame = try next() { seen.append(frame.header) }
    return seen
  }
}

/// A job's output as chunks, and the same as JSON lines.
struct Output {
  var chunks: [LogChunk] = []
  var json: [(seq: UInt64, line: [UInt8])] = []
  var last: UInt64 { json.last?.seq ?? 0 }
  var all: [UInt8] { json.flatMap(\.line) }

  init(seed: UInt64, chunks count: Int, from first: UInt64 = 1) {
    var random = SeededNumbers(seed)
    var seq = first
    for index in 0..<count {
      let isPartial = Int.random(in: 0..<7, using: &random) == 0
      let lines = isPartial ? 1 : Int.random(in: 1...30, using: &random)
      let texts = (0..<lines).map { _ -> [UInt8] in
        switch Int.random(in: 0..<10, using: &random) {
        case 0: [0, 13, 0xFF, 0xC0, 9, 34, 92]
        case 1: [UInt8](repeating: 0x2E, count: isPartial ? 70_000 : 300)
        default: Array("line \(seq) of \(random.next())".utf8)
        }
      }
      append(
        LogChunkInfo(
          stream: Bool.random(using: &random) ? .stdout : .stderr, firstSeq: seq, count: UInt32(lines),
          timestamp: Timestamp(nanoseconds: Int64(index) * 1_000_000_000), isPartial: isPartial), texts)
      seq += UInt64(lines)
    }
  }

  init(_ lines: [[UInt8]], stream: LogStream = .stdout) {
    guard !lines.isEmpty else { return }
    append(
      LogChunkInfo(
        stream: stream, firstSeq: 1, count: UInt32(lines.count), timestamp: Timestamp(nanoseconds: 1), isPartial: false),
      lines)
  }

  mutating func append(_ info: LogChunkInfo, _ lines: [[UInt8]]) {
    var seq = info.firstSeq
    for line in lines {
      var encoder = LogLineEncoder()
      line.withUnsafeBytes {
        encoder.appendLine(
          seq: seq, timestamp: info.timestamp, stream: info.stream, isPartial: info.isPartial, line: $0)
      }
      json.append((seq, Array(encoder.bytes)))
      seq += 1
    }
    let payload = lines.reduce(into: [UInt8]()) { $0 += info.isPartial ? $1 : $1 + [0x0A] }
    chunks.append(payload.withUnsafeBytes { LogChunk(info, copying: $0) })
  }
}
