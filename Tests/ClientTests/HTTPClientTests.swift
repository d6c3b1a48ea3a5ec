import HTTPClient
import Testing

@Suite(.timeLimit(.minutes(2))) struct HTTPClientTests {
  @Test func `head and body arrive, the request was sent as given`() async throws {
    let server = TestServer { _, request, connection in
      connection.reply("201 Created", ["X-Request-Id: 42", "Location: /v1/jobs/1"], "got \(request.body.count)")
    }
    defer { server.stop() }
    let client = try HTTPClient()
    let body: [UInt8] = [0, 1, 2] + Array(repeating: 0x41, count: 5000)
    let response = try await client.send(
      HTTPRequest(method: "POST", url: server.url + "/x?y=1", headers: [("x-test", "a b")], body: body))
    #expect(response.status == 201)
    #expect(response.header("x-request-id") == "42")
    #expect(try await response.body.collect(upTo: 100) == Array("got 5003".utf8))
    let seen = try #require(server.requests.first)
    #expect(seen.method == "POST" && seen.target == "/x?y=1" && seen.body == body)
    #expect(seen.headers["x-test"] == "a b" && seen.headers["expect"] == nil)
  }

  @Test(arguments: ["GET", "DELETE", "POST", "HEAD", "PUT"])
  func `methods without a body`(method: String) async throws {
    let server = TestServer { _, _, connection in connection.reply("204 No Content") }
    defer { server.stop() }
    let response = try await HTTPClient().send(HTTPRequest(method: method, url: server.url))
    #expect(response.status == 204)
    #expect(server.requests.first?.method == method)
    #expect(server.requests.first?.headers["content-type"] == nil)
  }

  @Test func `chunks are handed on as they come`() async throws {
    let go = Promise<Void>()
    let more = Gate()
    let server = TestServer { _, _, connection in
      connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
      more.wait()
      connection.send("3\r\ntwo\r\n0\r\n\r\n")
      go.keep(())
    }
    defer { server.stop() }
    let client = try HTTPClient()
    let response = try await client.send(HTTPRequest(url: server.url))
    var chunks = response.body.makeAsyncIterator()
    #expect(try await chunks.next() == Array("one".utf8))
    more.open()
    _ = await go.value()
    #expect(try await chunks.next() == Array("two".utf8))
    #expect(try await chunks.next() == nil)
    #expect(try await chunks.next() == nil)
  }

  @Test func `a reader that stops stops the server, and loses nothing`() async throws {
    let stalled = Promise<Int>()
    let total = 64 << 20
    let server = TestServer { _, _, connection in
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(total)\r\n\r\n")
      var sent = 0
      var hasStalled = false
      while sent < total {
        if !hasStalled, !connection.isWritable(milliseconds: 500) {
          hasStalled = true
          stalled.keep(sent)
        }
        guard connection.send((0..<65_536).map { UInt8(truncatingIfNeeded: sent + $0) }) else { return }
        sent += 65_536
      }
      if !hasStalled { stalled.keep(sent) }
    }
    defer { server.stop() }
    let client = try HTTPClient()
    let response = try await client.send(HTTPRequest(url: server.url))
    let sent = try #require(await stalled.value())
    // The kernel's own socket buffers hold some megabytes; the rest must not have left the server.
    #expect(sent < 24 << 20, "\(sent) bytes were taken without a reader")
    var count = 0
    var isRight = true
    for try await chunk in response.body {
      #expect(chunk.count <= 512 << 10)
      if chunk.first != UInt8(truncatingIfNeeded: count) { isRight = false }
      count += chunk.count
    }
    #expect(count == total && isRight)
  }

  @Test func `cancelling a reader closes the connection`() async throws {
    let closed = Promise<Void>()
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.send("data: x\n\n")
      connection.waitForClose()
      closed.keep(())
    }
    defer { server.stop() }
    let client = try HTTPClient()
    let response = try await client.send(HTTPRequest(url: server.url))
    let first = Promise<Void>()
    let reader = Task {
      for try await _ in response.body { first.keep(()) }
    }
    _ = await first.value()
    reader.cancel()
    await #expect(throws: CancellationError.self) { try await reader.value }
    _ = await closed.value()
  }

  @Test func `cancelling before the head closes the connection`() async throws {
    let arrived = Promise<Void>()
    let closed = Promise<Void>()
    let server = TestServer { _, _, connection in
      arrived.keep(())
      connection.waitForClose()
      closed.keep(())
    }
    defer { server.stop() }
    let client = try HTTPClient()
    let url = server.url
    let sender = Task { try await client.send(HTTPRequest(url: url)).status }
    _ = await arrived.value()
    sender.cancel()
    await #expect(throws: CancellationError.self) { try await sender.value }
    _ = await closed.value()
  }

  @Test func `a body that is dropped closes the connection`() async throws {
    let closed = Promise<Void>()
    let server = TestServer { _, _, connection in
      connection.startStream()
      connection.waitForClose()
      closed.keep(())
    }
    defer { server.stop() }
    let client = try HTTPClient()
    _ = try await client.send(HTTPRequest(url: server.url)).status
    _ = await closed.value()
  }

  @Test func `failures tell their kind`() async throws {
    let client = try HTTPClient()
    func kind(_ url: String, timeout: Duration? = nil) async -> HTTPError.Kind? {
      do {
        _ = try await client.send(HTTPRequest(url: url, timeout: timeout)).body.collect(upTo: 1000)
        return nil
      } catch {
        return (error as? HTTPError)?.kind
      }
    }
    let gone = TestServer { _, _, _ in }
    gone.stop()
    let silent = TestServer { _, _, connection in connection.waitForClose() }
    let cut = TestServer { _, _, connection in connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") }
    let mute = TestServer { _, _, _ in }
    defer { for server in [silent, cut, mute] { server.stop() } }
    #expect(await kind("http://127.0.0.1:1/") == .cannotConnect)
    #expect(await kind("file:///etc/hostname") == .badRequest)
    #expect(await kind(silent.url, timeout: .milliseconds(200)) == .timedOut)
    #expect(await kind(cut.url) == .interrupted)
    #expect(await kind(mute.url) == .interrupted)
    let large = TestServer { _, _, connection in connection.reply("200 OK", [], String(repeating: "x", count: 1001)) }
    defer { large.stop() }
    #expect(await kind(large.url) == .other)
  }

  @Test func `many exchanges at once`() async throws {
    let server = TestServer { _, request, connection in connection.reply("200 OK", [], request.target) }
    defer { server.stop() }
    let client = try HTTPClient()
    let url = server.url
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for number in 0..<100 {
        group.addTask {
          let body = try await client.send(HTTPRequest(url: "\(url)/\(number)")).body.collect(upTo: 100)
          return body == Array("/\(number)".utf8)
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }
}
