/// Lengths of time as people write them in the configuration and in requests: `100ms`, `30s`, `5m`, `24h`, `7d`.
public enum DurationText {
  /// What the form is, for error messages.
  public static let allowed = "a whole number and a unit: 100ms, 30s, 5m, 24h, 7d"

  /// A hundred years.
  static let longest = Duration.milliseconds(3_155_760_000_000)

  /// Reads a duration; a bare `0` is zero. Nil for anything else, and for what overflows.
  public static func parse(_ text: some StringProtocol) -> Duration? {
    if text == "0" { return .zero }
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int64(digits), !digits.isEmpty else { return nil }
    let milliseconds: Int64
    switch text.dropFirst(digits.count) {
    case "ms": milliseconds = 1
    case "s": milliseconds = 1000
    case "m": milliseconds = 60_000
    case "h": milliseconds = 3_600_000
    case "d": milliseconds = 86_400_000
    default: return nil
    }
    let (total, overflow) = count.multipliedReportingOverflow(by: milliseconds)
    guard !overflow, .milliseconds(total) <= longest else { return nil }
    return .milliseconds(total)
  }

  /// The shortest exact form of a duration in whole milliseconds.
  public static func print(_ duration: Duration) -> String {
    let milliseconds = duration.milliseconds
    if milliseconds == 0 { return "0s" }
    for (unit, size) in [("d", Int64(86_400_000)), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
    where milliseconds % size == 0 {
      return "\(milliseconds / size)\(unit)"
    }
    return "\(milliseconds)ms"
  }
}

extension Duration {
  /// Whole milliseconds, rounded down.
  public var milliseconds: Int64 {
    components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
  }

  /// Whole nanoseconds.
  public var nanoseconds: Int64 {
    components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
  }
}

/// Sizes as people write them: plain bytes, or `512KiB`, `1MB`, `10GB`. Powers of 1024 with an `i`, of 1000 without.
public enum ByteSizeText {
  /// What the form is, for error messages.
  public static let allowed = "bytes, or a whole number with KB, MB, GB, TB, KiB, MiB, GiB or TiB"

  /// Reads a size. Nil for anything else, and for what overflows.
  public static func parse(_ text: some StringProtocol) -> Int64? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int64(digits), !digits.isEmpty else { return nil }
    let unit: Int64
    switch text.dropFirst(digits.count) {
    case "", "B": unit = 1
    case "KB": unit = 1000
    case "MB": unit = 1_000_000
    case "GB": unit = 1_000_000_000
    case "TB": unit = 1_000_000_000_000
    case "KiB": unit = 1 << 10
    case "MiB": unit = 1 << 20
    case "GiB": unit = 1 << 30
    case "TiB": unit = 1 << 40
    default: return nil
    }
    let (total, overflow) = count.multipliedReportingOverflow(by: unit)
    return overflow ? nil : total
  }
}
