import Certificates
import JobletModel
import NIOCore
import NIOPosix
import NIOSSL

/// A TLS connection that sends and reads bytes as they are: for what no HTTP library would do.
struct RawClient: Sendable {
  let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>

  /// Connects with a role's certificate, does the handshake for one of `protocols`, runs `body`, closes.
  static func run<Result: Sendable>(
    _ fixture: Fixture, role: Role = .admin, protocols: [String] = ["http/1.1"], newest: TLSVersion? = nil,
    _ body:
      @Sendable (
        inout NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator, NIOAsyncChannelOutboundWriter<ByteBuffer>
      )
      async throws -> Result
  ) async throws -> Result {
    let identity = fixture.certificates.roles[role]
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.trustRoots = .certificates(
      try NIOSSLCertificate.fromPEMBytes(Array(fixture.certificates.authorityPEM.utf8)))
    tls.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array((identity?.certificatePEM ?? "").utf8)).map {
      .certificate($0)
    }
    tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array((identity?.keyPEM ?? "").utf8), format: .pem))
    tls.applicationProtocols = protocols
    tls.maximumTLSVersion = newest
    let context = try NIOSSLContext(configuration: tls)
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
      .connect(host: "127.0.0.1", port: fixture.port) { channel in
        channel.eventLoop.makeCompletedFuture {
          try channel.pipeline.syncOperations.addHandler(
            NIOSSLClientHandler(context: context, serverHostname: "localhost"))
          return try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
        }
      }
    return try await channel.executeThenClose { inbound, outbound in
      var iterator = inbound.makeAsyncIterator()
      return try await body(&iterator, outbound)
    }
  }

  /// Sends text and reads until the server closes, or until `isEnough`.
  static func exchange(
    _ fixture: Fixture, _ parts: [String], newest: TLSVersion? = nil,
    isEnough: @Sendable @escaping (String) -> Bool = { _ in false }
  ) async throws -> String {
    try await run(fixture, newest: newest) { inbound, outbound in
      do {
        for part in parts { try await outbound.write(ByteBuffer(string: part)) }
      } catch ChannelError.ioOnClosedChannel {
        // It was closed before all was said; what it said is read below.
      }
      var all = ""
      do {
        while !isEnough(all), let bytes = try await inbound.next() { all += String(buffer: bytes) }
      } catch is NIOSSLError {
        // An end without close_notify is an end.
      }
      return all
    }
  }
}
