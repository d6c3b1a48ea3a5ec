#if canImport(Glibc)
  import Glibc
#endif

/// A job's name everywhere: a UUID version 7 (RFC 9562), so that IDs sort by time of creation.
///
/// The last 32 bits name the node that owns the job; any gateway of a fleet can tell from them whom to ask.
public struct JobID: Hashable, Sendable, Comparable {
  /// The first eight bytes of the UUID in network order, as one number.
  public let high: UInt64
  /// The last eight bytes of the UUID in network order, as one number.
  public let low: UInt64

  /// The length of a job ID in frames and file headers, in bytes.
  public static let byteCount = 16

  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Makes an ID of this moment.
  /// - Parameters:
  ///   - now: Unix time; UUIDv7 keeps its milliseconds (48 bits).
  ///   - node: the owning node's 32 bits.
  ///   - random: 41 random bits are used, the rest is ignored.
  public init(now: Timestamp, node: UInt32, random: UInt64) {
    let milliseconds = UInt64(max(0, now.nanoseconds / 1_000_000)) & 0xFFFF_FFFF_FFFF
    high = milliseconds << 16 | 0x7000 | (random & 0x0FFF)
    low = 0b10 << 62 | ((random >> 12) & 0x3FFF_FFFF) << 32 | UInt64(node)
  }

  /// An ID of this moment with the system's random numbers.
  public init(node: UInt32) {
    self.init(now: .now(), node: node, random: .random(in: .min ... .max))
  }

  /// The node that owns the job.
  public var node: UInt32 { UInt32(truncatingIfNeeded: low) }

  /// Reads the canonical form of RFC 9562 (36 characters, hexadecimal in either case). Nil for anything else.
  public init?(_ text: some StringProtocol) {
    var bytes = (UInt64(0), UInt64(0))
    var digits = 0
    var position = 0
    for byte in text.utf8 {
      if position == 8 || position == 13 || position == 18 || position == 23 {
        guard byte == UInt8(ascii: "-") else { return nil }
      } else {
        guard let value = Hex.value(byte), digits < 32 else { return nil }
        if digits < 16 { bytes.0 = bytes.0 << 4 | UInt64(value) } else { bytes.1 = bytes.1 << 4 | UInt64(value) }
        digits += 1
      }
      position += 1
    }
    guard position == 36, digits == 32 else { return nil }
    self.init(high: bytes.0, low: bytes.1)
  }

  public static func < (a: JobID, b: JobID) -> Bool {
    a.high != b.high ? a.high < b.high : a.low < b.low
  }
}

extension JobID: CustomStringConvertible {
  public var description: String {
    String(unsafeUninitializedCapacity: 36) { out in
      var position = 0
      for digit in 0..<32 {
        if digit == 8 || digit == 12 || digit == 16 || digit == 20 {
          out[position] = UInt8(ascii: "-")
          position += 1
        }
        let half = digit < 16 ? high : low
        out[position] = Hex.digit(UInt8(truncatingIfNeeded: half >> UInt64(60 - (digit % 16) * 4)) & 0xF)
        position += 1
      }
      return position
    }
  }
}

extension JobID: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let id = JobID(text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not a job ID (a UUID)")
    }
    self = id
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

package enum Hex {
  /// A digit's value, letters of either case; nil for any other byte.
  package static func value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  package static func digit(_ value: UInt8) -> UInt8 {
    value < 10 ? value + UInt8(ascii: "0") : value - 10 + UInt8(ascii: "a")
  }
}
