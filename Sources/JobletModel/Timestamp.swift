#if canImport(Glibc)
  import Glibc
#endif

/// A moment in Unix time, in nanoseconds. It reads and prints RFC 3339 in UTC, the only form Joblet writes.
public struct Timestamp: Hashable, Comparable, Sendable {
  public var nanoseconds: Int64

  public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  /// The host's CLOCK_REALTIME (clock_gettime(2)).
  public static func now() -> Timestamp {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Timestamp(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
  }

  public static func < (a: Timestamp, b: Timestamp) -> Bool { a.nanoseconds < b.nanoseconds }

  /// The length of the printed form, `2026-11-21T20:15:55.123456789Z`, for years 0 to 9999.
  public static let textLength = 30

  /// Writes the 30 bytes of the printed form. Years outside 0 to 9999 are clamped to them.
  public func write(to out: UnsafeMutablePointer<UInt8>) {
    var (days, rest) = nanoseconds.quotientAndRemainder(dividingBy: 86_400_000_000_000)
    if rest < 0 {
      days -= 1
      rest += 86_400_000_000_000
    }
    days = min(max(days, -719_528), 2_932_896)  // 0000-01-01 to 9999-12-31
    let (year, month, day) = Timestamp.civil(fromDays: days)
    let nano = rest % 1_000_000_000
    rest /= 1_000_000_000
    func put(_ value: Int64, _ count: Int, at position: Int) {
      var value = value
      for index in stride(from: position + count - 1, through: position, by: -1) {
        out[index] = UInt8(ascii: "0") + UInt8(value % 10)
        value /= 10
      }
    }
    put(year, 4, at: 0)
    out[4] = UInt8(ascii: "-")
    put(month, 2, at: 5)
    out[7] = UInt8(ascii: "-")
    put(day, 2, at: 8)
    out[10] = UInt8(ascii: "T")
    put(rest / 3600, 2, at: 11)
    out[13] = UInt8(ascii: ":")
    put(rest / 60 % 60, 2, at: 14)
    out[16] = UInt8(ascii: ":")
    put(rest % 60, 2, at: 17)
    out[19] = UInt8(ascii: ".")
    put(nano, 9, at: 20)
    out[29] = UInt8(ascii: "Z")
  }

  /// Days since 1970-01-01 to a date of the proleptic Gregorian calendar (the era arithmetic of Hinnant's
  /// "chrono-compatible low-level date algorithms").
  static func civil(fromDays days: Int64) -> (year: Int64, month: Int64, day: Int64) {
    let shifted = days + 719_468
    let era = shifted.dividedFloor(146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
  }

  static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
    let shifted = month <= 2 ? year - 1 : year
    let era = shifted.dividedFloor(400)
    let yearOfEra = shifted - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
  }

  /// Reads RFC 3339 (`2026-11-21T20:15:55Z`, any fraction, `±hh:mm` offsets). Nil for anything else.
  public init?(rfc3339 text: some StringProtocol) {
    var scanner = DigitScanner(text.utf8)
    guard let year = scanner.number(4), scanner.skip("-"), let month = scanner.number(2), scanner.skip("-"),
      let day = scanner.number(2), scanner.skip("T") || scanner.skip("t") || scanner.skip(" "),
      let hour = scanner.number(2), scanner.skip(":"), let minute = scanner.number(2), scanner.skip(":"),
      let second = scanner.number(2), (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60,
      second <= 60
    else { return nil }
    let dayNumber = Timestamp.days(year: year, month: month, day: day)
    guard Timestamp.civil(fromDays: dayNumber) == (year, month, day) else { return nil }
    var nano: Int64 = 0
    if scanner.skip(".") {
      guard let fraction = scanner.fraction() else { return nil }
      nano = fraction
    }
    var offset: Int64 = 0
    if !(scanner.skip("Z") || scanner.skip("z")) {
      let sign: Int64 = scanner.skip("+") ? 1 : scanner.skip("-") ? -1 : 0
      guard sign != 0, let hours = scanner.number(2), scanner.skip(":"), let minutes = scanner.number(2), hours < 24,
        minutes < 60
      else { return nil }
      offset = sign * (hours * 3600 + minutes * 60)
    }
    guard scanner.isAtEnd else { return nil }
    var seconds = dayNumber * 86_400 + hour * 3600 + minute * 60 + second - offset
    if seconds < 0, nano > 0 {  // so that the first moment there is can be reached: no step goes below it
      seconds += 1
      nano -= 1_000_000_000
    }
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return nil }
    let (sum, carried) = scaled.addingReportingOverflow(nano)
    guard !carried else { return nil }
    nanoseconds = sum
  }
}

extension Timestamp: CustomStringConvertible {
  public var description: String {
    String(unsafeUninitializedCapacity: Timestamp.textLength) { out in
      guard let base = out.baseAddress else { return 0 }
      write(to: base)
      return Timestamp.textLength
    }
  }
}

extension Timestamp: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    guard let time = Timestamp(rfc3339: text) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not an RFC 3339 time")
    }
    self = time
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

extension Int64 {
  fileprivate func dividedFloor(_ divisor: Int64) -> Int64 {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? quotient - 1 : quotient
  }
}

/// Reads fixed-width decimal fields from bytes.
private struct DigitScanner {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes.prefix(64)) }

  var isAtEnd: Bool { position == bytes.count }

  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func digit() -> Int64? {
    guard position < bytes.count, bytes[position] >= UInt8(ascii: "0"), bytes[position] <= UInt8(ascii: "9") else {
      return nil
    }
    defer { position += 1 }
    return Int64(bytes[position] - UInt8(ascii: "0"))
  }

  mutating func number(_ count: Int) -> Int64? {
    var value: Int64 = 0
    for _ in 0..<count {
      guard let digit = digit() else { return nil }
      value = value * 10 + digit
    }
    return value
  }

  /// Digits after a decimal point, as nanoseconds; digits beyond the ninth are cut off.
  mutating func fraction() -> Int64? {
    var value: Int64 = 0
    var scale: Int64 = 100_000_000
    guard let first = digit() else { return nil }
    value = first * scale
    while let next = digit() {
      scale /= 10
      value += next * scale
    }
    return value
  }
}
