import JobletModel

/// Values as people read them.
package enum Words {
  /// `3`, `SIGKILL`, `timeout`; a dash for what is not known yet.
  static func exit(_ job: JobRecord) -> String {
    if job.reason == .timeout { return "timeout" }
    if job.reason == .oomKilled { return "oom" }
    if let code = job.exitCode { return "\(code)" }
    if let signal = job.signal { return Words.signal(signal) }
    return "-"
  }

  private static let signals = [
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
  ]

  /// signal(7)'s names on Linux.
  static func signal(_ number: Int) -> String { signals[number] ?? "signal \(number)" }

  /// `1 day`, `2 days`, `0 days`.
  package static func count(_ number: Int, _ thing: String) -> String { "\(number) \(thing)\(number == 1 ? "" : "s")" }

  static func age(_ since: Timestamp, now: Timestamp) -> String { span(now.nanoseconds &- since.nanoseconds) }

  /// A length of time in its largest fitting unit, two for more than a minute: `850ms`, `12s`, `3m20s`, `5h`, `4d`.
  package static func span(_ nanoseconds: Int64) -> String {
    let milliseconds = max(0, nanoseconds / 1_000_000)
    if milliseconds < 1000 { return "\(milliseconds)ms" }
    let seconds = milliseconds / 1000
    if seconds < 10 { return "\(seconds).\(milliseconds % 1000 / 100)s" }
    if seconds < 60 { return "\(seconds)s" }
    if seconds < 3600 { return "\(seconds / 60)m\(seconds % 60 == 0 ? "" : "\(seconds % 60)s")" }
    if seconds < 86_400 { return "\(seconds / 3600)h\(seconds / 60 % 60 == 0 ? "" : "\(seconds / 60 % 60)m")" }
    return "\(seconds / 86_400)d"
  }

  package static func size(_ bytes: Int64) -> String {
    var value = Double(bytes)
    for unit in ["B", "KiB", "MiB", "GiB"] {
      if value < 1024 {
        let tenths = Int64(value * 10)
        return unit == "B" || tenths % 10 == 0 ? "\(tenths / 10) \(unit)" : "\(tenths / 10).\(tenths % 10) \(unit)"
      }
      value /= 1024
    }
    return "\(Int64(value)) TiB"
  }

  /// With one digit behind the point, without one where that is 0: `12.5`, `3`. A number from outside, whatever it is.
  package static func decimal(_ value: Double) -> String {
    guard value.isFinite else { return "-" }
    let tenths = Int64(min(max((value * 10).rounded(), -1e15), 1e15))
    let text = "\(tenths < 0 ? "-" : "")\(abs(tenths) / 10)"
    return tenths % 10 == 0 ? text : text + ".\(abs(tenths) % 10)"
  }

  /// Control characters made harmless: a job's name or command must not steer the terminal of whoever lists it.
  package static func printable(_ text: String) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": out += "\\n"
      case "\t": out += "\\t"
      case _ where scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value):
        out += "\\u{\(String(scalar.value, radix: 16))}"
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}
