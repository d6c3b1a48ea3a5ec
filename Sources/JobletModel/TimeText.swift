/// Moments as people write them in requests: `2026-11-22T01:00:00Z`, `1795309200.5`, `1h` (ago), `now`.
public enum TimeText {
  /// What the form is, for error messages.
  public static let allowed = "an RFC 3339 time, Unix seconds, how long ago (10m, 1h, 7d), or now"

  /// Reads a moment between the years 1677 and 2262. Nil for anything else.
  ///
  /// A bare number is Unix seconds, with a fraction if need be (digits beyond the ninth are cut off); a number with a unit
  /// is that long before `now`.
  public static func parse(_ text: some StringProtocol, now: Timestamp = .now()) -> Timestamp? {
    guard text.utf8.count <= 64 else { return nil }
    if text == "now" { return now }
    if let time = Timestamp(rfc3339: text) { return time }
    if let seconds = unixSeconds(text) { return seconds }
    guard let ago = DurationText.parse(text) else { return nil }
    let (nanoseconds, overflow) = now.nanoseconds.subtractingReportingOverflow(ago.nanoseconds)
    return overflow ? nil : Timestamp(nanoseconds: nanoseconds)
  }

  /// The text that names now the moment that `text` named so long ago, for a clock that is somebody else's: `1h` five minutes
  /// later is `65m`. What names a moment by itself, or none, stays as it is.
  public static func sameMoment(_ text: String, after age: Duration) -> String {
    guard age >= .milliseconds(1) else { return text }
    // A number alone is a time of its own.
    let ago = text == "now" ? .zero : text.utf8.allSatisfy(isDigit) ? nil : DurationText.parse(text)
    guard let ago else { return text }
    return DurationText.print(min(ago + age, DurationText.longest))
  }

  private static func unixSeconds(_ text: some StringProtocol) -> Timestamp? {
    let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
    guard let whole = parts.first, !whole.isEmpty, whole.utf8.allSatisfy(isDigit), let seconds = Int64(whole) else {
      return nil
    }
    var nanoseconds: Int64 = 0
    if parts.count == 2 {
      let fraction = parts[1]
      guard !fraction.isEmpty, fraction.utf8.allSatisfy(isDigit) else { return nil }
      var scale: Int64 = 100_000_000
      for digit in fraction.utf8.prefix(9) {
        nanoseconds += Int64(digit - UInt8(ascii: "0")) * scale
        scale /= 10
      }
    }
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    guard !overflow else { return nil }
    let (sum, carried) = scaled.addingReportingOverflow(nanoseconds)
    return carried ? nil : Timestamp(nanoseconds: sum)
  }

  private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
}
