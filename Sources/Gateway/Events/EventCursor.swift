import JobletModel

/// The `id` of an event of `/v1/events`: the gateway's run, the change's number in it, and when it happened, for a gateway
/// that does not know the number any more. Opaque to clients.
public struct EventCursor: Hashable, Sendable, CustomStringConvertible {
  public var epoch: UInt32
  public var number: UInt64
  public var time: Timestamp

  public init(epoch: UInt32, number: UInt64, time: Timestamp) {
    self.epoch = epoch
    self.number = number
    self.time = time
  }

  /// Reads a `Last-Event-ID`: a pure function over outside bytes. Nil for anything ``description`` does not write.
  public init?(_ text: some StringProtocol) {
    guard text.utf8.count <= 64 else { return nil }
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0].utf8.count == 8, let epoch = EventCursor.number(parts[0], radix: 16),
      let number = EventCursor.number(parts[1], radix: 10), let time = EventCursor.number(parts[2], radix: 10),
      let epoch = UInt32(exactly: epoch), let nanoseconds = Int64(exactly: time)
    else { return nil }
    self.init(epoch: epoch, number: number, time: Timestamp(nanoseconds: nanoseconds))
  }

  /// Digits alone: no sign, which the standard library's reader takes.
  private static func number(_ text: some StringProtocol, radix: Int) -> UInt64? {
    guard text.first?.isHexDigit == true else { return nil }
    return UInt64(text, radix: radix)
  }

  public var description: String {
    let run = String(epoch, radix: 16)
    return "\(String(repeating: "0", count: 8 - run.count))\(run)-\(number)-\(max(time.nanoseconds, 0))"
  }
}
