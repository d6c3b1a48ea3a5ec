import JobletModel
import NIOCore

/// HTTP/2 frame by frame (RFC 9113), for what no library would send. One task uses it.
final class H2Client {
  struct Frame: Sendable, Hashable {
    var kind: Kind
    var flags: UInt8
    var stream: Int
    var payload: [UInt8]

    var endsStream: Bool { (kind == .data || kind == .headers) && flags & 1 != 0 }
    /// Of HEADERS: `:status: 200` is one byte (RFC 7541, appendix A, entry 8).
    var isOK: Bool { kind == .headers && payload.first == 0x88 }
    /// Of GOAWAY and RST_STREAM.
    var errorCode: Int? {
      switch kind {
      case .reset where payload.count == 4: H2Client.number(payload[0..<4])
      case .goAway where payload.count >= 8: H2Client.number(payload[4..<8])
      default: nil
      }
    }
  }

  enum Kind: UInt8, Sendable {
    case data, headers, priority, reset, settings, push, ping, goAway, windowUpdate, continuation
  }

  /// RFC 9113, section 7.
  static let noError = 0
  static let enhanceYourCalm = 11

  private var inbound: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
  private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
  private var buffer = ByteBuffer()
  /// Answers PING and SETTINGS as it should.
  var isPolite = true

  private init(
    _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator,
    _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
  ) {
    self.inbound = inbound
    self.outbound = outbound
  }

  /// Connects, says the preface with these settings (identifier and value), runs `body`, closes.
  static func run<Result: Sendable>(
    _ fixture: Fixture, role: Role = .admin, settings: [(UInt16, UInt32)] = [], preface: String? = nil,
    _ body: @Sendable (H2Client) async throws -> Result
  ) async throws -> Result {
    try await RawClient.run(fixture, role: role, protocols: ["h2"]) { inbound, outbound in
      let client = H2Client(inbound, outbound)
      if let preface {
        try await outbound.write(ByteBuffer(string: preface))
      } else {
        try await outbound.write(ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        let payload = settings.flatMap { bytes(UInt32($0.0), 2) + bytes($0.1, 4) }
        try await client.send([Frame(kind: .settings, flags: 0, stream: 0, payload: payload)])
      }
      return try await body(client)
    }
  }

  static let initialWindow: UInt16 = 4

  private static func bytes(_ value: UInt32, _ count: Int) -> [UInt8] {
    (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> (UInt32($0) * 8)) }
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }

  // MARK: Sending

  func send(_ frames: [Frame]) async throws {
    var out = ByteBuffer()
    for frame in frames {
      out.writeBytes(H2Client.bytes(UInt32(frame.payload.count), 3) + [frame.kind.rawValue, frame.flags])
      out.writeBytes(H2Client.bytes(UInt32(frame.stream), 4) + frame.payload)
    }
    try await outbound.write(out)
  }

  /// A header block of literals without indexing, names and values as they are (RFC 7541, section 6.2.2).
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    func text(_ text: String) -> [UInt8] {
      var length: [UInt8] = []
      var left = text.utf8.count
      if left < 127 {
        length = [UInt8(left)]
      } else {
        length = [127]
        left -= 127
        while left >= 128 {
          length.append(UInt8(left & 127) | 128)
          left >>= 7
        }
        length.append(UInt8(left))
      }
      return length + Array(text.utf8)
    }
    return fields.flatMap { [0] + text($0.0) + text($0.1) }
  }

  static func fields(_ method: String, _ path: String, _ more: [(String, String)] = []) -> [(String, String)] {
    [(":method", method), (":scheme", "https"), (":authority", "x"), (":path", path)] + more
  }

  /// A whole request's HEADERS.
  static func request(
    _ stream: Int, _ method: String = "GET", _ path: String, _ more: [(String, String)] = [], endsStream: Bool = true
  ) -> Frame {
    Frame(kind: .headers, flags: endsStream ? 5 : 4, stream: stream, payload: block(fields(method, path, more)))
  }

  static func reset(_ stream: Int, code: UInt32 = 8) -> Frame {
    Frame(kind: .reset, flags: 0, stream: stream, payload: bytes(code, 4))
  }

  static func window(_ stream: Int, by bytes: UInt32) -> Frame {
    Frame(kind: .windowUpdate, flags: 0, stream: stream, payload: H2Client.bytes(bytes, 4))
  }

  // MARK: Receiving

  /// The next frame; nil when the server closed.
  func next() async throws -> Frame? {
    while true {
      if let frame = parse() {
        if isPolite { try await answer(frame) }
        return frame
      }
      do {
        guard var more = try await inbound.next() else { return nil }
        buffer.writeBuffer(&more)
      } catch {
        // An end without close_notify, or a reset, is an end.
        return nil
      }
    }
  }

  private func parse() -> Frame? {
    guard let head = buffer.getBytes(at: buffer.readerIndex, length: 9) else { return nil }
    let length = H2Client.number(head[0..<3])
    guard buffer.readableBytes >= 9 + length, let kind = Kind(rawValue: head[3]) else { return nil }
    buffer.moveReaderIndex(forwardBy: 9)
    let payload = buffer.readBytes(length: length) ?? []
    buffer.discardReadBytes()
    return Frame(kind: kind, flags: head[4], stream: H2Client.number(head[5..<9]), payload: payload)
  }

  private func answer(_ frame: Frame) async throws {
    guard frame.flags & 1 == 0, frame.kind == .ping || frame.kind == .settings else { return }
    let payload = frame.kind == .ping ? frame.payload : []
    do {
      try await send([Frame(kind: frame.kind, flags: 1, stream: 0, payload: payload)])
    } catch {
      // It closed meanwhile; the next read says so.
    }
  }

  /// Reads until `isEnough` of a frame, or the end.
  func frames(until isEnough: (Frame) -> Bool) async throws -> [Frame] {
    var all: [Frame] = []
    while let frame = try await next() {
      all.append(frame)
      if isEnough(frame) { break }
    }
    return all
  }

  /// Reads until the server closes.
  func rest() async throws -> [Frame] { try await frames { _ in false } }
}
