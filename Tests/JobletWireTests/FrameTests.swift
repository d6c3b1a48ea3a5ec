import FoundationEssentials
import Glibc
import JobletModel
import JobletWire
import Logging
import NIOCore
import Testing

@Suite struct FrameCodecTests {
  static let header = FrameHeader(
    .log, flags: .partial, stream: LogStream.stderr.rawValue,
    job: JobID(high: 0x0102_0304_0506_0708, low: 0x090A_0B0C_0D0E_0F10),
    seq: 17, timestamp: Timestamp(nanoseconds: -5), count: 3, length: 9)

  static func encode(_ header: FrameHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xAA, count: FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    return bytes
  }

  static func decode(_ bytes: [UInt8], maxPayload: Int = 1 << 20) throws -> FrameHeader? {
    try bytes.withUnsafeBytes { try FrameHeader.decode($0, maxPayload: maxPayload) }
  }

  @Test func hasTheDocumentedBytes() throws {
    let bytes = Self.encode(Self.header)
    let job = [UInt8](1...16)
    let fields: [UInt8] = Array("JBLT".utf8) + [1, 2, 1, 2] + job + [17, 0, 0, 0, 0, 0, 0, 0]
    let rest: [UInt8] = [0xFB, 255, 255, 255, 255, 255, 255, 255] + [3, 0, 0, 0] + [9, 0, 0, 0]
    #expect(bytes == fields + rest)
    #expect(try Self.decode(bytes) == Self.header)
    #expect(try Self.decode(Array(bytes.dropLast())) == nil)
  }

  @Test(arguments: FrameType.allCases) func everyTypeRoundTrips(type: FrameType) throws {
    #expect(try Self.decode(Self.encode(FrameHeader(type)))?.type == type)
  }

  @Test func refusesWhatIsNoFrame() {
    func with(_ index: Int, _ value: UInt8) -> [UInt8] {
      var bytes = Self.encode(Self.header)
      bytes[index] = value
      return bytes
    }
    #expect(throws: FrameError.unknownVersion(9)) { try Self.decode(with(4, 9)) }
    #expect(throws: FrameError.unknownType(200)) { try Self.decode(with(5, 200)) }
    #expect(throws: FrameError.tooLong(length: 9, allowed: 8)) { try Self.decode(with(44, 9), maxPayload: 8) }
    #expect(throws: FrameError.self) { try Self.decode(with(0, 0)) }
  }

  @Test func fuzzedHeadersNeverTrap() {
    var state: UInt64 = 7
    func random() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 33
    }
    for _ in 0..<200_000 {
      var bytes = Self.encode(Self.header)
      for _ in 0...(random() % 6) { bytes[Int(random()) % bytes.count] = UInt8(truncatingIfNeeded: random()) }
      bytes.removeLast(Int(random() % 4) == 0 ? Int(random()) % bytes.count : 0)
      if let header = try? Self.decode(bytes, maxPayload: 64) {
        #expect(header.length <= 64)
        _ = header.chunk?.lastSeq
      }
    }
  }
}

