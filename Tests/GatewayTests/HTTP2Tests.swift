import Gateway
import Glibc
import HTTPClient
import JobletModel
import Testing

/// HTTP/2 as a browser, an old curl, a broken proxy and an attacker speak it.
@Suite(.timeLimit(.minutes(3))) struct HTTP2Tests {
  private typealias Frame = H2Client.Frame

  /// Both ends of every connection are in this process.
  static func raiseFileLimit() {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  static func counter(_ f: Fixture, _ name: String) async throws -> Int {
    let text = try await f.health("/metrics").text
    let line = text.split(separator: "\n").first { $0.hasPrefix(name + " ") }
    return line.flatMap { Int($0.dropFirst(name.count + 1)) } ?? 0
  }

  private static func others(_ f: Fixture) async throws {
    #expect(try await f.call("GET", "/v1/jobs").status == 200, "others are served")
  }

  // MARK: Good clients

  @Test(arguments: ["GET", "HEAD"]) func theLastFrameThatSaysSomethingEndsTheStream(_ method: String) async throws {
    try await Fixture.run { f in
      _ = try await f.runJob()
      let frames = try await H2Client.run(f) { client in
        try await client.send([H2Client.request(1, method, "/v1/jobs")])
        return try await client.frames { $0.endsStream }
      }
      let reply = frames.filter { $0.stream == 1 }
      #expect(reply.first?.isOK == true)
      let data = reply.filter { $0.kind == .data }
      #expect(data.allSatisfy { !$0.payload.isEmpty }, "no empty frame")
      #expect(data.isEmpty == (method == "HEAD"))
      #expect(reply.last?.endsStream == true && reply.dropLast().allSatisfy { !$0.endsStream })
    }
  }

  /// curl 7.88 resets streams that are over if the end comes in a frame of its own; a client may reset late all the same.
  @Test func aThousandRequestsOnOneConnectionWithLateResets() async throws {
    try await Fixture.run { f in
      try await H2Client.run(f) { client in
        for index in 0..<900 {
          let stream = 2 * index + 1
          try await client.send([H2Client.request(stream, "GET", "/v1/jobs")])
          let frames = try await client.frames { $0.endsStream || $0.kind == .goAway }
          guard frames.last?.kind != .goAway, frames.contains(where: \.isOK) else {
            Issue.record("request \(index) got \(frames)")
            return
          }
          try await client.send([H2Client.reset(stream, code: 5)])
        }
      }
    }
  }

  @Test func manyRequestsOverTheLibrarysClient() async throws {
    try await Fixture.run { f in
      let client = try f.client()
      for _ in 0..<500 {
        #expect(try await f.call("POST", "/v1/jobs", #"{"command":"true"}"#, client: client).status == 201)
      }
    }
  }

  // MARK: Floods

  @Test func aRapidResetIsEnded() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      let frames = try await H2Client.run(f) { client in
        do {
          for batch in 0..<60 {
            try await client.send(
              (0..<50).flatMap { index -> [Frame] in
                let stream = 2 * (batch * 50 + index) + 1
                return [H2Client.request(stream, "GET", "/v1/jobs/\(job.id)/logs?follow=true"), H2Client.reset(stream)]
              })
          }
        } catch {
          // It closed while we wrote.
        }
        return try await client.rest()
      }
      if let goAway = frames.last(where: { $0.kind == .goAway }) {
        #expect(goAway.errorCode == H2Client.enhanceYourCalm)
      }
      try await f.until("it was counted") {
        try await Self.counter(f, #"joblet_api_closed_connections_total{reason="flood"}"#) == 1
      }
      try await f.until("no stream is left") { try await Self.counter(f, "joblet_api_open_streams") == 0 }
      try await Self.others(f)
    }
  }

  @Test func headersWithoutEndAreEnded() async throws {
    try await Fixture.run { f in
      _ = try await H2Client.run(f) { client in
        do {
          try await client.send([
            Frame(kind: .headers, flags: 0, stream: 1, payload: H2Client.block(H2Client.fields("GET", "/v1/jobs")))
          ])
          for _ in 0..<2000 {
            try await client.send([
              Frame(kind: .continuation, flags: 0, stream: 1, payload: H2Client.block([("a", "b")]))
            ])
          }
        } catch {
          // As above.
        }
        return try await client.rest()
      }
      try await f.until("it was counted") {
        try await Self.counter(f, #"joblet_api_closed_connections_total{reason="flood"}"#) == 1
      }
      try await Self.others(f)
    }
  }

  @Test(arguments: [false, true]) func tooManyOrTooLargeHeadersAreRefused(areMany: Bool) async throws {
    try await Fixture.run { f in
      let frames = try await H2Client.run(f) { client in
        let more =
          areMany
          ? (0..<2000).map { ("x-\($0)", "some value") }
          : (0..<5).map { ("x-\($0)", String(repeating: "a", count: 15_000)) }
        let block = H2Client.block(H2Client.fields("GET", "/v1/jobs", more))
        var pieces = stride(from: 0, to: block.count, by: 16_000).map {
          Array(block[$0..<min($0 + 16_000, block.count)])
        }
        let first = pieces.removeFirst()
        do {
          try await client.send([Frame(kind: .headers, flags: 1, stream: 1, payload: first)])
          for (index, piece) in pieces.enumerated() {
            try await client.send([
              Frame(kind: .continuation, flags: index == pieces.count - 1 ? 4 : 0, stream: 1, payload: piece)
            ])
          }
        } catch {
          // As above.
        }
        return try await client.frames { $0.kind == .goAway || $0.kind == .reset || $0.endsStream }
      }
      #expect(frames.allSatisfy { !$0.isOK })
      try await Self.others(f)
    }
  }

  @Test(arguments: [H2Client.Kind.ping, .settings, .priority])
  func aFloodOfControlFramesIsEnded(_ kind: H2Client.Kind) async throws {
    try await Fixture.run { f in
      _ = try await H2Client.run(f) { client in
        client.isPolite = false
        let payload: [UInt8] = kind == .settings ? [] : Array(repeating: 0, count: kind == .ping ? 8 : 5)
        do {
          for _ in 0..<100 {
            try await client.send(
              (0..<50).map { _ in Frame(kind: kind, flags: 0, stream: kind == .priority ? 3 : 0, payload: payload) })
          }
        } catch {
          // As above.
        }
        return try await client.rest()
      }
      try await f.until("it was counted") {
        try await Self.counter(f, #"joblet_api_closed_connections_total{reason="flood"}"#) == 1
      }
      try await Self.others(f)
    }
  }

  @Test func bytesThatAreNoHTTP2AreEnded() async throws {
    try await Fixture.run { f in
      _ = try await H2Client.run(f, preface: "GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n") { try await $0.rest() }
      try await Self.others(f)
    }
  }

  // MARK: Clients that do nothing

  @Test(arguments: ["", "PRI * HTTP/2.0\r\n"]) func aClientThatSaysNothingIsClosed(_ preface: String) async throws {
    try await Fixture.run({ configuration, _ in configuration.server.timeouts.idle = .milliseconds(400) }) { f in
      _ = try await H2Client.run(f, preface: preface) { client in
        client.isPolite = false
        return try await client.rest()
      }
      try await Self.others(f)
    }
  }

  @Test func anIdleClientIsToldToGo() async throws {
    try await Fixture.run({ configuration, _ in configuration.server.timeouts.idle = .milliseconds(400) }) { f in
      let frames = try await H2Client.run(f) { client in
        try await client.send([H2Client.request(1, "GET", "/v1/jobs")])
        return try await client.rest()
      }
      #expect(frames.filter(\.isOK).count == 1)
      let goAway = frames.last { $0.kind == .goAway }
      #expect(goAway?.errorCode == H2Client.noError)
    }
  }

  @Test func streamsThatStandStillCostABoundAndOthersAreServed() async throws {
    Self.raiseFileLimit()
    var bounds = ClientBounds()
    bounds.unsentPerConnection = 256 << 10
    bounds.patience = .milliseconds(200)
    try await Fixture.run(bounds: bounds) { f in
      let job = try await f.runJob()
      await f.exec.flood(job.id)
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      let dropped = try await H2Client.run(f, settings: [(H2Client.initialWindow, 0)]) { client in
        try await client.send((0..<100).map { H2Client.request(2 * $0 + 1, "GET", path, [("accept", "text/plain")]) })
        // No window is ever opened: each stream holds a batch of 8 KiB, and the connection may hold 32 of them.
        return try await client.frames { $0.kind == .reset }.last
      }
      #expect(dropped?.kind == .reset)
      #expect(try await Self.counter(f, "joblet_api_dropped_replies_total") > 0)
      #expect(await f.exec.bytesSent <= 100 * (8 << 10))
      try await Self.others(f)
    }
  }

  @Test func aStreamGoesOnWhenItsWindowOpens() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.write(job.id, String(repeating: "x", count: 99) + "\n")
      try await H2Client.run(f, settings: [(H2Client.initialWindow, 10)]) { client in
        try await client.send([
          H2Client.request(1, "GET", "/v1/jobs/\(job.id)/logs?follow=true", [("accept", "text/plain")])
        ])
        var bytes = 0
        while bytes < 100, let frame = try await client.next() {
          guard frame.kind == .data else { continue }
          #expect(frame.payload.count <= 10)
          bytes += frame.payload.count
          try await client.send([H2Client.window(1, by: UInt32(frame.payload.count))])
        }
        #expect(bytes == 100)
      }
    }
  }

  // MARK: Bodies

  @Test func unfinishedBodiesOfOneConnectionAreBounded() async throws {
    var bounds = ClientBounds()
    bounds.bodiesPerConnection = 256 << 10
    try await Fixture.run(bounds: bounds) { f in
      let (refusal, sent) = try await H2Client.run(f) { try await Self.fillBodies($0) }
      #expect(sent < 2 << 20)
      #expect(refusal?.kind == .headers && refusal?.isOK == false)
      try await Self.others(f)
    }
  }

  /// Sends bodies that never end, as much as the windows allow, until the server has had enough.
  private static func fillBodies(_ client: H2Client) async throws -> (refusal: Frame?, sent: Int) {
    let streams = [1, 3, 5]
    for stream in streams {
      let head = H2Client.request(
        stream, "POST", "/v1/jobs", [("content-type", "application/json")], endsStream: false)
      try await client.send([head])
    }
    // What may be sent: on each stream, and on the connection (0). The server opens windows for what it reads.
    var windows = [0: 65_535, 1: 65_535, 3: 65_535, 5: 65_535]
    var sent = 0
    let piece = [UInt8](repeating: 0x20, count: 8_000)
    while true {
      for stream in streams {
        while min(windows[0] ?? 0, windows[stream] ?? 0) >= piece.count {
          try await client.send([Frame(kind: .data, flags: 0, stream: stream, payload: piece)])
          windows[0, default: 0] -= piece.count
          windows[stream, default: 0] -= piece.count
          sent += piece.count
        }
      }
      guard let frame = try await client.next() else { return (nil, sent) }
      if frame.kind == .headers || frame.kind == .goAway { return (frame, sent) }
      if frame.kind == .windowUpdate {
        windows[frame.stream, default: 0] += frame.payload.reduce(0) { $0 << 8 | Int($1) }
      }
    }
  }

  // MARK: The end

  @Test func fiveHundredFollowersAreToldToComeAgain() async throws {
    Self.raiseFileLimit()
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.write(job.id, "hello\n")
      let path = "/v1/jobs/\(job.id)/logs?follow=true"
      try await withThrowingTaskGroup(of: Int.self) { clients in
        for _ in 0..<5 {
          clients.addTask {
            try await H2Client.run(f) { client in
              try await client.send(
                (0..<100).map { H2Client.request(2 * $0 + 1, "GET", path, [("accept", "text/event-stream")]) })
              var text: [Int: [UInt8]] = [:]
              var ended: Set<Int> = []
              var isToldToGo = false
              while let frame = try await client.next() {
                if frame.kind == .data {
                  text[frame.stream, default: []] += frame.payload
                  if !frame.payload.isEmpty, !isToldToGo {
                    try await client.send([H2Client.window(0, by: UInt32(frame.payload.count))])
                  }
                }
                if frame.endsStream { ended.insert(frame.stream) }
                if frame.kind == .goAway { isToldToGo = true }
              }
              #expect(isToldToGo)
              return text.filter { stream, bytes in
                ended.contains(stream) && String(decoding: bytes, as: UTF8.self).contains("event: reconnect")
              }.count
            }
          }
        }
        try await f.until("all follow") { try await Self.counter(f, "joblet_api_open_streams") == 500 }
        let begun = ContinuousClock.now
        await f.group.triggerGracefulShutdown()
        var told = 0
        for try await count in clients { told += count }
        #expect(told == 500)
        #expect(ContinuousClock.now - begun < f.configuration.server.timeouts.drain + .seconds(2))
      }
    }
  }

  @Test func aClientThatDoesNotReadDelaysTheEndByItsLimitOnly() async throws {
    try await Fixture.run({ configuration, _ in configuration.server.timeouts.drain = .seconds(1) }) { f in
      let job = try await f.runJob()
      await f.exec.flood(job.id)
      try await H2Client.run(f, settings: [(H2Client.initialWindow, 0)]) { client in
        client.isPolite = false
        try await client.send([H2Client.request(1, "GET", "/v1/jobs/\(job.id)/logs?follow=true")])
        _ = try await client.frames { $0.isOK }
        let begun = ContinuousClock.now
        await f.group.triggerGracefulShutdown()
        _ = try await client.rest()
        #expect(ContinuousClock.now - begun < .seconds(20))
      }
    }
  }
}
