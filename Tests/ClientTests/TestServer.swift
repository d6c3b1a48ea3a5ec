import Glibc
import Synchronization

/// A tiny HTTP/1.1 server on loopback: a thread a connection, one request each, the reply written by hand.
final class TestServer: Sendable {
  struct Request: Sendable {
    var method = ""
    var target = ""
    var headers: [String: String] = [:]
    var body: [UInt8] = []
  }

  /// One accepted connection. Its methods block, on a thread of its own.
  struct Connection: Sendable {
    let socket: CInt

    /// False if the other side is gone.
    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
      var done = 0
      while done < bytes.count {
        let count = bytes.withUnsafeBytes {
          Glibc.send(socket, $0.baseAddress?.advanced(by: done), $0.count - done, Int32(MSG_NOSIGNAL))
        }
        if count <= 0 { return false }
        done += count
      }
      return true
    }

    func reply(_ status: String, _ headers: [String] = [], _ body: String = "") {
      let head = (["HTTP/1.1 \(status)", "Content-Length: \(body.utf8.count)", "Connection: close"] + headers)
      send(head.joined(separator: "\r\n") + "\r\n\r\n" + body)
    }

    func startStream() {
      send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
    }

    /// Whether the socket takes more within the time.
    func isWritable(milliseconds: CInt) -> Bool {
      var entry = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
      return poll(&entry, 1, milliseconds) == 1 && entry.revents & Int16(POLLOUT) != 0
    }

    /// Waits for the other side to leave.
    func waitForClose() {
      var byte: UInt8 = 0
      while recv(socket, &byte, 1, 0) > 0 {}
    }

    func readRequest() -> Request? {
      var head: [UInt8] = []
      var byte: UInt8 = 0
      while !head.ends(with: "\r\n\r\n".utf8) {
        guard recv(socket, &byte, 1, 0) == 1 else { return nil }
        head.append(byte)
      }
      let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n")
      let parts = lines[0].split(separator: " ")
      var request = Request(method: String(parts[0]), target: String(parts[1]))
      for line in lines.dropFirst() {
        let pair = line.split(separator: ":", maxSplits: 1)
        if pair.count == 2 { request.headers[pair[0].lowercased()] = String(pair[1].drop { $0 == " " }) }
      }
      var left = Int(request.headers["content-length"] ?? "0") ?? 0
      while left > 0, recv(socket, &byte, 1, 0) == 1 {
        request.body.append(byte)
        left -= 1
      }
      return request
    }
  }

  let port: UInt16
  private let listener: CInt
  private let handle: @Sendable (Int, Request, Connection) -> Void
  private let seen = Mutex<[Request]>([])

  /// - Parameter handle: gets the connection's number (from 0), the request, and the connection, which is closed after it.
  init(_ handle: @escaping @Sendable (Int, Request, Connection) -> Void) {
    self.handle = handle
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let (bound, got) = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
        (bind(listener, raw, length), getsockname(listener, raw, &length))
      }
    }
    precondition(bound == 0 && got == 0 && listen(listener, 64) == 0, "no loopback socket")
    port = UInt16(bigEndian: address.sin_port)
    self.listener = listener
    let box = Unmanaged.passRetained(self)
    TestServer.thread { box.takeRetainedValue().accept() }
  }

  var url: String { "http://127.0.0.1:\(port)" }
  var requests: [Request] { seen.withLock { $0 } }

  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private func accept() {
    var number = 0
    while true {
      let socket = Glibc.accept(listener, nil, nil)
      if socket < 0 { break }
      let current = number
      number += 1
      TestServer.thread { [self] in
        let connection = Connection(socket: socket)
        if let request = connection.readRequest() {
          seen.withLock { $0.append(request) }
          handle(current, request, connection)
        }
        close(socket)
      }
    }
    close(listener)
  }

  private final class Body: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  private static func thread(_ run: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let body = Unmanaged.passRetained(Body(run)).toOpaque()
    pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, body)
    pthread_detach(thread)
  }
}

extension Array where Element == UInt8 {
  fileprivate func ends(with other: some Collection<UInt8>) -> Bool { suffix(other.count).elementsEqual(other) }
}

/// A promise kept once, from any thread.
final class Promise<Value: Sendable>: Sendable {
  private let stream: AsyncStream<Value>
  private let continuation: AsyncStream<Value>.Continuation

  init() { (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(1)) }

  func keep(_ value: Value) { continuation.yield(value) }

  func value() async -> Value? {
    for await value in stream { return value }
    return nil
  }
}