@Suite struct FrameConnectionTests {
  /// A listening unix socket in a directory of its own, and a server on it for the time of `body`.
  static func withServer(
    users: Set<UInt32> = [getuid()], maxConnections: Int = 10, maxPayload: Int = 1 << 20,
    handle: @Sendable @escaping (FrameConnection) async throws -> Void,
    body: (String) async throws -> Void
  ) async throws {
    var template = Array("/tmp/joblet-wire-XXXXXX".utf8CString)
    let directory = String(cString: mkdtemp(&template))
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let path = directory + "/s"
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    #expect(bound == 0 && listen(descriptor, 64) == 0)
    let server = FrameServer(
      listening: descriptor, maxPayload: maxPayload, maxConnections: maxConnections, allowedUsers: users,
      logger: Logger(label: "test"), handle: handle)
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.run() }
      try await body(path)
      group.cancelAll()
      try await group.waitForAll()
    }
  }

  static let echo: @Sendable (FrameConnection) async throws -> Void = { connection in
    while let frame = try await connection.next() { try await connection.send(frame) }
  }

  @Test func carriesFramesBothWays() async throws {
    try await Self.withServer(handle: Self.echo) { path in
      let connection = try await FrameClient.connect(path: path)
      let payload = ByteBuffer(repeating: 7, count: 300_000)
      let reply = try await connection.request(Frame(FrameHeader(.log, seq: 9), payload: payload))
      #expect(reply.payload == payload)
      #expect(reply.header.seq == 9)
      try await connection.send([Frame(FrameHeader(.ping, seq: 1)), Frame(FrameHeader(.ping, seq: 2))])
      #expect(try await connection.next()?.header.seq == 1)
      #expect(try await connection.next()?.header.seq == 2)
      await connection.close()
    }
  }

  @Test func refusesOtherUsersAndTooMany() async throws {
    try await Self.withServer(users: [], handle: Self.echo) { path in
      let connection = try await FrameClient.connect(path: path)
      await #expect { try await connection.reply() } throws: { ($0 as? Problem)?.kind == .forbidden }
    }
    try await Self.withServer(maxConnections: 1, handle: Self.echo) { path in
      let first = try await FrameClient.connect(path: path)
      _ = try await first.request(Frame(FrameHeader(.ping)))
      let second = try await FrameClient.connect(path: path)
      await #expect { try await second.reply() } throws: { ($0 as? Problem)?.kind == .unavailable }
      _ = try await first.request(Frame(FrameHeader(.ping)))
    }
  }

  @Test func aBadFrameEndsOnlyItsConnection() async throws {
    try await Self.withServer(maxPayload: 64, handle: Self.echo) { path in
      let good = try await FrameClient.connect(path: path)
      let bad = try await FrameClient.connect(path: path)
      try await bad.send(Frame(FrameHeader(.ping), payload: ByteBuffer(repeating: 0, count: 65)))
      #expect(try await bad.next() == nil)
      _ = try await good.request(Frame(FrameHeader(.ping)))
    }
  }

  @Test func aCancelledReadEnds() async throws {
    try await Self.withServer(handle: Self.echo) { path in
      let connection = try await FrameClient.connect(path: path)
      await #expect(throws: TimedOut.self) {
        try await withTimeout(.milliseconds(20)) { try await connection.next() }
      }
    }
  }

  @Test func aStalledPeerHoldsItsSender() async throws {
    try await Self.withServer(handle: { connection in
      let frame = Frame(FrameHeader(.log), payload: ByteBuffer(repeating: 1, count: 1 << 20))
      while true { try await connection.send(frame) }
    }) { path in
      let connection = try await FrameClient.connect(path: path)
      for _ in 0..<50 { #expect(try await connection.next()?.payload.readableBytes == 1 << 20) }
      await connection.close()
    }
  }

  @Test func theGateOpensOnlyOnAnswers() async throws {
    var logger = Logger(label: "gate")
    logger.logLevel = .critical
    try await Self.withServer(handle: { connection in
      while let frame = try await connection.next() {
        if frame.header.type == .ping {
          let pong = PingReply(version: "1", backend: "local", freeBytes: nil)
          try await connection.send(Frame(FrameHeader(.done), json: pong))
        } else {
          try await connection.send(Frame(FrameHeader(.problem), json: Problem(.notFound, "no such job")))
        }
      }
    }) { path in
      try await PersistGate.wait(querySocket: path, tries: 60, pause: .milliseconds(500), logger: logger)
    }
    try await Self.withServer(handle: { _ in try await Task.sleep(for: .seconds(60)) }) { path in
      await #expect(throws: PersistGate.Unavailable.self) {
        try await PersistGate.wait(querySocket: path, tries: 3, pause: .milliseconds(20), logger: logger)
      }
    }
  }
}
