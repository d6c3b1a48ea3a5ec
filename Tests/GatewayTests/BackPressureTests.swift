import Gateway
import Glibc
import JobletModel
import NIOCore
import NIOPosix
import Testing

/// Clients that read slowly or not at all: what the gateway takes in for them is bounded, others hear nothing of it, and they lose
/// nothing themselves.
@Suite(.timeLimit(.minutes(3))) struct BackPressureTests {
  private typealias Frame = H2Client.Frame

  /// What a stream may be ahead of its client: a first batch of exec's.
  private static let batch = 8 << 10

  /// A job that has written lines of 40 bytes, twenty to a chunk.
  private static func job(_ f: Fixture, lines: Int) async throws -> (id: JobID, text: String) {
    let job = try await f.runJob()
    var text = ""
    for first in stride(from: 1, through: lines, by: 20) {
      let chunk = (first..<first + 20).map { line($0) + "\n" }.joined()
      await f.exec.write(job.id, chunk)
      text += chunk
    }
    return (job.id, text)
  }

  private static func line(_ number: Int) -> String {
    let digits = "\(number) "
    return digits + String(repeating: "x", count: 39 - digits.utf8.count)
  }

  // MARK: Stalled windows

  @Test func twoHundredStalledStreamsCostABatchEachAndThenGoOn() async throws {
    HTTP2Tests.raiseFileLimit()
    try await Fixture.run { f in
      let (id, text) = try await Self.job(f, lines: 2000)
      let (connections, streams) = (4, 50)
      let gates = (0..<connections).map { _ in AsyncStream.makeStream(of: Void.self) }
      let (begun, begins) = AsyncStream.makeStream(of: Void.self)
      try await withThrowingTaskGroup(of: Int.self) { clients in
        for (gate, _) in gates {
          clients.addTask {
            try await H2Client.run(f, settings: [(H2Client.initialWindow, 0)]) { client in
              let path = "/v1/jobs/\(id)/logs?follow=true"
              let numbers = (0..<streams).map { 2 * $0 + 1 }
              try await client.send(numbers.map { H2Client.request($0, "GET", path, [("accept", "text/plain")]) })
              // Windows are not for heads.
              var heads = 0
              while heads < streams, let frame = try await client.next() { heads += frame.kind == .headers ? 1 : 0 }
              for _ in 0..<heads { begins.yield() }
              for await _ in gate {}
              try await client.send(
                [H2Client.window(0, by: 1 << 24)] + numbers.map { H2Client.window($0, by: 1 << 20) })
              return try await Self.countWhole(client, numbers, text)
            }
          }
        }
        var count = 0
        for await _ in begun {
          count += 1
          if count == connections * streams { break }
        }
        // No window is open: whoever has a batch has no room to send it, and asks for no more. The others' lines are some bytes.
        try await Self.othersAreServed(f)
        let bound = connections * streams * Self.batch + 1000
        #expect(await f.exec.bytesSent < bound, "\(Self.batch) bytes a stream at most")
        await f.exec.end(id)
        for (_, open) in gates { open.finish() }
        var whole = 0
        for try await count in clients { whole += count }
        #expect(whole == connections * streams)
        #expect(try await HTTP2Tests.counter(f, "joblet_api_dropped_replies_total") == 0)
      }
    }
  }

  /// Reads streams to their ends; how many of them had this text and nothing else.
  private static func countWhole(_ client: H2Client, _ streams: [Int], _ text: String) async throws -> Int {
    var bytes: [Int: [UInt8]] = [:]
    var ended: Set<Int> = []
    while ended.count < streams.count, let frame = try await client.next() {
      if frame.kind == .data { bytes[frame.stream, default: []] += frame.payload }
      if frame.endsStream { ended.insert(frame.stream) }
      if frame.kind == .reset { Issue.record("stream \(frame.stream) was broken off") }
    }
    let expected = Array(text.utf8)
    return ended.count { bytes[$0] == expected }
  }

  /// Another client's requests are answered, and its follow goes on.
  private static func othersAreServed(_ f: Fixture) async throws {
    let begun = ContinuousClock.now
    let job = try await f.runJob()
    var events = EventReader(try await f.open("/v1/jobs/\(job.id)/logs?follow=true"))
    for number in 1...20 {
      await f.exec.write(job.id, "live \(number)\n")
      #expect(try await events.next()?.data.contains("live \(number)\"") == true)
      #expect(try await f.call("GET", "/v1/jobs/\(job.id)").status == 200)
    }
    #expect(ContinuousClock.now - begun < .seconds(20))
  }

  /// Without waiting for anybody's patience: that many streams fill the memory sooner.
  @Test func atTwiceTheBoundTheLongestWaitingIsDroppedAtOnce() async throws {
    var bounds = ClientBounds()
    bounds.unsent = 256 << 10
    bounds.patience = .seconds(3600)
    try await Fixture.run(bounds: bounds) { f in
      let job = try await f.runJob()
      await f.exec.flood(job.id)
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      let dropped = try await H2Client.run(f, settings: [(H2Client.initialWindow, 0)]) { client in
        try await client.send((0..<100).map { H2Client.request(2 * $0 + 1, "GET", path, [("accept", "text/plain")]) })
        return try await client.frames { $0.kind == .reset }.last
      }
      #expect(dropped?.kind == .reset)
      try await Self.othersAreServed(f)
    }
  }

  // MARK: Slow lines

  /// It falls behind the ring, goes on from the store, and catches up.
  @Test func aSlowFollowerGetsEveryLineOnceInSmallPieces() async throws {
    try await Fixture.run { f in
      let (id, text) = try await Self.job(f, lines: 4000)
      for number in 1...4000 { await f.persist.store(id, UInt64(number), Self.line(number)) }
      let window = 2000
      try await H2Client.run(f, settings: [(H2Client.initialWindow, UInt32(window))]) { client in
        try await client.send([
          H2Client.request(1, "GET", "/v1/jobs/\(id)/logs?follow=true", [("accept", "text/plain")])
        ])
        var bytes: [UInt8] = []
        // Takes so many bytes, giving back the window it used.
        func take(_ count: Int) async throws {
          while bytes.count < count, let frame = try await client.next() {
            guard frame.kind == .data, !frame.payload.isEmpty else { continue }
            #expect(frame.payload.count <= window)
            bytes += frame.payload
            let more = UInt32(frame.payload.count)
            try await client.send([H2Client.window(0, by: more), H2Client.window(1, by: more)])
          }
        }
        try await take(window)
        #expect(await f.exec.bytesSent <= 2 * Self.batch, "nothing is asked for that has no room yet")
        // The ring moves on meanwhile.
        await f.exec.drop(id, through: 3000)
        try await take(text.utf8.count)
        #expect(await f.persist.queries.contains { $0.job == id && $0.through == 3000 })
        await f.exec.write(id, "late\n")
        try await take(text.utf8.count + 5)
        #expect(String(decoding: bytes, as: UTF8.self) == text + "late\n")
        await f.exec.end(id)
        let rest = try await client.frames { $0.endsStream }
        #expect(rest.last?.endsStream == true)
        #expect(rest.allSatisfy { $0.kind != .data || $0.payload.isEmpty })
      }
    }
  }

  /// Sixty thousand empty lines are 60 KB in the ring and 7 MB as events.
  @Test func shortLinesAreTakenInPieces() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.write(job.id, String(repeating: "\n", count: 60_000))
      await f.exec.end(job.id)
      let reply = try await f.open("/v1/jobs/\(job.id)/logs?follow=true", accept: "application/x-ndjson")
      var next: UInt64 = 1
      var rest: [UInt8] = []
      for try await chunk in reply.body {
        rest += chunk
        var start = 0
        while let newline = rest[start...].firstIndex(of: 0x0A) {
          let seq = rest[start..<newline].withUnsafeBytes { StoredLine.seq(of: $0) }
          if let seq {
            if seq != next { Issue.record("\(seq) where \(next) was due") }
            next = seq + 1
          }
          start = newline + 1
        }
        rest.removeFirst(start)
      }
      #expect(next == 60_001)
      // The same chunk was asked for again and again: no reply was as long as all of it.
      #expect(await f.exec.bytesSent > 10 * 60_000)
    }
  }

  /// What tells a slow peer from a deaf one (`HTTP2Guard`).
  @Test func theKernelSaysWhetherAPeerTakesAnything() async throws {
    let (listener, port) = try Fixture.listenTCP()
    defer { Glibc.close(listener) }
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: port).get()
    // It is established, so this does not wait.
    let peer = accept(listener, nil, nil)
    defer { Glibc.close(peer) }
    func queue() async throws -> SendQueue {
      try await channel.eventLoop.flatSubmit {
        SendQueue.of(channel) ?? channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
      }.get()
    }
    func until(_ what: String, _ isSo: () async throws -> Bool) async throws {
      let deadline = ContinuousClock.now + .seconds(60)
      while try await !isSo() {
        try #require(ContinuousClock.now < deadline, "never came true: \(what)")
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    let idle = try await queue()
    #expect(idle.isEmpty && !idle.isMoving(within: .minutes(10)))
    let size = 16 << 20
    channel.writeAndFlush(ByteBuffer(repeating: 0, count: size), promise: nil)
    try await until("it is on its way") { try await queue().isMoving(within: .minutes(10)) }
    try await until("nobody reads") { try await !queue().isMoving(within: .milliseconds(300)) }
    #expect(try await !queue().isEmpty)
    var taken = 0
    var room = [UInt8](repeating: 0, count: 64 << 10)
    var wasMoving = false
    try await until("all was read") {
      let count = recv(peer, &room, room.count, Int32(MSG_DONTWAIT))
      if count > 0 { taken += count }
      wasMoving = try await queue().isMoving(within: .milliseconds(300)) || wasMoving
      return taken == size
    }
    #expect(wasMoving)
    try await until("all was acknowledged") { try await queue().isEmpty }
    try await channel.close()
  }
}
