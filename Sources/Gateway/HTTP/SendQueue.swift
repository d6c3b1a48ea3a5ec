import NIOCore

/// How a TCP connection's bytes leave, as the kernel sees it (tcp(7), TCP_INFO; `struct tcp_info` in linux/tcp.h).
///
/// A peer on a slow line answers a PING when everything before it has arrived, and before it is what the kernel holds of the
/// connection: megabytes, minutes. That it takes them is all there is to be known of it until then.
package struct SendQueue: Sendable {
  /// True if the peer has acknowledged everything.
  package var isEmpty: Bool
  /// Since bytes were sent last, for the first time or again. Probes of a closed window have none.
  package var sinceSent: TimeAmount
  /// Since the peer acknowledged anything, or answered a probe.
  package var sinceAcknowledged: TimeAmount

  /// 32-bit words of the structure, of which glibc defines the first 26.
  private typealias Words = SIMD64<UInt32>

  private init(_ words: Words) {
    // tcpi_unacked, tcpi_notsent_bytes
    isEmpty = words[6] == 0 && words[36] == 0
    // tcpi_last_data_sent, tcpi_last_ack_recv
    sinceSent = .milliseconds(Int64(words[11]))
    sinceAcknowledged = .milliseconds(Int64(words[14]))
  }

  /// True if the peer was behind, and has taken something, in that time. One that is gone acknowledges nothing, and to one that
  /// reads nothing nothing can be sent.
  package func isMoving(within time: TimeAmount) -> Bool {
    !isEmpty && sinceSent <= time && sinceAcknowledged <= time
  }

  /// To be called on the channel's loop.
  /// - Returns: nil for a channel that is no socket.
  package static func of(_ channel: any Channel) -> EventLoopFuture<SendQueue>? {
    guard let socket = channel as? any SocketOptionProvider else { return nil }
    // As for its type: the kernel fills as much of the room as it knows of, and the rest is zeros.
    let words: EventLoopFuture<Words> = socket.unsafeGetSocketOption(level: .tcp, name: .tcp_info)
    return words.map { SendQueue($0) }
  }
}
