import FoundationEssentials
import Glibc
import JobletModel

/// Colours, for terminals alone: never into a file or a pipe, and never where `NO_COLOR` (no-color.org) says so.
package struct Style: Sendable, Hashable {
  package let isOn: Bool

  package init(isOn: Bool) { self.isOn = isOn }

  /// - Parameter isTerminal: whether what is written to is one.
  package init(isTerminal: Bool, environment: [String: String]) {
    isOn =
      isTerminal && environment["NO_COLOR", default: ""].isEmpty && environment["TERM", default: ""] != "dumb"
  }

  /// For what goes to stdout.
  static func stdout() -> Style {
    Style(isTerminal: isatty(STDOUT_FILENO) == 1, environment: ProcessInfo.processInfo.environment)
  }

  package enum Tone: String, Sendable {
    // SGR parameters of ECMA-48.
    case good = "32"
    case warning = "33"
    case bad = "31"
    case busy = "36"
    case strong = "1"
    case faint = "2"
  }

  package func paint(_ text: String, _ tone: Tone?) -> String {
    guard isOn, let tone, !text.isEmpty else { return text }
    return "\u{1B}[\(tone.rawValue)m\(text)\u{1B}[0m"
  }

  static func tone(of status: JobStatus) -> Tone? {
    switch status {
    case .completed: .good
    case .failed: .bad
    case .running, .initializing: .busy
    case .paused: .warning
    case .stopped, .canceled: .faint
    case .queued, .scheduled: nil
    }
  }

  /// How much of something is used: from 75 percent on a warning, from 90 bad.
  static func tone(ofPercent percent: Double) -> Tone? { percent >= 90 ? .bad : percent >= 75 ? .warning : nil }
}
