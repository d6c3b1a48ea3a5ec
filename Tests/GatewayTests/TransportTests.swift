import FoundationEssentials
import Gateway
import Glibc
import HTTPClient
import JobletModel
import NIOCore
import NIOPosix
import Testing

@Suite(.timeLimit(.minutes(2))) struct TransportTests {
  @Test func speaksHTTP2AndHTTP1() async throws {
    try await Fixture.run { f in
      _ = try await f.runJob()
      // libcurl asks for HTTP/2; a raw connection speaks HTTP/1.1.
      #expect(try await f.call("GET", "/v1/jobs").status == 200)
      let reply = try await RawClient.exchange(f, ["GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
      #expect(reply.hasPrefix("HTTP/1.1 200 OK\r\n"))
      #expect(reply.lowercased().contains("\r\nconnection: close\r\n"))
      #expect(reply.contains("\"RUNNING\""))
    }
  }

  @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
    try await Fixture.run { f in
      let requests = (0..<50).map { "GET /nothing/\($0) HTTP/1.1\r\nHost: x\r\nX-Request-Id: r\($0)\r\n\r\n" }
      let last = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: last\r\nConnection: close\r\n\r\n"
      let reply = try await RawClient.exchange(f, [requests.joined() + last])
      let ids = reply.split(separator: "\r\n").filter { $0.lowercased().hasPrefix("x-request-id: ") }
        .map { String($0.dropFirst(14)) }
      #expect(ids == (0..<50).map { "r\($0)" } + ["last"])
    }
  }

  @Test func aBodyIsAskedForWithContinue() async throws {
    try await Fixture.run { f in
      let body = #"{"command":"x"}"#
      let head =
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
        + "Expect: 100-continue\r\nConnection: close\r\n\r\n"
      let reply = try await RawClient.run(f) { inbound, outbound in
        try await outbound.write(ByteBuffer(string: head))
        var all = ""
        while !all.contains("\r\n\r\n"), let bytes = try await inbound.next() { all += String(buffer: bytes) }
        #expect(all.hasPrefix("HTTP/1.1 100 Continue\r\n"))
        try await outbound.write(ByteBuffer(string: body))
        all = ""
        while let bytes = try await inbound.next() { all += String(buffer: bytes) }
        return all
      }
      #expect(reply.hasPrefix("HTTP/1.1 201 Created\r\n"))
    }
  }

  @Test func aBodyThatIsTooLongIsRefusedBeforeItIsSent() async throws {
    try await Fixture.run { f in
      let head =
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n"
        + "Expect: 100-continue\r\n\r\n"
      let reply = try await RawClient.exchange(f, [head])
      #expect(reply.hasPrefix("HTTP/1.1 413 "))
      #expect(reply.lowercased().contains("connection: close"))
    }
  }

  /// `server.max_body` holds where a route would take more, where it takes nothing, and where no length is announced.
  @Test func noBodyIsLongerThanTheNodeAllows() async throws {
    try await Fixture.run { configuration, _ in
      configuration.server.maxBody = 1024
    } _: { f in
      func body(_ length: Int) -> String {
        let json = #"{"command":"sh"}"#
        return json + String(repeating: " ", count: length - json.utf8.count)
      }
      let job: JobRecord = try await f.call("POST", "/v1/jobs", body(1024)).decode()
      for (method, path) in [
        ("POST", "/v1/jobs"), ("POST", "/v1/jobs/\(job.id)/stop"), ("POST", "/v1/jobs/\(job.id)/pause"),
      ] {
        let answer = try await f.call(method, path, body(1025))
        #expect(answer.status == 413 && answer.header("content-type") == "application/problem+json", "\(path)")
        #expect(answer.problem?.type == "urn:joblet:problem:too-large")
        #expect(answer.problem?.detail == "the body is larger than 1024 bytes, which is server.max_body")
      }
      let head =
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      let reply = try await RawClient.exchange(f, [head + "401\r\n" + body(1025) + "\r\n0\r\n\r\n"]) {
        $0.contains("server.max_body")
      }
      #expect(reply.hasPrefix("HTTP/1.1 413 ") && reply.contains("server.max_body"), "\(reply)")
      #expect(await f.exec.requests.count == 1)
      #expect(await f.exec.stops.isEmpty)
      #expect(await f.exec.pauses.isEmpty)
    }
  }

  @Test(arguments: [
    "GARBAGE\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
    "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
  ])
  func whatIsNotHTTPIsToldSoAndClosed(_ text: String) async throws {
    try await Fixture.run { f in
      let reply = try await RawClient.exchange(f, [text])
      #expect(reply.hasPrefix("HTTP/1.1 400 "), "\(reply)")
      #expect(reply.contains("urn:joblet:problem:bad-request"))
      #expect(reply.split(separator: "HTTP/1.1 ").count == 1, "one answer and no second request")
      #expect(try await f.call("GET", "/v1/jobs").status == 200)
    }
  }

  /// What two readers could take for two different sequences of requests: a proxy before us must not see one where we see two.
  @Test(arguments: [
    "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: identity\r\n\r\n", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", "Content-Length: +5\r\n\r\nabcde",
    "Content-Length: -5\r\n\r\nabcde", "Content-Length: 5, 5\r\n\r\nabcde",
    "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", "Content-Length: 99999999999999999999999\r\n\r\nabcde",
    "Content-Length: 0x5\r\n\r\nabcde", "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "Transfer-Encoding: chunked\r\n\r\n-1\r\n", "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
    "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
    "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n", "X-A: a\0b\r\n\r\n", "X-A: a\rContent-Length: 5\r\n\r\n",
    "Host: y\r\n\r\n",
  ])
  func whatCouldBeReadAsTwoRequestsIsNone(_ shape: String) async throws {
    try await Fixture.run { f in
      let text =
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\(shape)"
        + "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{\"command\":\"sh\"} "
      let reply = try await RawClient.exchange(f, [text])
      #expect(reply.hasPrefix("HTTP/1.1 400 "), "\(reply)")
      #expect(reply.split(separator: "HTTP/1.1 ").count == 1, "one answer and no second request")
      #expect(await f.exec.requests.isEmpty)
    }
  }

  @Test func aRequestNamesItsHost() async throws {
    try await Fixture.run { f in
      let without = try await RawClient.exchange(f, ["GET /v1/jobs HTTP/1.1\r\n\r\n"])
      #expect(without.hasPrefix("HTTP/1.1 400 "), "\(without)")
      // HTTP/1.0 knew no hosts.
      let old = try await RawClient.exchange(f, ["GET /v1/jobs HTTP/1.0\r\n\r\n"])
      #expect(old.hasPrefix("HTTP/1.0 200 "), "\(old)")
    }
  }

  @Test func whatFollowsAWholeRequestDoesNotTakeItsAnswer() async throws {
    try await Fixture.run { f in
      let reply = try await RawClient.exchange(f, ["GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n"])
      #expect(reply.hasPrefix("HTTP/1.1 200 "), "\(reply)")
      #expect(reply.split(separator: "HTTP/1.1 ").count == 1)
    }
  }

  /// `server.max_body` and more, slowly enough to be refused on the way: the connection is read on for a moment and closed.
  @Test func aBodyWithoutEndIsRefusedOnItsWay() async throws {
    try await Fixture.run { f in
      let head =
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
      let reply = try await RawClient.run(f) { inbound, outbound in
        try await outbound.write(ByteBuffer(string: head))
        let chunk = ByteBuffer(string: "10000\r\n" + String(repeating: " ", count: 65_536) + "\r\n")
        do {
          for _ in 0..<1024 { try await outbound.write(chunk) }
        } catch {
          // Closed while we wrote, which is what it is for.
        }
        var all = ""
        do {
          while let bytes = try await inbound.next() { all += String(buffer: bytes) }
        } catch {
          // A reset after what was read.
        }
        return all
      }
      #expect(reply.hasPrefix("HTTP/1.1 413 "), "\(reply)")
      #expect(await f.exec.requests.isEmpty)
    }
  }

  @Test func slowClientsAreClosedInTime() async throws {
    try await Fixture.run({ configuration, _ in
      // Long enough for the handshakes of the connections below on a loaded machine.
      configuration.server.timeouts.handshake = .seconds(5)
      configuration.server.timeouts.header = .milliseconds(500)
      configuration.server.timeouts.idle = .milliseconds(1000)
    }) { f in
      // Connected, and then nothing: no handshake.
      let isClosed = try await Self.closesByItself(f.port)
      #expect(isClosed)
      #expect(try await f.health("/metrics").text.contains(#"reason="handshake_timeout""#))
      // Half a head, no head, half a body.
      #expect(try await RawClient.exchange(f, ["GET / HTTP/1.1\r\nHost: "]) == "")
      #expect(try await RawClient.exchange(f, []) == "")
      let half = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{"
      #expect(try await RawClient.exchange(f, [half]).contains("did not arrive in time"))
      #expect(try await f.call("GET", "/v1/jobs").status == 200)
    }
  }

  /// True if the server closes a plain TCP connection that says nothing.
  static func closesByItself(_ port: Int) async throws -> Bool {
    // On a thread of its own: read(2) waits.
    try await NIOThreadPool.singleton.runIfActive {
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      defer { Glibc.close(descriptor) }
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = in_port_t(port).bigEndian
      address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
      var limit = timeval(tv_sec: 20, tv_usec: 0)
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
      _ = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
      var byte: UInt8 = 0
      let count = read(descriptor, &byte, 1)
      return count == 0 || count < 0 && errno == ECONNRESET
    }
  }

  @Test func noMoreConnectionsThanAllowed() async throws {
    try await Fixture.run({ configuration, _ in configuration.server.maxConnections = 3 }) { f in
      let clients = try (0..<3).map { _ in try f.client() }
      for client in clients { #expect(try await f.call("GET", "/v1/jobs", client: client).status == 200) }
      await #expect(throws: HTTPError.self) { try await f.call("GET", "/v1/jobs") }
      // Those that are in stay in.
      for client in clients { #expect(try await f.call("GET", "/v1/jobs", client: client).status == 200) }
      #expect(try await f.health("/metrics").text.contains(#"reason="too_many_connections""#))
    }
  }

  @Test func aClientThatLeavesEndsItsStream() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      do {
        let response = try await f.open("/v1/jobs/\(job.id)/logs?follow=true")
        #expect(response.status == 200)
        try await f.until("it is open") { try await f.health("/metrics").text.contains("open_streams 1\n") }
      }
      try await f.until("it is closed") { try await f.health("/metrics").text.contains("open_streams 0\n") }
    }
  }

  @Test func aStalledHTTP1FollowerCostsAFewBatches() async throws {
    try await Fixture.run { f in
      let job = try await f.runJob()
      await f.exec.flood(job.id)
      try await RawClient.run(f) { inbound, outbound in
        try await outbound.write(
          ByteBuffer(
            string: "GET /v1/jobs/\(job.id)/logs?follow=true HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n"))
        // Nobody reads `inbound`: NIO reads one buffer and then waits for us.
        var before = -1
        try await f.until("the flood stands still") {
          let now = await f.exec.bytesSent
          defer { before = now }
          if now == before, now > 0 { return true }
          try await Task.sleep(for: .milliseconds(500))
          return false
        }
        #expect(await f.exec.bytesSent < 16 << 20)
        // The one that stalls holds no connection of exec's either way; the rest is served.
        #expect(try await f.call("GET", "/v1/jobs/\(job.id)").status == 200)
        _ = try await inbound.next()
      }
    }
  }
}
