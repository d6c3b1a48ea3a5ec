import FoundationEssentials
import Gateway
import Glibc
import JobletModel
import JobletWire
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(1))) struct FramePoolTests {
  /// Runs `body` against a service; what serves a connection is told its number, from 1.
  static func withService(
    _ serve: @Sendable @escaping (FrameConnection, Int) async throws -> Void,
    _ body: (FramePool) async throws -> Void
  ) async throws {
    var template = Array("/tmp/joblet-pool-XXXXXX".utf8CString)
    let directory = String(cString: try #require(mkdtemp(&template)))
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let count = Mutex(0)
    let server = try Fixture.server(directory + "/service") { connection in
      let number = count.withLock { count in
        count += 1
        return count
      }
      try await serve(connection, number)
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try await server.run() }
      try await body(FramePool(path: directory + "/service", service: "joblet-exec"))
      group.cancelAll()
      try await group.waitForAll()
    }
  }

  /// Asks twice over the pool's connection.
  static func askTwice(_ pool: FramePool, timeout: Duration) async throws -> UInt64 {
    _ = try await pool.request(Frame(FrameHeader(.ping, seq: 100)))
    return try await pool.request(Frame(FrameHeader(.ping, seq: 200)), timeout: timeout).header.seq
  }

  @Test func `a service that does not answer in time is not given as long again`() async throws {
    let last = Mutex(0)
    // Each connection is answered once; what comes then is taken and nothing said.
    try await Self.withService { connection, number in
      last.withLock { $0 = number }
      guard let frame = try await connection.next() else { return }
      try await connection.send(frame)
      while try await connection.next() != nil {}
    } _: { pool in
      let problem = await #expect(throws: Problem.self) {
        try await Self.askTwice(pool, timeout: .milliseconds(50))
      }
      #expect(problem?.kind == .unavailable)
    }
    #expect(last.withLock { $0 } == 1)
  }

  @Test func `a connection that died while it was kept is made anew`() async throws {
    // The first is closed at the second question, unanswered.
    try await Self.withService { connection, number in
      while let frame = try await connection.next() {
        if number == 1, frame.header.seq == 200 { return }
        try await connection.send(frame)
      }
    } _: { pool in
      let answer = try await Self.askTwice(pool, timeout: .seconds(20))
      #expect(answer == 200)
    }
  }
}
